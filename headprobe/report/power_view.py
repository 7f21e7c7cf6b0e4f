"""What a run could not have seen."""

from collections.abc import Iterator, Sequence
from math import inf

from rich.console import RenderableType
from rich.text import Text

from headprobe.report import numbers
from headprobe.report.best_heads import relation_words
from headprobe.report.palette import LABEL
from headprobe.report.parts import listed, pairs_table, title
from headprobe.report.plain import plain
from headprobe.store.tables import Row

SHOWN = 4
"""Relations shown: those with most instances among the small ones, those that would hide the
largest gains among the others; all of them are in ``power.csv``."""


def draw_power(rows: Sequence[Row]) -> Iterator[RenderableType]:
    """Which relations are too small to say anything, and how large a gain the others could miss."""
    asked = [row for row in rows if row.whole("n")]
    if not asked:
        return
    yield title("what could be missed", "relation by relation: power.csv")
    table = pairs_table()
    reasons: dict[str, list[Row]] = {}
    for row in asked:
        if not row.flag("can_say"):
            reasons.setdefault(row.text("why"), []).append(row)
    for place, (reason, found) in enumerate(reasons.items()):
        counted = "forms" if "forms" in reason else "n"
        largest = sorted(found, key=lambda row: -row.whole("n"))
        names = [f"{relation_words(row)} {row.whole(counted):,}" for row in largest]
        amount = numbers.count(len(found), "relation")
        words = Text.assemble(f"{amount}: {plain(reason)}", (f"   {listed(names, SHOWN)}", LABEL))
        table.add_row("" if place else "cannot say", words)
    able = sorted((row for row in asked if row.flag("can_say")), key=_detectable, reverse=True)
    if able:
        table.add_row("could miss", f"gains below {_gains(able)}")
    yield table


def _gains(rows: Sequence[Row]) -> str:
    """``.31 in iobj → head, ..., .20 in the 30 others``, largest first."""
    shown = [f"{_least(row)} in {relation_words(row)}" for row in rows[:SHOWN]]
    others = rows[SHOWN:]
    if others:
        most = "at most " if len(others) > 1 else ""
        shown.append(f"{most}{_least(others[0])} in the {numbers.count(len(others), 'other')}")
    return ", ".join(shown)


def _least(row: Row) -> str:
    return numbers.fraction(row.number("detectable"))


def _detectable(row: Row) -> float:
    value = row.number("detectable")
    return inf if value is None else value
