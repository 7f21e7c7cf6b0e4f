"""Parts that pages share."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
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


def filled(parts: Sequence[str], width: int, separator: str = ", ") -> str:
    """``parts`` in lines of at most ``width`` characters, broken only between parts where those
    fit: numbers stay beside their units and names."""
    lines = [""]
    for place, part in enumerate(parts):
        ending = separator.rstrip() if place < len(parts) - 1 else ""
        if lines[-1] and cell_len(lines[-1] + part + ending) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += part + (separator if ending or place < len(parts) - 1 else "")
    return "\n".join(lines)


def longest_word(texts: Iterable[str], most: int = 24) -> int:
    """Characters of the longest word: the width below which a table column would break words. At
    most ``most``, as names that a user made up can be as long as a line."""
    return min(most, max((cell_len(word) for text in texts for word in text.split()), default=0))


def listed(names: Sequence[str], most: int = LISTED) -> str:
    """Some names, the rest counted."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(plain(name) for name in names[:most]) + more
