"""Which heads are called otherwise than before."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headprobe.report import numbers
from headprobe.report.palette import LABEL, marks
from headprobe.report.plain import clip, plain


@dataclass(frozen=True)
class Change:
    """A head whose role is another than before, and why."""

    name: str
    was: str
    now: str
    reason: str


SHOWN = 16
"""Heads shown; the rest is counted."""


def draw_changes(changes: Sequence[Change], console: Console) -> None:
    """Print how many heads changed their role, and which."""
    if not changes:
        console.print(Text("\nno head changed its role", style="bold"))
        return
    whose = "its" if len(changes) == 1 else "their"
    title = f"{numbers.count(len(changes), 'head')} changed {whose} role"
    console.print(Text(f"\n{title}", style="bold"))
    chosen = marks(role for change in changes for role in (change.was, change.now))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    for name in ("head", "was", "is now"):
        table.add_column(name, no_wrap=True)
    table.add_column("because", overflow="fold", style=LABEL)
    for change in changes[:SHOWN]:
        roles = (Text(clip(role, 16), chosen[role].style) for role in (change.was, change.now))
        table.add_row(plain(change.name), *roles, plain(change.reason))
    if len(changes) > SHOWN:
        table.add_row("", "", "", f"and {len(changes) - SHOWN:,} more")
    console.print(table)
