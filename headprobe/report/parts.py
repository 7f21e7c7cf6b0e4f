"""Parts that pages share."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from headprobe.report.palette import LABEL
from headprobe.report.plain import plain

LISTED = 8
"""Names listed before the rest is counted."""


def title(text: str, note: str = "") -> Text:
    """The title of a part, after an empty line."""
    return Text.assemble("\n", (text, "bold"), (f"   {note}" if note else "", LABEL))


def pairs_table() -> Table:
    """Labels and what belongs to them."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style=LABEL, no_wrap=True)
    table.add_column(overflow="fold")
    return table


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """Some names, the rest counted."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(plain(name) for name in names[:most]) + more
