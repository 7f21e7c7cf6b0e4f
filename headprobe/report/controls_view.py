"""What the controls earned: nothing, where all is well."""

from collections.abc import Iterator, Sequence
from itertools import islice
from math import inf

from rich.console import RenderableType
from rich.text import Text

from headprobe.report import numbers
from headprobe.report.best_heads import relation_words
from headprobe.report.palette import LABEL
from headprobe.report.parts import pairs_table, title
from headprobe.report.plain import plain
from headprobe.store.manifest import ControlNote
from headprobe.store.tables import Row

SHOWN = 3
"""Relations shown of each control; all of them are in ``controls.csv``."""

_NAMES = {"twin": "random twin", "shuffled": "shuffled links"}


def draw_controls(notes: Sequence[ControlNote], rows: Sequence[Row]) -> Iterator[RenderableType]:
    """One line for each control: its roles, and the relations that came nearest to one."""
    if not notes:
        return
    yield title("controls", "must earn nothing; nearest to a role, by the lower end of gain")
    table = pairs_table()
    for note in notes:
        mine = [row for row in rows if row.text("control") == note.control]
        table.add_row(_NAMES.get(note.control, plain(note.control)), _line(note, mine))
    yield table


def _line(note: ControlNote, rows: Sequence[Row]) -> Text:
    roles = numbers.count(note.named, "role")
    line = Text(roles, style="bold red" if note.named else "")
    kinds = [f"{count:,} {plain(role)}" for role, count in note.roles.items()]
    if kinds:
        line.append(f" ({', '.join(kinds)})")
    nearest = islice((row for row in sorted(rows, key=_rank) if row.text("name")), SHOWN)
    lows = [f"{relation_words(row)} {numbers.signed(row.number('gain_low'))}" for row in nearest]
    line.append(f"   {', '.join(lows)}" if lows else "")
    if note.taken_from is not None:
        line.append(f"   taken over from {plain(note.taken_from)}", style=LABEL)
    return line


def _rank(row: Row) -> float:
    low = row.number("gain_low")
    return inf if low is None else -low
