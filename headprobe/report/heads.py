"""The table of ``headprobe heads``."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from headprobe import format as numbers
from headprobe.format import clip, safe_text
from headprobe.report.ablation import effect_text
from headprobe.report.best_heads import NAME_WIDTH, baseline_words, relation_words
from headprobe.report.layout import LABEL, Column, draw_columns, marks
from headprobe.results.importance import EFFECT_COLUMNS
from headprobe.results.views import HeadList, kind_of, roles_of
from headprobe.runs.tables import COUNTS, GAPPED_COUNTS, Row
from headprobe.vocabulary import DUPLICATE, INDUCTION, POSITIONAL

_LOOKS_FOR = {
    POSITIONAL: "the word at its usual distance",
    DUPLICATE: "a word → its earlier copy",
    INDUCTION: "a word → the word after its earlier copy",
}
"""What heads look for whose role needs no relation."""


def draw_heads(listed: HeadList, console: Console) -> None:
    """Print one line per head; as many columns as the console is wide enough for."""
    which = "" if listed.role is None else f" with {clip(listed.role, NAME_WIDTH)}"
    if not listed.heads:
        console.print(f"no head{which}")
        return
    shown = len(listed.heads)
    amount = numbers.count(listed.total, "head")
    if shown < listed.total:
        amount = f"{shown:,} of {amount}"
    more = f"; all: --top {listed.total}" if shown < listed.total else ""
    console.print(Text(f"{amount}{which}, by {listed.sort}{more}", style=LABEL))
    draw_columns(_columns(listed), console)


def _columns(listed: HeadList) -> list[Column]:
    """All columns in the order of the page; each ``rank`` says which are left out first."""
    heads = listed.heads
    strongest = [kind_of(head) for head in heads]
    styles = marks(strongest)
    roles = [Text(clip(kind, NAME_WIDTH), styles[kind].style) for kind in strongest]
    rank_of_role = 3 if listed.role is None else 7
    columns = [
        Column("head", [head.text("name") for head in heads]),
        Column("looks for", [_looks_for(head, listed.role) for head in heads], folds=True),
        _numbers("n", heads, _count("n"), rank=2),
        _numbers("top1", heads, _fraction("top1"), rank=1),
        Column("baseline", [_baseline(head) for head in heads], rank=4),
        _numbers("gain", heads, _signed("gain"), bold=True),
        _numbers("held\nout", heads, _signed("held_out"), "held_out", rank=5),
        Column("95 %", [_span(head) for head in heads], rank=6),
        _numbers("strength", heads, _fraction("strength"), rank=8),
    ]
    if any(head.text("effect") for head in heads):
        columns.append(_numbers("effect", heads, _effect("effect"), rank=4))
    if any(head.text("repeater_of") for head in heads):
        repeated = [safe_text(head.text("repeater_of")) or numbers.MISSING for head in heads]
        columns.append(Column("repeats", repeated, rank=3))
    if set(strongest) != {listed.role}:
        name = "role" if listed.role is None else "strongest"
        columns.insert(1, Column(name, roles, rank=rank_of_role))
    sorted_by = next((each for each in columns if each.key == listed.sort), None)
    if sorted_by is None:
        columns.append(_numbers(listed.sort, heads, _format(listed.sort)))
    else:
        sorted_by.rank = 0
    return [column for column in columns if any(str(x) != numbers.MISSING for x in column.cells)]


def _numbers(
    name: str,
    heads: Sequence[Row],
    text: Callable[[Row], str],
    key: str = "",
    rank: int = 0,
    bold: bool = False,
) -> Column:
    cells = [Text(text(head), style="bold" if bold else "") for head in heads]
    return Column(name, cells, key=key or name, rank=rank, is_number=True)


def _format(column: str) -> Callable[[Row], str]:
    """How a column of ``heads.csv`` that has no place of its own is printed."""
    if column in (*COUNTS, *GAPPED_COUNTS):
        return _count(column)
    if column in EFFECT_COLUMNS:
        return _effect(column)
    if column in ("q", "p"):
        return lambda head: numbers.p_value(head.number(column))
    return lambda head: numbers.decimal(head.number(column))


def _count(column: str) -> Callable[[Row], str]:
    return lambda head: f"{head.whole(column):,}" if head.text(column) else numbers.MISSING


def _fraction(column: str) -> Callable[[Row], str]:
    return lambda head: numbers.fraction(head.number(column))


def _signed(column: str) -> Callable[[Row], str]:
    return lambda head: numbers.signed(head.number(column))


def _effect(column: str) -> Callable[[Row], str]:
    return lambda head: effect_text(head.number(column))


def _span(head: Row) -> str:
    return numbers.span(head.number("gain_low"), head.number("gain_high"))


def _baseline(head: Row) -> str:
    return baseline_words(head) if head.text("baseline") else numbers.MISSING


def _looks_for(head: Row, role: str | None) -> Text:
    """The relation of the numbers, in grey where it earned no role, or else the role's words."""
    held = roles_of(head)
    shown = role if role in held else (held[0] if held else "")
    if head.text("relation"):
        words = relation_words(head)
    else:
        words = _LOOKS_FOR.get(shown, numbers.MISSING)
    return Text(words, style=marks([shown])[shown].style if shown else LABEL)
