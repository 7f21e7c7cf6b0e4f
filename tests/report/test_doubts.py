"""What the pages say of controls, power and domains."""

import io
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import RenderableType

from headprobe.commands.show import rule_changes, show_head, unearned_roles
from headprobe.report.head import draw_domains, draw_head
from headprobe.report.layout import console
from headprobe.report.lists import CHANGES_SHOWN, draw_changes
from headprobe.report.summary import draw_controls, draw_power, draw_summary
from headprobe.results.views import Change, head_values, run_values
from headprobe.runs.folder import Run
from headprobe.runs.manifest import ControlNote
from headprobe.runs.tables import Row
from tests.helpers.synthetic import HOSTILE, write_run

NOTE = ControlNote("twin", 0, "ab", 0, 0, {}, None)


def drawn(parts: Iterable[RenderableType], width: int = 80) -> str:
    stream = io.StringIO()
    shown = console(stream, width)
    for part in parts:
        shown.print(part)
    return stream.getvalue()


def rows(header: str, *lines: str) -> list[Row]:
    names = header.split(",")
    return [Row(dict(zip(names, line.split(","), strict=True))) for line in lines]


GAINS = rows(
    "control,family,relation,looks_to,n,name,gain,gain_low",
    "twin,syntax,obj,head,80,L0H1,0.031,-0.02",
    "twin,syntax,det,dependent,80,L0H2,-0.01,-0.04",
    "twin,syntax,amod,head,80,L0H2,0.2,-0.5",
    "twin,syntax,cop,head,2,,,",
    "shuffled,syntax,obj,head,80,L1H1,0.05,-0.01",
)


def test_a_control_shows_the_highest_lower_ends_of_gain() -> None:
    lines = drawn(draw_controls([NOTE], GAINS, 80)).splitlines()
    assert lines[2:] == [
        "random twin  0 roles",
        "             object → its verb (obj) -.02, noun → its determiner (det) -.04,",
        "             adjective → its noun (amod) -.50",
    ]
    assert drawn(draw_controls([], [], 80)) == ""


def test_a_control_omits_intervals_of_too_few_folds() -> None:
    impossible = rows(
        "control,family,relation,looks_to,n,name,gain,gain_low",
        "twin,syntax,obj,head,80,L0H1,0.3,-1.32",
    )
    assert "1.32" not in drawn(draw_controls([NOTE], impossible, 80))


def test_a_control_with_roles_names_them_and_the_run_it_was_reused_from() -> None:
    note = replace(
        NOTE, named=1, redundant=2, roles={"redundant": 2, "syntax": 1}, taken_from=HOSTILE
    )
    shown = drawn(draw_controls([note], [], 400), 400)
    assert "random twin  1 role (2 redundant, 1 syntax)   reused from =cmd" in shown
    assert "\x1b" not in shown and "\u202e" not in shown


POWER = rows(
    "family,relation,looks_to,n,forms,detectable,can_say,why",
    "syntax,obj,head,900,99,0.17,true,",
    "syntax,det,head,800,14,0.31,true,",
    "syntax,cop,head,12,3,,false,too few instances",
    "syntax,amod,head,31,9,,false,too few instances",
    "syntax,clf,head,0,0,,false,too few instances",
    "user,r,target,60,2,0.11,false,too few target forms",
    "syntax,obl,head,90,50,1.17,true,more instances are needed",
    "syntax,flat,head,90,50,0.2,true,the baseline leaves too little to gain",
    "punctuation,comma,mark,9000,1,0.2,false,too few target forms",
    "punctuation,any,mark,9000,12,0.12,true,",
)


def test_power_lists_relations_with_too_little_data_and_detectable_gains() -> None:
    page = drawn(draw_power(POWER, 80))
    assert page.splitlines()[1:] == [
        "statistical power   relation by relation: power.csv",
        "too little data           2 relations: too few instances",
        "                          adjective → its noun (amod): n 31,",
        "                          copula → its predicate (cop): n 12",
        "                          1 relation: too few target forms",
        "                          r → target: 2 forms",
        "                          1 relation: more instances are needed",
        "                          oblique noun → its verb (obl): n 90",
        "                          1 relation: the baseline leaves too little to gain",
        "                          later name → its first name (flat): n 90",
        "no role possible          comma mark: 1 character",
        "                          too few different characters to tell a head that looks",
        "                          for the mark from one that looks for a single token;",
        "                          such heads count under any mark",
        "smallest detectable gain  .31 determiner → its noun (det),",
        "                          .17 object → its verb (obj), .12 any mark",
    ]
    assert "1.17" not in page
    many = rows(
        "family,relation,looks_to,n,detectable,can_say,why",
        *(f"user,r{i},target,60,0.{i},true," for i in range(11, 18)),
    )
    assert "at most .13 in the 3 others" in drawn(draw_power(many, 200), 200)
    assert drawn(draw_power(rows("n,can_say", "0,false"), 80)) == ""


DOMAINS = rows(
    "family,relation,looks_to,domain,n,top1,baseline_top1,gain",
    "syntax,obj,head,news,80,0.9,0.3,0.6",
    "syntax,obj,head,story,70,0.8,0.3,0.5",
    "syntax,det,head,news,80,0.7,0.3,0.4",
    "syntax,det,head,story,70,0.6,0.3,0.3",
    "syntax,cop,head,news,70,0.5,0.3,0.2",
)


def asked(*earned: str) -> list[Row]:
    return rows(
        "family,relation,looks_to,role",
        *(f"syntax,{name},head,{'syntax' * (name in earned)}" for name in ("obj", "det", "cop")),
    )


