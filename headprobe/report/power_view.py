"""What a run could not have seen."""

from collections.abc import Iterator, Sequence
from math import inf

from rich.console import RenderableType
from rich.text import Text

from headprobe.report import numbers
from headprobe.report.best_heads import relation_words
from headprobe.report.palette import LABEL
from headprobe.report.parts import filled, pairs_table, title
from headprobe.report.plain import plain
from headprobe.store.tables import Row

SHOWN = 4
"""Relations shown: those with most instances among the small ones, those that would hide the
largest gains among the others; all of them are in ``power.csv``."""

_LABEL = 26
"""Characters of a label and the space after it."""

_FEW_FORMS = "too few target forms"
"""What ``power.csv`` says where a relation's targets have too few different forms."""

_OUT_OF_REACH = "even a perfect head may be missed"


def draw_power(rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    """Which relations are too small to say anything, and how large a gain a head must have to be
    seen in the others."""
    asked = [row for row in rows if row.whole("n")]
    if not asked:
        return
    yield title("statistical power", "relation by relation: power.csv")
    table = pairs_table()
    marks = [row for row in asked if _is_single_mark(row)]
    reasons: dict[str, list[Row]] = {}
    for row in asked:
        if row not in marks and (reason := _lacking(row)):
            reasons.setdefault(reason, []).append(row)
    for place, (reason, found) in enumerate(reasons.items()):
        counted = "forms" if "forms" in reason else "n"
        largest = sorted(found, key=lambda row: -row.whole("n"))
        names = [f"{relation_words(row)} {row.whole(counted):,}" for row in largest[:SHOWN]]
        if len(largest) > SHOWN:
            names.append(f"{len(largest) - SHOWN:,} more")
        amount = f"{numbers.count(len(found), 'relation')}: {plain(reason)}"
        words = Text.assemble(amount, ("\n" + filled(names, width - _LABEL), LABEL))
        table.add_row("" if place else numbers.TOO_LITTLE, words)
    if marks:
        table.add_row("no role possible", _single_marks(marks, width - _LABEL))
    able = [row for row in asked if row not in marks and not _lacking(row)]
    if able:
        table.add_row("smallest detectable gain", _gains(able, width - _LABEL))
    yield table


def _lacking(row: Row) -> str:
    """Why a relation says nothing; empty where it can. A gain of 1 or more is no gain to detect."""
    if not row.flag("can_say"):
        return row.text("why")
    detectable = row.number("detectable")
    impossible = row.text("why") or (detectable is not None and detectable >= 1)
    return _OUT_OF_REACH if impossible else ""


def _is_single_mark(row: Row) -> bool:
    """One class of marks with too few characters to tell a head for the mark from a head for that
    token: however much text there is, it earns no role."""
    return (
        row.text("family") == "punctuation"
        and row.text("relation") != "any"
        and not row.flag("can_say")
        and row.text("why") == _FEW_FORMS
    )


def _single_marks(rows: Sequence[Row], width: int) -> Text:
    names = [f"{relation_words(row)} {row.whole('forms'):,}" for row in rows]
    return Text.assemble(
        (filled(names, width), LABEL),
        "\ntoo few different characters to tell a head that looks for the mark from one"
        " that looks for a single token; heads that do are counted under any mark",
    )


def _gains(rows: Sequence[Row], width: int) -> str:
    """``.31 verb → its object (obj), ..., at most .20 in the 30 others``, largest first."""
    ordered = sorted(rows, key=_detectable, reverse=True)
    shown = [f"{_least(row)} {relation_words(row)}" for row in ordered[:SHOWN]]
    others = ordered[SHOWN:]
    if others:
        most = "at most " if len(others) > 1 else ""
        shown.append(f"{most}{_least(others[0])} in the {numbers.count(len(others), 'other')}")
    return filled(shown, width)


def _least(row: Row) -> str:
    return numbers.fraction(row.number("detectable"))


def _detectable(row: Row) -> float:
    value = row.number("detectable")
    return inf if value is None else value
