"""What is shown of one head."""

import io
import re
from dataclasses import replace

import pytest

from headprobe.commands.show import show_head
from headprobe.report.head import bar, draw_head, draw_text
from headprobe.report.layout import console
from headprobe.results.views import HeadView, TextView
from headprobe.runs.folder import Run
from headprobe.runs.tables import Row


def drawn(view: HeadView, width: int) -> str:
    stream = io.StringIO()
    draw_head(view, console(stream, width))
    return stream.getvalue()


def test_examples_mark_words_without_colour(run: Run) -> None:
    views = (show_head(run, layer, head) for layer in range(4) for head in range(8))
    text = " ".join(word for view in views for word in drawn(view, 160).split())
    assert re.search(r"‹\w+›", text)
    assert re.search(r"\[animal \.\d\d\]", text)
    assert "didn't" in text or "did[n't" in text or "did‹n't" in text


def test_bars_have_a_resolution_of_an_eighth() -> None:
    assert bar(0) == ""
    assert bar(1, 4) == "████"
    assert bar(0.5, 4) == "██"
    assert bar(1 / 32, 4) == "▏"
    assert bar(2, 4) == "████"


def test_a_text_of_the_user_has_one_row_per_word() -> None:
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


def test_relations_are_ordered_by_role_then_lower_end(run: Run) -> None:
    view = show_head(run, 2, 1)
    asked = {"n": "3", "looks_to": "head", "baseline": "offset", "gain": "0.9"}
    unsure = Row({**asked, "relation": "unsure", "gain_low": ""})
    lucky = Row({**asked, "relation": "lucky", "gain_low": "-0.9", "q": "1"})
    few = Row({**asked, "relation": "few", "gain_low": "0.8"})
    page = drawn(replace(view, relations=(unsure, few, lucky, *view.relations)), 80)
    table = re.search(r"^relations.*\n.*\n((?:  .*\n)+)", page, re.MULTILINE)
    assert table is not None
    shown = [line.strip() for line in table[1].splitlines()]
    places = [
        next(place for place, line in enumerate(shown) if name in line)
        for name in ("lucky → head", "few → head", "unsure → head")
    ]
    assert places == sorted(places)
    earned = [row.text("relation") for row in view.relations if row.text("role")]
    assert earned and all(f"({name})" in " ".join(shown[: places[0]]) for name in earned)


@pytest.mark.parametrize("width", [80, 160])
def test_the_longest_baseline_name_fits(run: Run, width: int) -> None:
    view = show_head(run, 2, 1)
    cells = {**view.relations[0].cells, "baseline": "nearest_mention", "category_top1": "0.31"}
    page = drawn(replace(view, relations=(Row({**cells, "beats": "category"}),)), width)
    assert re.search(r"\.\d\d nearest mention  [+-]", page)
    assert "also beats category .31\n" in page
    assert all(len(line) <= width for line in page.splitlines())