def test_domains_are_shown_for_earned_relations_or_else_the_best_one() -> None:
    head = rows("best_relation,best_looks_to", "det,head")[0]
    shown = drawn(draw_domains(head, asked("obj", "cop"), DOMAINS))
    assert "  object → its verb (obj)  news    80   .90       .30  +.60" in shown
    assert "                           story   70" in shown
    assert "det" not in shown
    assert "cop" not in shown  # only one domain: nothing to compare
    assert "(det)" in drawn(draw_domains(head, asked(), DOMAINS))
    assert drawn(draw_domains(head, asked("cop"), DOMAINS)) == ""
    assert drawn(draw_domains(head, asked("obj"), [])) == ""


def test_changed_heads_are_counted_and_the_rest_is_in_heads_csv() -> None:
    stream = io.StringIO()
    many = [Change(f"L0H{i}", "none", HOSTILE, f"because {i}") for i in range(CHANGES_SHOWN + 2)]
    draw_changes(many, Path("run"), console(stream, 80))
    assert f"{CHANGES_SHOWN + 2} heads changed their role" in stream.getvalue()
    assert "and 2 more: role and reason in run/heads.csv" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    stream = io.StringIO()
    draw_changes([], Path("run"), console(stream, 80))
    assert "no head changed its role" in stream.getvalue()


def test_optional_tables_appear_on_the_page_if_the_run_has_them(tmp_path: Path) -> None:
    """And of one that has none, which is older."""
    run = write_run(tmp_path / "run")
    for name in ("power.csv", "domains.csv"):
        (run.path / name).unlink()
    before = io.StringIO()
    draw_summary(run, console(before, 80))
    assert "statistical power" not in before.getvalue()
    (run.path / "controls.csv").write_text(
        "control,family,relation,looks_to,n,name,gain,gain_low\ntwin,syntax,obj,head,80,L0H1,0.031,-0.02\n"
    )
    (run.path / "power.csv").write_text(
        "family,relation,looks_to,n,detectable,can_say,why\nsyntax,obj,head,900,0.17,true,\n"
    )
    (run.path / "domains.csv").write_text(
        "layer,head,name,family,relation,looks_to,domain,n\n"
        "0,1,L0H1,syntax,obj,head,news,80\n0,2,L0H2,syntax,obj,head,news,80\n"
    )
    run = replace(Run.load(run.path), manifest=replace(run.manifest, controls=(NOTE,)))
    after = io.StringIO()
    draw_summary(run, console(after, 80))
    assert "object → its verb (obj) -.02" in after.getvalue()
    assert "statistical power" in after.getvalue()
    values = run_values(run)
    assert values["control_gains"][0]["gain"] == 0.031
    assert values["manifest"]["controls"][0]["named"] == 0
    view = show_head(run, 0, 1)
    assert len(view.domains) == len(head_values(view)["domains"]) == 1


def test_the_page_names_changed_rules(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for text, said in [
        ("margin: 0.10\n", None),
        ("margin: 0.2\nroles: {negation: {family: user}}\n", "margin: 0.2, roles.negation"),
    ]:
        (run.path / "rules.yaml").write_text(text)
        page = io.StringIO()
        draw_summary(run, console(page, 80), rule_changes(run))
        (line,) = [line for line in page.getvalue().splitlines() if line.startswith("rules  ")] or [
            None
        ]
        assert line == (said and f"rules   packaged, except {said}")


def test_a_role_of_the_user_that_no_head_earned_is_in_the_legend(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run.path / "rules.yaml").write_text(
        "roles: {echo: {family: user, relation: echo}, silent: {family: user, relation: none}}\n"
    )
    (run.path / "power.csv").write_text(
        "family,relation,looks_to,n,detectable,can_say,why,best_head,best_gain\n"
        "user,echo,target,64,0.2,true,,L0H1,0.03\nuser,other,target,70,0.2,true,,L0H2,0.5\n"
    )
    page = io.StringIO()
    draw_summary(run, console(page, 80), unearned=unearned_roles(run))
    assert "\necho 0: n 64, best head L0H1 +.03\n" in page.getvalue()
    assert "\nsilent 0: no instances in these probes\n" in page.getvalue()
    assert "\nsyntax 0" not in page.getvalue()


def test_heads_with_roles_that_need_no_relation_are_listed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    page = io.StringIO()
    draw_summary(run, console(page, 80))
    listed = {
        role: [head.text("name") for head in run.rows("heads.csv") if head.text("role") == role]
        for role in ("positional", "duplicate-token", "induction", "unnamed")
    }
    assert "probe-independent roles" not in page.getvalue() or any(listed.values())
    for role, names in listed.items():
        found = re.search(rf"^{role} +(L.*)$", page.getvalue(), re.MULTILINE)
        assert set(found[1].split(", ") if found else []) == set(names)


def test_the_category_control_is_shown_if_it_was_computed(run: Run) -> None:
    view = show_head(run, 0, 1)
    plain, controlled = (io.StringIO(), io.StringIO())
    older = [Row({**row.cells, "category_top1": ""}) for row in view.relations]
    draw_head(replace(view, relations=tuple(older)), console(plain, 80))
    told = [
        Row({**row.cells, "category_top1": "0.43", "beats": "category" if place else "distance"})
        for place, row in enumerate(view.relations)
    ]
    draw_head(replace(view, relations=tuple(told)), console(controlled, 80))
    assert "category" not in plain.getvalue()
    assert controlled.getvalue().count("also beats category .43") == len(told) - 1
    assert max(map(len, controlled.getvalue().splitlines())) <= 80
