"""Pages of runs that found little, and names that people copy."""

import io
from dataclasses import replace

import pytest

from headprobe.report.best_heads import best_heads
from headprobe.report.head import draw_text
from headprobe.report.layout import console
from headprobe.report.lists import draw_plan, draw_runs
from headprobe.report.summary import draw_summary
from headprobe.results.views import TextView
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.tables import Row
from tests.helpers.synthetic import PLAN


def row(name: str, relation: str, **cells: str) -> Row:
    return Row({"name": name, "family": "syntax", "relation": relation, "q": "1", **cells})


def test_without_roles_best_heads_are_the_closest_ones() -> None:
    lucky = row("L0H0", "lucky", gain_a=".6", gain="-.5", gain_low="-.9")
    near = row("L0H1", "near", gain_a=".1", gain=".2", gain_low=".05")
    unsure = row("L0H2", "unsure", gain_a=".9", gain=".9", gain_low="")
    found = best_heads([lucky, unsure, near])
    assert [each.text("name") for _, each in found] == ["L0H1", "L0H0", "L0H2"]


def test_the_summary_explains_why_no_relation_was_judged(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_few(self: Run, table: str, head: tuple[int, int] | None = None) -> list[Row]:
        if table == run_folder.HEADS:
            few = {"role": "none", "reason": "no relation has 50 instances"}
            return [Row({**each.cells, **few}) for each in rows(self, table, head)]
        return [Row({**each.cells, "role": "", "q": ""}) for each in rows(self, table, head)]

    rows = Run.rows
    monkeypatch.setattr(Run, "rows", too_few)
    stream = io.StringIO()
    draw_summary(run, console(stream, 80))
    assert "no relation could be judged   no relation has 50 instances\n" in stream.getvalue()
    assert "next  headprobe docs probes\n" in stream.getvalue()


def test_the_grid_key_explains_second_letters_if_there_are_any(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_roles(roles: str) -> str:
        def told(self: Run, table: str, head: tuple[int, int] | None = None) -> list[Row]:
            return [Row({**each.cells, "roles": roles}) for each in rows(self, table, head)]

        monkeypatch.setattr(Run, "rows", told)
        stream = io.StringIO()
        draw_summary(run, console(stream, 80))
        return stream.getvalue()

    rows = Run.rows
    key = (
        "rows: layers; columns: heads; spaces separate KV groups;\n"
        "capital letter: strongest role; small letter: second role of the same head\n"
    )
    assert key in of_roles("syntax;punctuation")
    assert "small letter" not in of_roles("")


def test_run_names_are_not_wrapped_in_the_list(run: Run) -> None:
    name = "Llama-3.1-8B-20261122-163122-a-long-one"
    stream = io.StringIO()
    draw_runs([replace(run, path=run.path.with_name(name))], console(stream, 80))
    assert name in stream.getvalue()


def test_a_plan_omits_relations_without_instances() -> None:
    plan = replace(PLAN, relations=(("obj → head", 3), ("stop → mark", 0)))
    stream = io.StringIO()
    draw_plan(plan, console(stream, 80))
    assert "8 heads, 4 KV groups; float32" in stream.getvalue()
    assert "3  obj → head" in stream.getvalue()
    assert "stop" not in stream.getvalue()


def test_repeated_words_are_numbered() -> None:
    view = TextView("L0H0", ("the", "the"), ((1.0,), (0.7, 0.3)), (0.0, 0.0), (True, True))
    stream = io.StringIO()
    draw_text(view, console(stream, 80))
    assert stream.getvalue().splitlines()[-1].split() == ["the#2", ".00", ".30", "the", ".70"]
