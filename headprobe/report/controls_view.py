"""What the controls earned: nothing, where all is well."""

from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf

from rich.console import RenderableType
from rich.text import Text

from headprobe.report import numbers
from headprobe.report.best_heads import relation_words
from headprobe.report.palette import LABEL
from headprobe.report.parts import filled, pairs_table, title
from headprobe.report.plain import plain
from headprobe.store.manifest import ControlNote
from headprobe.store.tables import Row

SHOWN = 3
"""Relations shown of each control; all of them are in ``controls.csv``."""

_LABEL = 16
"""Characters of a label and the space after it."""

_NAMES = {"twin": "random twin", "shuffled": "shuffled links"}


def draw_controls(
    notes: Sequence[ControlNote], rows: Sequence[Row], width: int
) -> Iterator[RenderableType]:
    """One line for each control: its roles, and the relations that came nearest to one."""
    if not notes:
        return
    yield title("controls", "should earn no role; the nearest, by the lower end of gain")
    table = pairs_table()
    for note in notes:
        mine = [row for row in rows if row.text("control") == note.control]
        table.add_row(
            _NAMES.get(note.control, plain(note.control)), _line(note, mine, width - _LABEL)
        )
    yield table


def _line(note: ControlNote, rows: Sequence[Row], width: int) -> Text:
    roles = numbers.count(note.named, "role")
    line = Text(roles, style="bold red" if note.named else "")
    kinds = [f"{count:,} {plain(role)}" for role, count in note.roles.items()]
    if kinds:
        line.append(f" ({', '.join(kinds)})")
    if note.taken_from is not None:
        line.append(f"   reused from {plain(note.taken_from)}", style=LABEL)
    nearest = islice((row for row in sorted(rows, key=_rank) if _has_interval(row)), SHOWN)
    lows = [f"{relation_words(row)} {numbers.signed(row.number('gain_low'))}" for row in nearest]
    line.append(f"\n{filled(lows, width)}" if lows else "")
    return line


def _has_interval(row: Row) -> bool:
    """A lower end below -1 is of too few folds, and no gain can be so low."""
    low = row.number("gain_low")
    return bool(row.text("name")) and low is not None and low >= -1


def _rank(row: Row) -> float:
    low = row.number("gain_low")
    return inf if low is None else -low
