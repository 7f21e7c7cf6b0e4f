"""One head: what it is called and why, its numbers, its reach, and its sentences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headprobe.report import numbers
from headprobe.report.best_heads import baseline_words, relation_words
from headprobe.report.domains_view import draw_domains
from headprobe.report.excerpts import Outcome, draw_excerpt, key_to_excerpts, outcome_of
from headprobe.report.palette import LABEL, kind_of, marks
from headprobe.report.parts import longest_word, title
from headprobe.report.plain import plain
from headprobe.store.tables import Row
from headprobe.verdicts import wording

SHOWN = 10
"""Relations shown; all of them are in ``relations.csv``."""

SPACIOUS = 96
"""Characters below which p is not shown."""

BAR = 40
"""Characters of a full bar."""

_BULLETS = {Outcome.HIT: "•", Outcome.MISS: "×", Outcome.SAME_FORM: "="}

_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class HeadView:
    """What a run knows of one head. ``profile`` gives ranges of word distance (``1``, ``9–16``) and
    the share of the head's stripped attention that goes there; ``domains`` are the rows of
    ``domains.csv`` about the head."""

    run: Path
    head: Row
    relations: tuple[Row, ...]
    profile: tuple[tuple[str, float], ...]
    examples: tuple[Mapping[str, Any], ...]
    domains: tuple[Row, ...] = ()


def draw_head(view: HeadView, console: Console) -> None:
    """Print everything about the head, widest things cut to the console's width."""
    console.print(_name(view.head))
    console.print(Padding(Text(plain(view.head.text("reason"))), (0, 0, 0, 2)))
    console.print(Padding(_shape(view.head), (1, 0, 0, 2)))
    for part in _relations(view.relations, console.width):
        console.print(part)
    for part in _profile(view.profile):
        console.print(part)
    for part in _sentences(view.examples):
        console.print(part)
    for part in draw_domains(view.head, view.relations, view.domains):
        console.print(part)


def _name(head: Row) -> Text:
    kind = kind_of(head)
    line = Text.assemble(
        (head.text("name"), "bold"), "  ", (plain(kind), marks([kind])[kind].style)
    )
    if head.number("strength") is not None:
        line.append(f", strength {numbers.fraction(head.number('strength'))}")
    others = [role for role in head.text("roles").split(";") if role not in ("", kind, "redundant")]
    if others:
        line.append(f"   also {plain(', '.join(others))}")
    if head.text("repeater_of"):
        line.append(f"   repeats {plain(head.text('repeater_of'))}")
    return line.append(f"   KV group {head.whole('kv_group')}", style=LABEL)


def _shape(head: Row) -> Text:
    attends = [(name, numbers.fraction(head.number(name))) for name in ("sink", "self", "previous")]
    attends.append(("marks", numbers.fraction(head.number("punctuation"))))
    speaks = [
        ("entropy", f"{numbers.decimal(head.number('entropy'))} nats"),
        ("distance", f"{numbers.decimal(head.number('distance'), 1)} words"),
        ("output", f"{numbers.decimal(head.number('output_norm'))} x the layer's median"),
    ]
    lines = Text()
    for parts in (attends, speaks):
        lines.append("\n" if lines else "")
        for place, (name, value) in enumerate(parts):
            lines.append("   " if place else "").append(f"{name} ", style=LABEL).append(value)
    return lines


def _relations(rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    known = [row for row in rows if row.whole("n")]
    ordered = sorted(known, key=_rank)
    more = len(ordered) - SHOWN
    yield title("relations", f"and {more} more: relations.csv" if more > 0 else "")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    words = [relation_words(row) for row in ordered[:SHOWN]]
    table.add_column("looks for", overflow="fold", min_width=longest_word(words))
    for name in ("n", "top1"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("baseline", no_wrap=True)
    table.add_column("gain", justify="right", no_wrap=True)
    table.add_column("95 %", no_wrap=True)
    if width >= SPACIOUS:
        table.add_column("p", justify="right", no_wrap=True)
    for row, looks_for in zip(ordered[:SHOWN], words, strict=True):
        role = row.text("role")
        table.add_row(
            Text.assemble(
                (looks_for, marks([role])[role].style if role else ""), (_category(row), LABEL)
            ),
            f"{row.whole('n'):,}",
            numbers.fraction(row.number("top1")),
            baseline_words(row),
            Text(numbers.signed(row.number("gain")), style="bold" if role else ""),
            numbers.span(row.number("gain_low"), row.number("gain_high")),
            *([numbers.chance_of(row.number("p"))] if width >= SPACIOUS else []),
        )
    yield Padding(table, (0, 0, 0, 2))


def _category(row: Row) -> str:
    """What distance and parts of speech alone would score, on a line of its own, where the head
    beats that, too."""
    if row.text("beats") != "category" or row.number("category_top1") is None:
        return ""
    return f"\n  also beats category {numbers.fraction(row.number('category_top1'))}"


def _rank(row: Row) -> tuple[bool, bool, float]:
    """Earned relations first, those with too few instances to say anything (no q) last, else by
    what the gain is at least."""
    at_least = row.number("gain_low")
    too_few = row.number("q") is None
    return not row.text("role"), too_few, inf if at_least is None else -at_least


def _profile(profile: Sequence[tuple[str, float]]) -> Iterator[RenderableType]:
    if not profile:
        return
    yield title("how far back", "share of its attention by distance in words")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style=LABEL, no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for distance, share in profile:
        table.add_row(distance, numbers.fraction(share), Text(bar(share), style="cyan"))
    yield Padding(table, (0, 0, 0, 2))


def bar(share: float, width: int = BAR) -> str:
    """A bar of ``width`` characters for 1, to an eighth of a character."""
    eighths = round(max(0.0, min(share, 1.0)) * width * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _sentences(examples: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    def asked(example: Mapping[str, Any]) -> str:
        family, relation, looks_to = (str(example[k]) for k in ("family", "relation", "looks_to"))
        return wording.relation_words(family, relation, looks_to)

    for words, group in groupby(examples, key=asked):
        found = list(group)
        yield title(plain(words), "its clearest sentences")
        for outcome in Outcome:
            chosen = [example for example in found if outcome_of(example) is outcome]
            if chosen and outcome is not Outcome.HIT:
                yield Padding(Text(outcome.value, style=LABEL), (0, 0, 0, 2))
            for example in chosen:
                yield _item(draw_excerpt(example), _BULLETS[outcome])
    if examples:
        yield key_to_excerpts(examples)


def _item(text: Text, bullet: str) -> Padding:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, style=LABEL)
    table.add_column(overflow="fold")
    table.add_row(bullet, text)
    return Padding(table, (0, 0, 0, 2))
