"""The page of ``headprobe takeover``, and its lines on other pages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from headprobe.format import MISSING, clip, p_value, safe_text
from headprobe.report.ablation import effect_text
from headprobe.report.layout import LABEL, Column, draw_columns, title
from headprobe.results.importance import RUNNING, STARTS, spare_engines
from headprobe.results.views import HeadView
from headprobe.runs.tables import Row

ROWS_SHOWN = 12
"""The rows of the table on the screen, unless more have a verdict; ``takeover.csv`` has all."""


def has_verdict(row: Row) -> bool:
    """Return whether a row of ``takeover.csv`` says that a head takes over."""
    return row.text("verdict") in (RUNNING, STARTS)


def takeover_words(row: Row) -> str:
    """Return a row with a verdict as a sentence."""
    ablated, responder = row.text("ablated"), row.text("responder")
    if row.text("verdict") == RUNNING:
        amount = effect_text(row.number("interaction"))
        return (
            f"{responder} already does the work of {ablated}: without both the loss is "
            f"{amount} nats above the sum of their effects"
        )
    after, before = row.number("top1_after"), row.number("top1_before")
    parts = []
    if after is not None and before is not None:
        parts.append(f"top1 {after:.2f} instead of {before:.2f}")
    if row.number("direct_effect_change") is not None:
        parts.append(f"direct effect {effect_text(row.number('direct_effect_change'))} nats")
    return f"{responder} starts when {ablated} is ablated: {', '.join(parts)}"


def draw_takeover(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the answer in one sentence, then rows with a verdict, and some of the smallest q."""
    console.print(spare_engines(rows))
    verdicts = [row for row in rows if row["verdict"] in (RUNNING, STARTS)]
    rest = [row for row in rows if row["verdict"] not in (RUNNING, STARTS)]
    rest.sort(key=lambda row: 2.0 if row["q"] is None else row["q"])
    shown = [*verdicts, *rest][: max(ROWS_SHOWN, len(verdicts))]

    def numbers(name: str, key: str, rank: int) -> Column:
        return Column(name, [effect_text(row[key]) for row in shown], rank=rank, is_number=True)

    tops = [
        MISSING
        if row["top1_before"] is None or row["top1_after"] is None
        else f"{row['top1_before']:.2f} → {row['top1_after']:.2f}"
        for row in shown
    ]
    columns = [
        Column("ablated", [clip(row["ablated"], 12) for row in shown]),
        Column("responder", [clip(row["responder"], 12) for row in shown]),
        numbers("interaction", "interaction", 1),
        numbers("controls\n95 %", "interaction_control_q95", 4),
        Column("top1", tops, rank=2),
        numbers("direct\neffect", "direct_effect_change", 3),
        numbers("reaction", "reaction", 3),
        Column("q", [p_value(row["q"]) for row in shown], rank=3, is_number=True),
        Column("verdict", [safe_text(row["verdict"]) for row in shown]),
    ]
    draw_columns(columns, console)
    if len(rows) > len(shown):
        console.print(f"{len(rows) - len(shown):,} more rows: takeover.csv", style=LABEL)
    console.print(
        "running: without both heads the loss rises by more than the two effects together"
    )
    console.print("starts: a later head whose top1 or direct effect rises without the ablated head")


def draw_takeovers(view: HeadView) -> Iterator[RenderableType]:
    """Yield the verdicts in which a head was ablated or responded."""
    rows = [row for row in view.takeover if has_verdict(row)]
    if rows:
        yield title("takeover")
        for row in rows:
            yield Padding(Text(safe_text(takeover_words(row))), (0, 0, 0, 2))
