"""What people see: the right things, in the width there is, nothing that bites."""

import io
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from headprobe.report.console import console
from headprobe.report.grid import legend, role_grid
from headprobe.report.head_view import bar, draw_head
from headprobe.report.palette import kind_of
from headprobe.report.plan_view import Plan, draw_plan
from headprobe.report.probes_view import (
    ProbeSet,
    Sample,
    SampleSentence,
    draw_probe_sets,
    draw_samples,
)
from headprobe.report.runs_view import draw_runs
from headprobe.report.summary import draw_summary
from headprobe.report.text_view import TextView, draw_text
from headprobe.store import run_folder
from headprobe.store.run_folder import Run
from headprobe.store.tables import Row
from headprobe.workflows.show_head import show_head
from tests.report.synthetic import HOSTILE, Size, manifest, write_run

Draw = Callable[[Run, Console], None]


def summary(run: Run, on: Console) -> None:
    draw_summary(run, on)


def every_head(run: Run, on: Console) -> None:
    for layer in range(run.manifest.model.n_layers):
        for head in range(run.manifest.model.n_heads):
            draw_head(show_head(run, layer, head), on)


def runs(run: Run, on: Console) -> None:
    draw_runs([run], on)


PAGES = (summary, every_head, runs)

PLAN = Plan(
    model=HOSTILE,
    architecture="LlamaForCausalLM",
    n_layers=5,
    n_heads=8,
    n_kv_heads=(4,) * 5,
    device="cpu",
    dtype="float32",
    target=run_folder.RUNS / "tiny",
    probes=manifest().probes,
    passages=3,
    tokens=900,
    skipped=2,
    controls=("random twin", "shuffled links"),
    relations=(("obj → head", 109), ("[red]own[/] → \x1b[31m", 1_000)),
)


def printed(draw: Draw, run: Run, width: int = 80) -> str:
    stream = io.StringIO()
    draw(run, console(stream, width))
    return stream.getvalue()


@pytest.mark.parametrize("draw", PAGES)
@pytest.mark.parametrize("width", [80, 100, 160])
def test_pages_fit_without_control_codes_and_trailing_blanks(
    run: Run, hostile_run: Run, draw: Draw, width: int
) -> None:
    for shown in (run, hostile_run):
        text = printed(draw, shown, width)
        assert all(cell_len(line) <= width for line in text.splitlines())
        assert not re.search(r" $", text, re.MULTILINE)
        found = {unicodedata.category(character) for character in text.replace("\n", "")}
        assert not found & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("draw", PAGES)
def test_hostile_text_is_shown_as_it_was_written(hostile_run: Run, draw: Draw) -> None:
    shown = printed(draw, hostile_run, 400)
    assert "] \\x1b[31m\\u202eevil" in shown
    assert "[bold" in shown
    assert "\U0001f604" not in shown


def test_colour_stays_on_terminals_and_hostile_text_cannot_add_any(hostile_run: Run) -> None:
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


def test_the_summary_says_what_was_found(run: Run) -> None:
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


def test_best_heads_are_chosen_on_one_half_and_shown_on_the_other(run: Run) -> None:
    text = printed(summary, run, 120)
    earned = run.relations[run.relations["role"] == "syntax"]
    for _, rows in earned.groupby("relation"):
        best = rows.loc[rows["gain_a"].idxmax()]
        line = next(
            line for line in text.splitlines() if best["name"] in line and best["relation"] in line
        )
        assert line.endswith(f"{best['gain_b']:+.2f}".replace("0.", "."))


