"""Planted heads through the whole pipeline: every role is found, nothing else is, and the self-test
would notice if it were not so."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from random import Random

import pytest

from headprobe.cli import main as command_line
from headprobe.commands import selftest as workflow
from headprobe.commands.scan import scan
from headprobe.commands.selftest import PLANTED, RANDOM, SHUFFLED, selftest
from headprobe.config import ScanConfig
from headprobe.planted.checkpoint import draw_seats, planted_cases
from headprobe.planted.words import read_lexicon
from headprobe.probes.catalog import find_probe_files
from headprobe.report.layout import console
from headprobe.report.lists import draw_selftest
from headprobe.results.views import Fault, SelfTest
from headprobe.runs.folder import Run
from headprobe.runs.manifest import ControlNote
from headprobe.vocabulary import head_name
from tests.helpers.progress import Remembering

pytestmark = pytest.mark.xdist_group("selftest")  # one self-test, of half a minute, serves all


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("selftest") / "kept"


@pytest.fixture(scope="module")
def found(kept: Path) -> SelfTest:
    return selftest(Remembering(), quick=True, seed=11, keep=kept)


def test_selftest_finds_exactly_the_planted_roles(found: SelfTest) -> None:
    assert [fault for case in found.cases for fault in case.faults] == []
    assert found.right
    planted, shuffled, random = found.totals
    assert (planted.kind, shuffled.kind, random.kind) == (PLANTED, SHUFFLED, RANDOM)
    assert planted.planted == planted.found + planted.missed > 30
    assert planted.heads == sum(c.shape.layers * c.shape.heads for c in planted_cases(11, True))
    assert shuffled.heads == planted.heads
    assert shuffled.falsely_named == random.falsely_named == 0 < random.heads


def test_sinks_earn_no_coreference_role(found: SelfTest, kept: Path, tmp_path: Path) -> None:
    """Attention meant for the start spills over the first words, where the antecedent stands."""
    names = [
        word.form
        for word in read_lexicon(find_probe_files(()))
        if word.upos == "PROPN" and word.agrees & {"he", "she"} and word.form.isalpha()
    ][:40]
    verbs = ("slept", "waited", "laughed", "smiled")
    items = "".join(
        f"- text: {name} {verb}. The dog looked at the garden. She ran.\n  link: She -> {name}\n"
        for name in names
        for verb in verbs
    )
    probes = tmp_path / "heroes.yaml"
    probes.write_text(f"name: heroes\nrelation: pronoun\nitems:\n{items}", "utf-8")
    for number, case in enumerate(planted_cases(11, True)):
        out = tmp_path / f"run-{number}"
        model = str(kept / f"{number:02}" / "model")
        run = scan(ScanConfig(model, (str(probes),), out, device="cpu"), Remembering())
        sinks = [
            head_name(*seat)
            for seat, plan in draw_seats(case.shape, Random(case.seed)).items()  # noqa: S311
            if plan.name.startswith("sink")
        ]
        told = run.heads.set_index("name").loc[sinks]
        assert set(told["roles"].fillna("none")) <= {"redundant", "none"}
        asked = run.relations.set_index(["name", "relation"])
        top1 = asked.loc[[(name, "pronoun-strict") for name in sinks], "top1"]
        assert top1.max() > 0.9  # what a first-word taste scores here, and any fixed place as well
        assert (asked["gain_low"].dropna() <= 0.1).all()


def test_selftest_keeps_runs_and_checkpoints_with_out(found: SelfTest, kept: Path) -> None:
    scanned = [case for case in found.cases if case.kind != SHUFFLED]
    assert len(scanned) == 5
    for number, case in enumerate(scanned):
        run = Run.load(kept / f"{number:02}" / "run")
        assert len(run.heads) == case.heads
        assert run.relations["n"].max() > 1000


@pytest.mark.parametrize("wrong", ["swapped", "claimed", "denied"])
def test_selftest_reports_every_fault(
    wrong: str, found: SelfTest, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same runs against another truth: heads swapped, a role claimed that none has."""
    case = planted_cases(11, True)[0]
    truth = draw_seats(case.shape, Random(case.seed))  # noqa: S311
    repeated = {plan.repeats for plan in truth.values()}
    name = next(name for name in ("verb", "determiner") if name not in repeated)
    at = {plan.name: seat for seat, plan in truth.items()}
    seeking, idle = at[name], at["sink"]
    swapped = {seeking: truth[idle], idle: truth[seeking]}
    claimed = {seeking: replace(truth[seeking], role="coreference")}
    denied = {seeking: replace(truth[seeking], role=None)}
    lie = truth | {"swapped": swapped, "claimed": claimed, "denied": denied}[wrong]
    monkeypatch.setattr(workflow, "plant", lambda *_: lie)
    monkeypatch.setattr(workflow, "scan", lambda request, _: Run.load(request.out))
    result, _ = workflow._scan_case(case, [], kept / "00")
    said = {(fault.planted, fault.role, fault.named) for fault in result.faults}
    expected = {
        "swapped": {
            (name, "syntax", False),
            (name, "redundant", True),
            ("sink", "syntax", True),
            ("sink", "redundant", False),
        },
        "claimed": {(name, "syntax", True), (name, "coreference", False)},
        "denied": {(name, "syntax", True)},
    }[wrong]
    # A seeker of verbs may hold word-class as well; the plan of a sink head may not.
    assert said - {("sink", "word-class", True)} == expected
    assert result.missed == sum(not fault.named for fault in result.faults)
    assert result.falsely_named == len(result.faults) - result.missed
    assert result.planted == result.found + result.missed


@pytest.mark.parametrize("right", [True, False])
def test_selftest_exits_with_1_on_faults(
    right: bool,
    found: SelfTest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault = Fault("L0H0", "verb", "syntax", False, "a \x1b[31mreason")
    cases = [replace(case, faults=() if right else (fault,)) for case in found.cases]
    result = replace(found, cases=tuple(cases), right=right)
    monkeypatch.setattr(workflow, "selftest", lambda *_, **__: result)
    assert command_line.run(["selftest", "--quick", "--json"]) == (0 if right else 1)
    assert json.loads(capsys.readouterr().out)["right"] is right
    assert command_line.run(["selftest", "--quiet"]) == (0 if right else 1)
    assert (capsys.readouterr().out == "") is right
    printed = StringIO()
    draw_selftest(result, console(printed, width=120))
    text = printed.getvalue()
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert ("missed: syntax" in text) is ("bug in headprobe" in text) is not right
    for case in (found.cases[0], *found.totals):
        assert case.case in text


def test_selftest_refuses_an_existing_folder(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for taken in (tmp_path, tmp_path / "mine"):
        assert command_line.run(["selftest", "--quick", "-o", str(taken)]) == 2
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_role_under_shuffled_links_is_a_fault() -> None:
    """What needs no links is none."""
    roles = {"syntax": 2, "redundant": 3, "positional": 4, "none": 5}
    note = ControlNote("shuffled", 0, "", named=6, redundant=3, roles=roles, taken_from=None)
    assert [fault.role for fault in workflow._named_when_shuffled([note])] == ["syntax"]
