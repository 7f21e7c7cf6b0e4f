"""The page of ``headprobe takeover``, and its lines on other pages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headprobe.format import MISSING, clip, safe_text
from headprobe.report.ablation import effect_text
from headprobe.report.layout import LABEL, title
from headprobe.results.importance import RUNNING, STARTS, spare_engines
from headprobe.results.views import HeadView
from headprobe.runs.tables import Row

ROWS_SHOWN = 40
"""The most rows of the table on the screen; ``takeover.csv`` has all."""


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
    """Print the answer in one sentence, then the rows with a verdict, or those nearest to one."""
    console.print(spare_engines(rows))
    verdicts = [row for row in rows if row["verdict"] in (RUNNING, STARTS)]
    rest = [row for row in rows if row["verdict"] not in (RUNNING, STARTS)]
    shown = [*verdicts, *rest][:ROWS_SHOWN]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("ablated", style="bold")
    table.add_column("responder", style="bold")
    for name in ("interaction", "controls 95%", "top1", "direct effect", "q"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for row in shown:
        before, after = row["top1_before"], row["top1_after"]
        table.add_row(
            clip(row["ablated"], 12),
            clip(row["responder"], 12),
            effect_text(row["interaction"]),
            effect_text(row["interaction_control_q95"]),
            MISSING if before is None or after is None else f"{before:.2f} → {after:.2f}",
            effect_text(row["direct_effect_change"]),
            MISSING if row["q"] is None else f"{row['q']:.3f}",
            safe_text(row["verdict"]),
        )
    console.print(table)
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
