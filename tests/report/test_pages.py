"""What people see: the right things, in the width there is, nothing that bites."""

import io
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from headprobe.commands.heads import list_heads
from headprobe.commands.show import show_head
from headprobe.report.head import draw_head
from headprobe.report.heads import draw_heads
from headprobe.report.layout import console
from headprobe.report.lists import draw_plan, draw_probe_sets, draw_runs, draw_samples
from headprobe.report.summary import draw_summary
from headprobe.results.views import Estimate, ProbeSet, Sample, SampleSentence
from headprobe.runs.folder import Run
from headprobe.runs.tables import Row
from tests.helpers.synthetic import HOSTILE, PLAN, Size, write_run

Draw = Callable[[Run, Console], None]


def summary(run: Run, on: Console) -> None:
    draw_summary(run, on)


def every_head(run: Run, on: Console) -> None:
    for layer in range(run.manifest.model.n_layers):
        for head in range(run.manifest.model.n_heads):
            draw_head(show_head(run, layer, head), on)


def runs(run: Run, on: Console) -> None:
    draw_runs([run], on)


def list_of_heads(run: Run, on: Console) -> None:
    draw_heads(list_heads(run), on)


PAGES = (summary, every_head, runs)


def printed(draw: Draw, run: Run, width: int = 80) -> str:
    stream = io.StringIO()
    draw(run, console(stream, width))
    return stream.getvalue()


@pytest.mark.parametrize("draw", (*PAGES, list_of_heads))
@pytest.mark.parametrize("width", [80, 100, 160])
def test_pages_fit_without_control_codes_and_trailing_blanks(
    run: Run, hostile_run: Run, draw: Draw, width: int
) -> None:
    for shown in (run, hostile_run):
        text = printed(draw, shown, width)
        # commands that name the run are copied as a whole
        lines = [line for line in text.splitlines() if str(shown.path) not in line]
        assert all(cell_len(line) <= width for line in lines)
        assert not re.search(r" $", text, re.MULTILINE)
        found = {unicodedata.category(character) for character in text.replace("\n", "")}
        assert not found & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("draw", PAGES)
def test_hostile_text_is_escaped(hostile_run: Run, draw: Draw) -> None:
    shown = printed(draw, hostile_run, 400)
    assert "] \\x1b[31m\\u202eevil" in shown
    assert "[bold" in shown
    assert "\U0001f604" not in shown


def test_only_terminals_get_colour_and_hostile_text_adds_none(hostile_run: Run) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    shown = Console(
        file=stream,
        width=100,
        force_terminal=True,
        color_system="standard",
        markup=False,
        emoji=False,
    )
    draw_summary(hostile_run, shown)
    text = stream.getvalue()
    assert "\x1b[" in text
    # the colour code that the hostile name brings is spelled out, wherever it was printed
    assert "\\x1b[31m" in text
    assert "\x1b[31m\\u202e" not in text


def test_the_summary_counts_heads_by_role(run: Run) -> None:
    text = " ".join(printed(summary, run).split())  # long paths fold
    for expected in ("models/tiny", "4 layers of 8 heads", "4 KV groups", "1,341 sentences"):
        assert expected in text
    for expected in (
        "2.41 bits per character",
        "sinks token",
        "512 MiB",
        "131",
        "headprobe show-head L",
        "-r ",
    ):
        assert expected in text
    idle = sum(run.heads["idle"])
    assert re.search(rf"z idle {idle}\b", text)


def test_best_heads_are_chosen_on_one_half_with_gains_of_the_other(run: Run) -> None:
    text = printed(summary, run, 120)
    earned = run.relations[run.relations["role"] == "syntax"]
    for _, rows in earned.groupby("relation"):
        best = rows.loc[rows["gain_a"].idxmax()]
        line = next(
            line for line in text.splitlines() if best["name"] in line and best["relation"] in line
        )
        assert line.endswith(f"{best['gain_b']:+.2f}".replace("0.", "."))


def test_without_roles_the_summary_shows_the_closest_heads(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_roles(self: Run, table: str, head: tuple[int, int] | None = None) -> list[Row]:
        return [Row({**row.cells, "role": ""}) for row in rows(self, table, head)]

    rows = Run.rows
    monkeypatch.setattr(Run, "rows", without_roles)
    text = printed(summary, run)
    assert "no head earned a role by what it looks for" in text
    assert "headprobe show-head L" in text


def test_wide_and_tall_models_print_quickly(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = write_run(tmp_path_factory.mktemp("runs") / "wide", Size(48, 64, 8))
    text = printed(summary, made)
    lines = [line for line in text.splitlines() if str(made.path) not in line]
    assert all(len(line) <= 80 for line in lines)
    assert HOSTILE not in text


def test_a_plan_lists_model_probes_and_relations() -> None:
    plan = PLAN
    stream = io.StringIO()
    draw_plan(plan, console(stream, 80))
    text = stream.getvalue()
    assert re.search(r"1,000  \[red\]own\[/\] → \\x1b\[31m +109  obj → head", text)
    assert "dry run" in text.splitlines()[-1]
    assert "controls  random twin, shuffled links\n" in text
    assert "estimate  none: no small model of this shape could be timed here\n" in text
    estimate = Estimate({"read": 1.234, "measure": 312.4, "judge": 8.55}, 1312.6)
    stream = io.StringIO()
    draw_plan(replace(plan, estimate=estimate), console(stream, 80))
    assert (
        "estimate  about 5 min 20 s: read 1.2 s, measure 5 min 10 s, judge 8.6 s\n"
        "          about 1,300 MiB of memory\n"
    ) in stream.getvalue()
    stream = io.StringIO()
    draw_plan(replace(plan, relations=()), console(stream, 80))
    assert "no annotated relations" in stream.getvalue()


def test_probe_sets_and_samples_are_printed() -> None:
    stream = io.StringIO()
    draw_probe_sets(
        [ProbeSet("story", ("fiction", HOSTILE), 3, 1200, 15000, 40)], console(stream, 80)
    )
    assert re.search(r"story +3 +1,200 +15,000 +40", stream.getvalue())
    sample = Sample(
        id="story:1",
        domain="fiction",
        sentences=(SampleSentence("The \x1b[31mcat sat.", (("nsubj", "cat", "sat"),)),),
        chains=(("The cat", "it"),),
        declared=(("sees", "cat", ("The",)),),
    )
    stream = io.StringIO()
    draw_samples([sample], console(stream, 80))
    assert stream.getvalue() == (
        "story:1   fiction\n  The \\x1b[31mcat sat.\n    nsubj(cat→sat)\n"
        "  same: The cat = it\n  sees: cat → The\n\n"
    )