def test_no_role_at_all_is_a_normal_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_roles(self: Run, table: str, head: tuple[int, int] | None = None) -> list[Row]:
        return [Row({**row.cells, "role": ""}) for row in rows(self, table, head)]

    rows = Run.rows
    monkeypatch.setattr(Run, "rows", without_roles)
    text = printed(summary, run)
    assert "no head earned a role by what it looks for" in text
    assert "headprobe show-head L" in text


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "n_kv_heads"),
    [(1, 1, 1), (5, 8, 4), (6, 6, 6), (24, 32, 32), (32, 32, 8), (80, 64, 8), (60, 128, 16)],
)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_grid_shows_every_head_once(
    n_layers: int, n_heads: int, n_kv_heads: int, width: int
) -> None:
    heads = [
        Row({"layer": str(layer), "head": str(head), "role": role, "idle": "false"})
        for layer in range(n_layers)
        for head, role in zip(
            range(n_heads), ("syntax", "coreference", "own") * n_heads, strict=False
        )
    ]
    lines = [line.plain for line in role_grid(heads, n_heads // n_kv_heads, width)]
    assert all(len(line) <= width for line in lines)
    cells = "".join(lines)
    assert sum(cells.count(letter) for letter in "SCW") == n_layers * n_heads
    keys = " ".join(line.plain for line in legend(heads, width))
    assert f"S syntax {sum(head.text('role') == 'syntax' for head in heads):,}" in keys


def test_layers_without_any_role_share_a_line_in_tall_models() -> None:
    heads = [
        Row({"layer": str(layer), "head": "0", "role": "syntax" if layer == 9 else "none"})
        for layer in range(80)
    ]
    lines = [line.plain for line in role_grid(heads, 1, 80)]
    assert any("0–8 no role" in line for line in lines)
    assert any("10–79 no role" in line for line in lines)
    assert len(lines) < 10


def test_redundant_heads_are_told_apart() -> None:
    assert kind_of(Row({"role": "redundant", "idle": "true"})) == "idle"
    assert kind_of(Row({"role": "redundant", "idle": "false"})) == "repeater"


def test_examples_are_true_to_the_instances(run: Run) -> None:
    lines = (run.path / run_folder.EXAMPLES).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert any(row["hit"] for row in rows)
    assert any(not row["hit"] for row in rows)
    for row in rows:
        attended = [place for place, _ in row["attended"]]
        weights = [weight for _, weight in row["attended"]]
        assert weights == sorted(weights, reverse=True)
        assert row["query"] not in attended
        assert all(target < row["query"] for target in row["targets"])
        assert row["hit"] == (attended[0] in row["targets"])
    by_head: dict[tuple[str, str, bool], int] = {}
    for row in rows:
        key = (row["name"], row["relation"], row["hit"])
        by_head[key] = by_head.get(key, 0) + 1
    assert max(count for (_, _, hit), count in by_head.items() if hit) <= 5
    assert max(count for (_, _, hit), count in by_head.items() if not hit) <= 2


def test_sentences_carry_their_marks_without_colour(run: Run) -> None:
    text = " ".join(printed(every_head, run, 160).split())
    assert re.search(r"‹\w+›", text)
    assert re.search(r"\[animal \.\d\d\]", text)
    assert "didn't" in text or "did[n't" in text or "did‹n't" in text


def test_bars_grow_to_an_eighth() -> None:
    assert bar(0) == ""
    assert bar(1, 4) == "████"
    assert bar(0.5, 4) == "██"
    assert bar(1 / 32, 4) == "▏"
    assert bar(2, 4) == "████"


def test_a_typed_text_is_drawn_word_by_word() -> None:
    view = TextView(
        name="L1H2",
        words=("The", "[bold]cat\x1b[0m", "sat"),
        weights=((1.0,), (0.6, 0.4), (0.1, 0.7, 0.2)),
        sink=(0.0, 0.0, 0.0),
        usable=(True, True, True),
    )
    stream = io.StringIO()
    draw_text(view, console(stream, 80))
    assert "[bold]cat\\x1b[0m .70" in stream.getvalue()


def test_wide_and_tall_models_print_quickly(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = write_run(tmp_path_factory.mktemp("runs") / "wide", Size(48, 64, 8))
    text = printed(summary, made)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert HOSTILE not in text


def test_a_plan_says_what_would_be_done() -> None:
    plan = PLAN
    stream = io.StringIO()
    draw_plan(plan, console(stream, 80))
    text = stream.getvalue()
    assert re.search(r"1,000  \[red\]own\[/\] → \\x1b\[31m +109  obj → head", text)
    assert "dry run" in text.splitlines()[-1]
    assert "controls  random twin, shuffled links\n" in text
    stream = io.StringIO()
    draw_plan(replace(plan, relations=()), console(stream, 80))
    assert "shape and redundancy only" in stream.getvalue()


def test_probe_sets_and_samples_are_readable() -> None:
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


def test_relations_stand_by_what_is_sure_about_them(run: Run) -> None:
    view = show_head(run, 2, 1)
    asked = {"n": "3", "looks_to": "head", "baseline": "offset", "gain": "0.9"}
    unsure = Row({**asked, "relation": "unsure", "gain_low": ""})
    lucky = Row({**asked, "relation": "lucky", "gain_low": "-0.9", "q": "1"})
    few = Row({**asked, "relation": "few", "gain_low": "0.8"})
    stream = io.StringIO()
    draw_head(replace(view, relations=(unsure, few, lucky, *view.relations)), console(stream, 80))
    table = re.search(r"^relations.*\n.*\n((?:  .*\n)+)", stream.getvalue(), re.MULTILINE)
    assert table is not None
    lines = [line.split()[0] for line in table[1].splitlines()]
    earned = [row.text("relation") for row in view.relations if row.text("role")]
    assert set(lines[: len(earned)]) == set(earned)
    known = view.relations
    assert lines[len(known) : len(known) + 3] == ["lucky", "few", "unsure"]
