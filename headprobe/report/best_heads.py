"""The table of the best heads of a run, and the wording of rows of ``relations.csv``."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import inf

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from headprobe import format as numbers
from headprobe import format as wording
from headprobe.format import clip, safe_text
from headprobe.report.layout import LABEL, longest_word, marks, title
from headprobe.results.views import IDLE, NONE, REPEATER, kind_of, roles_of
from headprobe.runs.tables import Row

BEST = 5
"""Number of heads shown per role."""

NAME_WIDTH = 24
"""Characters beyond which a name is cut."""

BASELINE_WIDTH = 16
"""The same for the name of a baseline; no built-in one is longer."""


def relation_words(row: Row) -> str:
    """Describe the relation of a row of ``relations.csv``."""
    family, relation, looks_to = (row.text(name) for name in ("family", "relation", "looks_to"))
    return clip(wording.relation_words(family, relation, looks_to), 2 * NAME_WIDTH)


def baseline_words(row: Row) -> str:
    """Format the best baseline's top1 and its name: ``.40 2 words back``."""
    offset = row.whole("best_offset") if row.text("best_offset") else None
    name = clip(wording.baseline_name(row.text("baseline"), offset), BASELINE_WIDTH)
    return f"{numbers.fraction(row.number('baseline_top1'))} {name}"


def draw_best(heads: Sequence[Row], relations: Sequence[Row]) -> Iterator[RenderableType]:
    """Yield the table of the best heads, or the reason why there is none."""
    shown = best_heads(relations)
    if not shown:
        yield from _nothing_judged(heads, relations)
        return
    if shown[0][0]:
        yield title("best heads")
        yield Text(
            f"up to {BEST} per role, ordered by gain on one half of the documents\n"
            "gain: top1 - baseline; held out: gain on the other half",
            style=LABEL,
        )
    else:
        yield title("no head earned a role by what it looks for")
        yield Text(
            "the closest heads by lower end of gain; show-head says what each lacks",
            style=LABEL,
        )
    yield _best_table(shown, {head.text("name"): head for head in heads})


def _nothing_judged(heads: Sequence[Row], relations: Sequence[Row]) -> Iterator[RenderableType]:
    """Explain why no relation was judged: there is none, or all have too few instances."""
    if not any(row.whole("n") for row in relations):
        yield title("no relations to test")
        yield Text(
            "the probes have no annotated links, repeated words or punctuation marks",
            style=LABEL,
        )
        return
    reasons = {head.text("reason") for head in heads if kind_of(head) == NONE}
    yield title("no relation could be judged", safe_text(min(reasons)) if len(reasons) == 1 else "")


def best_heads(relations: Sequence[Row]) -> list[tuple[str, Row]]:
    """Return (role, row) for the best heads by ``gain_a``, at most ``BEST`` per role.

    The best head of each relation comes before the second best of any. Where no head earned a role,
    the role is empty, and the closest heads are returned by ``gain_low``: without a claim, there is
    no half of the documents to keep for confirming it.
    """
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
    heads_of: Counter[tuple[str, str, str]] = Counter()
    for row in sorted(rows, key=gain, reverse=True):
        key = (row.text("family"), row.text("relation"), row.text("looks_to"))
        ranked.append((heads_of[key], row))
        heads_of[key] += 1
    ranked.sort(key=lambda each: each[0])
    return sorted((row for _, row in ranked[:BEST]), key=gain, reverse=True)


def _best_table(rows: Sequence[tuple[str, Row]], heads: Mapping[str, Row]) -> Table:
    """One line per head, under a line for each role; without roles, with the gain's interval.

    Roles stand in the widest column, so that the column of heads stays narrow.
    """
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
    previous = ""
    for (role, row), looks_for in zip(rows, words, strict=True):
        if role != previous:
            table.add_row("", Text(clip(role, NAME_WIDTH), chosen[role].style))
        last = numbers.span(row.number("gain_low"), row.number("gain_high"))
        table.add_row(
            row.text("name"),
            Text.assemble(looks_for, (_other_role(role, heads.get(row.text("name"))), LABEL)),
            f"{row.whole('n'):,}",
            numbers.fraction(row.number("top1")),
            baseline_words(row),
            Text(numbers.signed(row.number("gain")), style="bold"),
            numbers.signed(row.number("gain_b")) if named else last,
        )
        previous = role
    return table


def _other_role(role: str, head: Row | None) -> str:
    """A second line with the roles that the head holds beside ``role``."""
    if head is None or not role:
        return ""
    redundancy = [kind_of(head)] if kind_of(head) in (REPEATER, IDLE) else []
    others = [*redundancy, *(each for each in roles_of(head) if each != role)]
    return f"\nalso {', '.join(clip(each, NAME_WIDTH) for each in others)}" if others else ""
