"""The page of ``headprobe compare``."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from headprobe import format as numbers
from headprobe.format import safe_text
from headprobe.report.layout import (
    LABEL,
    Column,
    draw_columns,
    filled,
    marks,
    pairs_table,
    title,
)
from headprobe.results.comparison import ComparedHead, Comparison, Side
from headprobe.vocabulary import NONE

LISTED_HEADS = 30
"""The most heads of a table; compare.csv has all."""

ALPHA = 0.05
"""The q below which a change is listed."""


def draw_comparison(comparison: Comparison, console: Console) -> None:
    """Print the answer in a sentence, then the tables behind it."""
    console.print(Text(answer(comparison), style="bold"))
    console.print()
    _draw_sides(comparison, console)
    if comparison.same_model:
        _draw_roles(comparison, console)
        _draw_changes(comparison, console)
        _draw_only(comparison, console)
    else:
        _draw_counterparts(comparison, console)
        _draw_depth(comparison, console)
        _draw_seats(comparison, console)
    for note in comparison.notes:
        console.print(Text.assemble(("\nnote: ", "bold yellow"), safe_text(note)))


def answer(comparison: Comparison) -> str:
    """Return the result in a sentence or two, as plain text."""
    return _one_model(comparison) if comparison.same_model else _two_models(comparison)


def _one_model(comparison: Comparison) -> str:
    total = len(comparison.heads)
    same = sum(head.same_role for head in comparison.heads)
    named = comparison.named
    kept = sum(head.same_role for head in named)
    sentence = (
        f"{same:,} of {numbers.count(total, 'head')} have the same role in both runs "
        f"(kappa {numbers.fraction(comparison.kappa)})"
    )
    if named:
        sentence += (
            f": of the {len(named):,} with a role in A, {kept:,} "
            f"{'has' if kept == 1 else 'have'} the same role in B"
        )
    return f"{sentence}. {_changes(comparison)}"


def _changes(comparison: Comparison) -> str:
    """Say how many heads changed, and by how much at most."""
    what = "top1" if comparison.text == "same" else "gain"
    clear = _clear_changes(comparison)
    if not clear:
        return f"The {what} of no head changes clearly (q < .05)."
    return (
        f"The {what} of {numbers.count(len(clear), 'head changes', 'heads changes')} clearly "
        f"(q < .05), by {_small(clear[0].change)} at most ({clear[0].head_a})."
    )


def _clear_changes(comparison: Comparison) -> list[ComparedHead]:
    """The heads that changed clearly, the largest changes first."""
    clear = [h for h in comparison.heads if h.q is not None and h.q < ALPHA]
    return sorted(clear, key=lambda head: -abs(head.change or 0))


def _small(value: float | None) -> str:
    """A change, which may be of single instances: ``+.004``."""
    if value is None:
        return ""
    return f"{'-' if value < 0 else '+'}{numbers.decimal(abs(value), 3)}"


def _two_models(comparison: Comparison) -> str:
    named = comparison.named
    if not comparison.has_floor:
        near = sum(bool(head.nearest) for head in comparison.heads)
        return (
            f"{near:,} of the {numbers.count(len(comparison.heads), 'head')} of A and a head of B "
            "are each other's nearest; without a random twin of both, none is called a match."
        )
    matched = [head for head in comparison.heads if head.matched]
    of_named = [head for head in matched if head.role_a != NONE]
    same = sum(head.same_role for head in of_named)
    sentence = (
        f"{len(matched):,} of the {numbers.count(len(comparison.heads), 'head')} of A "
        f"{'has' if len(matched) == 1 else 'have'} a counterpart in B"
    )
    if named:
        sentence += (
            f"; of the {len(named):,} with a role in A, {len(of_named):,} "
            f"{'has' if len(of_named) == 1 else 'have'} one, "
            f"and {same:,} of these {'holds' if same == 1 else 'hold'} the same role"
        )
    seats = comparison.seats
    if seats is None:
        return f"{sentence}."
    more = "more often than chance" if seats["p"] < ALPHA else "no more often than chance"
    return (
        f"{sentence}. Equal seats hold equal roles {more} "
        f"({seats['observed']:,.0f}, expected {seats['expected']:.1f}, "
        f"p {numbers.p_value(seats['p'])})."
    )


def _draw_sides(comparison: Comparison, console: Console) -> None:
    table = pairs_table()
    for label, side in (("A", comparison.a), ("B", comparison.b)):
        table.add_row(label, Text(safe_text(str(side.run)), style="bold"))
        shape = f"{numbers.count(side.n_layers, 'layer')} of {numbers.count(side.n_heads, 'head')}"
        table.add_row("", f"{safe_text(side.model)}: {shape}; {safe_text(side.details)}")
        table.add_row("", f"probes {', '.join(safe_text(name) for name in side.probes)}")
    table.add_row("text", _text(comparison))
    if not comparison.same_model:
        ceilings = " and ".join(numbers.fraction(s.ceiling) for s in (comparison.a, comparison.b))
        table.add_row(
            "ceiling",
            f"{ceilings} of the heads of A and B find themselves by the gains on the other half "
            "of the documents",
        )
    console.print(table)


def _text(comparison: Comparison) -> str:
    shared = "the same probes" if comparison.text == "same" else "different probes"
    if not comparison.rows:
        return f"{shared}; attention is not compared, because the runs share too few sketched words"
    rows = numbers.count(comparison.rows, "word")
    return f"{shared}; attention is compared on {rows} that both runs sketched"


def _draw_roles(comparison: Comparison, console: Console) -> None:
    """Print the table of roles kept and changed; letters stand for the roles of B."""
    counts = comparison.roles
    rows = _order(role for role, _ in counts)
    columns = _order(role for _, role in counts)
    letters = marks([*rows, *columns])
    console.print(title("roles", "rows: A; columns: B; equal letters: role kept"))
    cells = [
        Column("", [f"{letters[role].letter} {safe_text(role)}" for role in rows]),
        *(
            Column(
                letters[column].letter,
                [f"{counts[row, column]:,}" if counts[row, column] else "·" for row in rows],
                is_number=True,
            )
            for column in columns
        ),
    ]
    draw_columns(cells, console)


def _order(roles: Iterable[str]) -> list[str]:
    """Distinct roles by name, ``none`` last."""
    return sorted(set(roles), key=lambda role: (role == NONE, role))


def _draw_changes(comparison: Comparison, console: Console) -> None:
    """Print the heads that changed clearly, the largest changes first."""
    clear = _clear_changes(comparison)
    what = "top1 on the same instances" if comparison.text == "same" else "gain"
    console.print(title("changes", f"differences in {what}; q < .05 over all heads"))
    if not clear:
        console.print(Text("none", style=LABEL))
        return
    shown = clear[:LISTED_HEADS]
    draw_columns(
        [
            Column("head", [head.head_a for head in shown]),
            Column("looks for", [_relation(head) for head in shown], folds=True),
            Column(
                "gain A", [numbers.signed(head.gain_a) for head in shown], is_number=True, rank=1
            ),
            Column(
                "gain B", [numbers.signed(head.gain_b) for head in shown], is_number=True, rank=1
            ),
            Column("change", [_small(head.change) for head in shown], is_number=True),
            Column(
                "interval",
                [f"{_small(head.change_low)} {_small(head.change_high)}" for head in shown],
                is_number=True,
            ),
            Column("q", [numbers.p_value(head.q) for head in shown], is_number=True),
            Column("A", [safe_text(head.role_a) for head in shown], rank=2),
            Column("B", [safe_text(head.role_b or "") for head in shown], rank=2),
        ],
        console,
    )
    _draw_rest(len(clear) - len(shown), console)


def _relation(head: ComparedHead) -> str:
    words = (head.family or "", head.relation or "", head.looks_to or "")
    return safe_text(numbers.relation_words(*words))


def _draw_only(comparison: Comparison, console: Console) -> None:
    """Print the roles that only one of the runs gives to a head."""
    what = "text" if comparison.text == "other" else "run"
    for label, first in (("A", True), ("B", False)):
        groups: dict[str, list[str]] = {}
        for head in comparison.heads:
            own, others = (head.role_a, head.role_b) if first else (head.role_b, head.role_a)
            if own not in (None, NONE, others):
                groups.setdefault(str(own), []).append(f"{head.head_a} ({others})")
        console.print(
            title(f"what only {what} {label} shows", "the other run's role in parentheses")
        )
        if not groups:
            console.print(Text("nothing", style=LABEL))
        table = pairs_table()
        for role in _order(groups):
            names = [safe_text(name) for name in groups[role]]
            more = len(names) - LISTED_HEADS
            listed = names[:LISTED_HEADS] + ([f"and {more:,} more"] if more > 0 else [])
            table.add_row(safe_text(role), filled(listed, max(20, console.width - 24)))
        console.print(table)


def _draw_counterparts(comparison: Comparison, console: Console) -> None:
    """Print the counterpart of each named head, the most similar first."""
    named = sorted(comparison.named, key=lambda head: (not head.matched, -(head.affinity or 0)))
    console.print(title("counterparts", "of the heads with a role in A, by where they look"))
    if not named:
        console.print(Text("no head of A has a role", style=LABEL))
        return
    shown = named[:LISTED_HEADS]
    draw_columns(
        [
            Column("A", [head.head_a for head in shown]),
            Column("role", [safe_text(head.role_a) for head in shown]),
            Column("B", [head.head_b or "" for head in shown]),
            Column("role", [safe_text(head.role_b or "") for head in shown]),
            Column("affinity", [_close(head.affinity) for head in shown], is_number=True),
            Column("floor", [_close(head.floor95) for head in shown], is_number=True, rank=1),
            Column("match", [verdict_of(head) for head in shown]),
            Column(
                "gains r", [numbers.signed(head.gains_r) for head in shown], is_number=True, rank=2
            ),
        ],
        console,
    )
    _draw_rest(len(named) - len(shown), console)


def _close(value: float | None) -> str:
    """An affinity; most lie between .9 and 1."""
    return "" if value is None else numbers.decimal(value, 3)


def verdict_of(head: ComparedHead) -> str:
    """Say whether a head and its counterpart match; ``candidate`` where there is no floor."""
    if head.matched is None:
        return "candidate" if head.nearest else "no"
    return "yes" if head.matched else "no"


def _draw_rest(more: int, console: Console) -> None:
    if more > 0:
        console.print(Text(f"and {numbers.count(more, 'more head')}: compare.csv", style=LABEL))


def _draw_depth(comparison: Comparison, console: Console) -> None:
    """Print the roles by relative depth, both models side by side."""
    sides = (comparison.a, comparison.b)
    roles = _order({role for side in sides for role in side.roles_by_depth} - {NONE})
    console.print(title("roles by depth", "heads in each quarter of the layers, from the input"))
    draw_columns(
        [
            Column("", [safe_text(role) for role in roles]),
            *(
                Column(label, [_depths(side, role) for role in roles])
                for label, side in zip("AB", sides, strict=True)
            ),
        ],
        console,
    )


def _depths(side: Side, role: str) -> str:
    counts: Sequence[int] = side.roles_by_depth.get(role, ())
    return "  ".join(f"{count:>3}" if count else "  ·" for count in counts) or "  ·"


def _draw_seats(comparison: Comparison, console: Console) -> None:
    console.print(title("equal seats"))
    seats = comparison.seats
    if seats is None:
        console.print(Text("the models have different shapes: no seats are equal", style=LABEL))
        return
    total = comparison.a.n_layers * comparison.a.n_heads
    console.print(
        f"{seats['observed']:,.0f} of {total:,} seats hold the same role in both models. If the "
        f"heads of each layer change places at random, {seats['expected']:.1f} do "
        f"(p {numbers.p_value(seats['p'])})."
    )
