"""The best heads of a run, and how rows of ``relations.csv`` are worded."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from headprobe import format as numbers
from headprobe import format as wording
from headprobe.format import clip, safe_text
from headprobe.report.layout import LABEL, longest_word, marks, title
from headprobe.results.views import NONE, kind_of
from headprobe.runs.tables import Row

BEST = 5
"""Heads shown per role, each the best for another relation."""

NAME_WIDTH = 24
"""Characters of a name after which it is cut."""

BASELINE_WIDTH = 16
"""The same of a baseline's name; none of ours is longer."""


def relation_words(row: Row) -> str:
    """What a row of ``relations.csv`` asks for, as people read it."""
    family, relation, looks_to = (row.text(name) for name in ("family", "relation", "looks_to"))
    return clip(wording.relation_words(family, relation, looks_to), 2 * NAME_WIDTH)


def baseline_words(row: Row) -> str:
    """``.40 2 words back``: the best baseline's top1 and its name, for an offset which one."""
    offset = row.whole("best_offset") if row.text("best_offset") else None
    name = clip(wording.baseline_name(row.text("baseline"), offset), BASELINE_WIDTH)
    return f"{numbers.fraction(row.number('baseline_top1'))} {name}"


def draw_best(heads: Sequence[Row], relations: Sequence[Row]) -> Iterator[RenderableType]:
    """The table of the best heads, or why there is none."""
    shown = best_heads(relations)
    if not shown:
        yield from _nothing_judged(heads, relations)
        return
    if shown[0][0]:
        yield title("best heads")
        yield Text(
            "gain: top1 - baseline; held out: gain on documents not used to choose", style=LABEL
        )
    else:
        yield title(
            "no head earned a role by what it looks for",
            "the nearest, by the lower end of gain",
        )
    yield _best_table(shown)


def _nothing_judged(heads: Sequence[Row], relations: Sequence[Row]) -> Iterator[RenderableType]:
    """Why no relation says anything: the probes have none, or too few instances of each."""
    if not any(row.whole("n") for row in relations):
        yield title("no relations to test")
        yield Text(
            "the probes are not annotated; coreference, syntax and punctuation need annotation",
            style=LABEL,
        )
        return
    reasons = {head.text("reason") for head in heads if kind_of(head) == NONE}
    yield title("no relation could be judged", safe_text(min(reasons)) if len(reasons) == 1 else "")


def best_heads(relations: Sequence[Row]) -> list[tuple[str, Row]]:
    """(role, row) of the best heads, chosen by ``gain_a``: per role at most ``BEST``, the best for
    each relation before the second best. Where no role was earned, those that came nearest, by
    ``gain_low``, as no half of the documents is kept from choosing what is no finding."""
    earned = [row for row in relations if row.text("role")]
    if not earned:
        judged = [row for row in relations if row.number("q") is not None]
        return [("", row) for row in _best_rows(judged, "gain_low")]
    roles = list(dict.fromkeys([*marks([]), *sorted(row.text("role") for row in earned)]))
    return [
        (role, row)
        for role in roles
        for row in _best_rows([row for row in earned if row.text("role") == role])
    ]


def _best_rows(rows: Sequence[Row], column: str = "gain_a") -> list[Row]:
    def gain(row: Row) -> float:
        value = row.number(column)
        return -inf if value is None else value

    ranked: list[tuple[int, Row]] = []
    met: Counter[tuple[str, str, str]] = Counter()
    for row in sorted(rows, key=gain, reverse=True):
        key = (row.text("family"), row.text("relation"), row.text("looks_to"))
        ranked.append((met[key], row))
        met[key] += 1
    ranked.sort(key=lambda each: each[0])
    return sorted((row for _, row in ranked[:BEST]), key=gain, reverse=True)


def _best_table(rows: Sequence[tuple[str, Row]]) -> Table:
    """One line per head, under a line for each role; without roles the interval of the gain."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    named = any(role for role, _ in rows)
    words = [relation_words(row) for _, row in rows]
    table.add_column("head", no_wrap=True)
    table.add_column("looks for", overflow="fold", min_width=longest_word(words))
    for name in ("n", "top1"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("baseline", no_wrap=True)
    table.add_column("gain", justify="right", no_wrap=True)
    if named:
        table.add_column("held\nout", justify="right", no_wrap=True)
    else:
        table.add_column("95 %", no_wrap=True)
    chosen = marks(role for role, _ in rows if role)
    before = ""
    for (role, row), looks_for in zip(rows, words, strict=True):
        if role != before:
            table.add_row(Text(clip(role, NAME_WIDTH), chosen[role].style))
        last = numbers.span(row.number("gain_low"), row.number("gain_high"))
        table.add_row(
            f"{'  ' if named else ''}{row.text('name')}",
            looks_for,
            f"{row.whole('n'):,}",
            numbers.fraction(row.number("top1")),
            baseline_words(row),
            Text(numbers.signed(row.number("gain")), style="bold"),
            numbers.signed(row.number("gain_b")) if named else last,
        )
        before = role
    return table
