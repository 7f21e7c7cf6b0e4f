"""The page of a trace: its sentence, its curves and its onsets."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from headprobe.report.layout import console
from headprobe.report.trace import draw_trace, sparkline, trace_answer
from headprobe.results.trace import HeldRole, Step, Trace, trace_tables, trace_values
from tests.helpers.synthetic import HOSTILE

HEADS = ("L0H0", "L0H1", "L1H0", "L1H1")


def step(number: int, roles: str, **changes: object) -> Step:
    """``roles`` has one word for each head, ``-`` for none; ``a+b`` for two roles."""
    words = ["none" if word == "-" else word for word in roles.split()]
    held = tuple(
        HeldRole(head, role, 0.3, 0.2)
        for head, word in zip(HEADS, words, strict=True)
        for role in word.split("+")
        if role != "none"
    )
    strongest = tuple(word.split("+")[0] for word in words)
    made = Step(
        number, f"step{number}", Path(f"t/step{number}"), f"w{number}", 2.5, strongest, held
    )
    return replace(made, **changes)


TRACE = Trace(
    Path("t"),
    "training",
    HEADS,
    (
        step(0, "- - punctuation -", twin=True),
        step(10, "syntax - punctuation -"),
        step(20, "syntax - - syntax", bits=2.1),
        step(30, "syntax+punctuation - - -", bits=1.9),
        step(40, "syntax+punctuation - - -", equal_to=30),
        step(50, "syntax+punctuation coreference - -", bits=1.5),
    ),
    ("steps 30 and 40 have equal weights: they count once",),
)


def page(trace: Trace, width: int = 100) -> str:
    stream = io.StringIO()
    draw_trace(trace, console(stream, width))
    return stream.getvalue()


def test_onsets_and_ends_are_intervals_between_checkpoints() -> None:
    onsets = trace_tables(TRACE)["onsets.csv"].astype(object)
    rows = onsets.where(onsets.notna(), None).to_numpy().tolist()
    assert rows == [
        ["L0H0", "punctuation", "onset", 20, 30],
        ["L0H0", "syntax", "onset", 0, 10],
        ["L0H1", "coreference", "onset", 30, None],
        ["L1H0", "punctuation", "onset", None, 0],
        ["L1H0", "punctuation", "end", 10, 20],
    ]
    assert len(trace_tables(TRACE)["trace.csv"]) == 12
    assert trace_tables(TRACE)["steps.csv"]["named"].tolist() == [1, 2, 2, 1, 1, 2]
    values = trace_values(TRACE)
    assert values["events"][2] == {
        "head": "L0H1",
        "role": "coreference",
        "event": "onset",
        "after": 30,
        "by": None,
    }


def test_the_page() -> None:
    assert trace_answer(TRACE) == (
        "1 of 4 heads gains a role between step 0 and step 50. The first is syntax (L0H0), after "
        "step 0 and by step 10."
    )
    lines = page(TRACE).splitlines()
    assert lines[0] == trace_answer(TRACE)
    assert "bits per character    2.50  ██▅▄█▁     1.50" in lines
    assert "syntax                   0  ▁▅█▅▅▅        1" in lines
    assert "punctuation  from the first step          L1H0       1" in lines
    assert "warning: steps 30 and 40 have equal weights: they count once" in lines


def test_nothing_begins_where_nothing_is_found() -> None:
    nothing = replace(TRACE, steps=tuple(step(n, "- - - -") for n in (0, 10, 20)), warnings=())
    assert trace_answer(nothing) == "No head gains a role between step 0 and step 20."
    assert nothing.events == () and page(nothing).count("\nnone") == 2


def test_sparkline() -> None:
    assert sparkline([0, 1, None, 2]) == "▁▅ █"
    assert sparkline([5, 5]) == "▁▁" and sparkline([]) == ""
    assert sparkline([5, 10], 0) == "▅█"


@pytest.mark.parametrize("width", [40, 100])
def test_hostile_text_comes_out_as_text(width: int) -> None:
    role = HOSTILE.replace("\x00", "")
    steps = tuple(replace(s, held=(HeldRole("L0H0", role, 0.1, 0.1),)) for s in TRACE.steps[1:])
    steps = (step(0, "- - - -"), *steps)
    shown = page(replace(TRACE, steps=steps, path=Path(role), warnings=(HOSTILE,)), width)
    assert not any(character in shown for character in "\x1b\u202e\x00\r")
