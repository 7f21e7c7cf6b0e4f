"""What ``headprobe prune`` prints: verdicts, losses, and the checkpoint that was saved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headprobe.format import clip, count, safe_text
from headprobe.report.layout import LABEL, filled
from headprobe.runs.head_mask import HeadMask
from headprobe.vocabulary import head_name

KEEP = "keep"
"""The verdict that is counted and not listed."""


def draw_verdicts(
    groups: Sequence[Mapping[str, Any]], heads: Sequence[Mapping[str, Any]], console: Console
) -> None:
    """Print which key/value heads and which heads can go, and why."""
    per_group = len(heads) // max(len(groups), 1)
    if per_group > 1:
        _draw_kind("KV group", groups, console)
    _draw_kind("head", heads, console)
    measured = sum(row["effect"] is not None for row in heads)
    if not measured:
        console.print(Text("no effect is measured yet: headprobe ablate --each", style=LABEL))


def _draw_kind(what: str, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    listed = [row for row in rows if row["verdict"] != KEEP]
    able = sum(row["verdict"] == "remove" for row in rows)
    line = f"{able:,} of {count(len(rows), what)} can go"
    if len(listed) > able:
        line += f", {len(listed) - able:,} to measure"
    console.print(Text(line, style=LABEL))
    if not listed:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in listed:
        table.add_row(safe_text(row["name"]), row["verdict"], clip(row["reason"], 200))
    console.print(table)


def draw_losses(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the loss without the chosen heads, beside baselines of the same size."""
    if not rows:
        return
    first = rows[0]
    console.print(
        Text(
            f"{count(first['heads'], 'head')} replaced by {first['by']}: "
            f"loss in nats on {first['n']:,} tokens, {first['base']:.3f} with all heads",
            style=LABEL,
        )
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("set", style="bold", no_wrap=True)
    for name in ("loss", "rise", "95 %", "above chosen", "95 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        name = row["set"] if row["sets"] == 1 else f"{row['set']}, mean of {row['sets']}"
        table.add_row(
            safe_text(name),
            f"{row['loss']:.3f}",
            _signed(row["effect"]),
            _span(row, "effect"),
            _signed(row["excess"]),
            _span(row, "excess"),
        )
    console.print(table)


def draw_chosen(mask: HeadMask, console: Console) -> None:
    """Print the heads that go, as ``headprobe ablate`` takes them."""
    names = [head_name(layer, head) for layer, head in mask.removed]
    total = count(len(names), "head")
    if mask.groups_removed:
        total += f", {count(mask.groups_removed, 'KV group')} per layer"
    console.print(Text(f"chosen: {total}", style=LABEL))
    if names:
        console.print(Text(filled(names, console.width, " ")))


def draw_saved(saved: Any, mask: Path | None, console: Console) -> None:
    """Print what was written."""
    if saved is not None:
        kind = saved.model_type
        if kind != saved.origin_type:
            kind = f"{kind} (was {saved.origin_type})"
        dtype = saved.dtype if saved.quantization is None else f"from {saved.quantization}"
        gone = saved.origin_parameters - saved.parameters
        lines = [
            f"saved  {saved.path}: {safe_text(kind)}, {dtype}, {saved.bytes / 1e6:,.1f} MB, "
            f"{saved.parameters / 1e6:,.2f} M parameters"
            + (f", {gone / 1e6:,.2f} M fewer" if gone > 0 else ""),
            f"proof  loaded again by transformers: loss {saved.loss:.6f} on {saved.tokens:,} "
            f"tokens, {saved.hooked_loss:.6f} by ablation (a token differs by at most "
            f"{saved.largest_difference:.0e})",
        ]
        for line in lines:
            console.print(Text(safe_text(line)))
    if mask is not None:
        console.print(Text(safe_text(f"mask   {mask}")))


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _span(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if low is None or high is None else f"[{low:+.3f} {high:+.3f}]"
