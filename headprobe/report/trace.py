"""The page of ``headprobe trace``: when roles begin, and how they grow."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from headprobe import format as numbers
from headprobe.format import safe_text
from headprobe.report.layout import LABEL, Column, draw_columns, draw_line, title
from headprobe.results.trace import HeadEvent, Trace

_BARS = "▁▂▃▄▅▆▇█"
"""Heights of a curve, from the lowest to the highest."""

LISTED_EVENTS = 30
"""The most events that are listed; onsets.csv has all."""


def draw_trace(trace: Trace, console: Console) -> None:
    """Print the answer in a sentence, then the curves and the onsets."""
    draw_line(console, Text(trace_answer(trace), style="bold"))
    draw_line(console, ("\ntrace     ", LABEL), safe_text(str(trace.path)))
    _draw_curves(trace, console)
    _draw_first(trace, console)
    _draw_events(trace, console)
    for warning in trace.warnings:
        console.print(Text.assemble(("\nwarning: ", "bold yellow"), safe_text(warning)))


def trace_answer(trace: Trace) -> str:
    """Return the result in a sentence or two, as plain text."""
    onsets, steps = trace.onsets, trace.counted
    heads = {each.head for each in onsets}
    span = f"between step {steps[0].step:,} and step {steps[-1].step:,}"
    if not onsets:
        return f"No head gains a role {span}."
    first = min(onsets, key=lambda each: (each.event.by, each.event.after))
    return (
        f"{len(heads):,} of {numbers.count(len(trace.heads), 'head')} "
        f"{'gains' if len(heads) == 1 else 'gain'} a role {span}. "
        f"The first is {safe_text(first.role)} ({first.head}), {interval_words(first)}."
    )


def interval_words(event: HeadEvent) -> str:
    """Say when an event is: ``after step 100 and by step 200``."""
    after, by = event.event.after, event.event.by
    if after is None:
        return "from the first step" if by is not None else "only seen at the last step"
    if by is None:
        return f"after step {after:,}, not confirmed by a later step"
    return f"after step {after:,} and by step {by:,}"


def sparkline(values: Sequence[float | None], low: float | None = None) -> str:
    """Return a curve of one character for each value; a space for a missing one.

    It reaches from ``low``, by default the smallest value, to the largest.
    """
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0) if low is None else low, max(known, default=0.0)
    reach = (high - low) or 1.0
    last = len(_BARS) - 1
    return "".join(
        " " if value is None else _BARS[round((value - low) / reach * last)] for value in values
    )


def _draw_curves(trace: Trace, console: Console) -> None:
    """Print the numbers of heads by role, and the bits per character, over all steps."""
    steps = trace.steps
    console.print(title("curves", "one mark per step; heads that hold a role, and bits"))
    labels = [*trace.roles, "heads with a role", "bits per character"]
    series: list[list[float | None]] = [
        [float(step.counts.get(role, 0)) for step in steps] for role in trace.roles
    ]
    series.append([float(step.named) for step in steps])
    series.append([step.bits for step in steps])
    is_count = [True] * (len(labels) - 1) + [False]
    draw_columns(
        [
            Column("", [safe_text(label) for label in labels]),
            Column(f"step {steps[0].step:,}", _ends(series, is_count, 0), is_number=True),
            Column(
                "curve",
                [
                    sparkline(values, 0.0 if whole else None)
                    for values, whole in zip(series, is_count, strict=True)
                ],
            ),
            Column(f"step {steps[-1].step:,}", _ends(series, is_count, -1), is_number=True),
        ],
        console,
    )


def _ends(
    series: Sequence[Sequence[float | None]], is_count: Sequence[bool], place: int
) -> list[str]:
    """The first or last value of each curve."""
    return [
        f"{values[place] or 0:,.0f}" if whole else numbers.decimal(values[place])
        for values, whole in zip(series, is_count, strict=True)
    ]


def _draw_first(trace: Trace, console: Console) -> None:
    """Print the first appearance of each role."""
    console.print(title("first appearance", "of each role that two checkpoints in a row show"))
    first = sorted(trace.first.values(), key=lambda each: (each.event.by or 0, each.role))
    if not first:
        console.print(Text("none", style=LABEL))
        return
    later = [sum(each.role == event.role for event in trace.onsets) for each in first]
    draw_columns(
        [
            Column("role", [safe_text(each.role) for each in first]),
            Column("when", [interval_words(each) for each in first]),
            Column("head", [each.head for each in first]),
            Column("onsets", [f"{n:,}" for n in later], is_number=True),
        ],
        console,
    )


def _draw_events(trace: Trace, console: Console) -> None:
    """Print the onsets and ends by step."""
    dated = [each for each in trace.events if each.event.after is not None]
    dated.sort(key=lambda each: (each.event.by is None, each.event.by or 0, each.event.after or 0))
    console.print(title("onsets and ends", "after one checkpoint, by another"))
    if not dated:
        console.print(Text("none", style=LABEL))
        return
    shown = dated[:LISTED_EVENTS]
    draw_columns(
        [
            Column("head", [each.head for each in shown]),
            Column("role", [safe_text(each.role) for each in shown]),
            Column("event", [each.event.kind for each in shown]),
            Column("after", [_step(each.event.after) for each in shown], is_number=True),
            Column("by", [_step(each.event.by) for each in shown], is_number=True),
        ],
        console,
    )
    if len(dated) > len(shown):
        more = numbers.count(len(dated) - len(shown), "more event")
        console.print(Text(f"and {more}: onsets.csv", style=LABEL))


def _step(step: int | None) -> str:
    return "" if step is None else f"{step:,}"
