"""The page of one head, and its attention on a text of the user.

The page shows the role and its reason, means over rows, relations, attention by distance, example
sentences, and gains by domain. Examples mark words with brackets, so that they are readable without
colour.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import groupby
from math import inf
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headprobe import format as numbers
from headprobe import format as wording
from headprobe.format import clip, fraction, safe_text
from headprobe.report.ablation import draw_importance
from headprobe.report.best_heads import baseline_words, relation_words
from headprobe.report.layout import LABEL, filled, longest_word, marks, title
from headprobe.report.takeover import draw_takeovers
from headprobe.results.views import HeadView, TextView, kind_of, numbered_words, roles_of
from headprobe.runs.tables import Row

DOMAIN_RELATIONS_SHOWN = 3
"""Number of relations shown by domain; ``--all`` shows all."""

_RELATION_COLUMNS = ("family", "relation", "looks_to")


DOMAINS_SHOWN = 4
"""Number of domains shown per relation: those with the most instances."""


def draw_domains(
    head: Row, relations: Sequence[Row], domains: Sequence[Row], everything: bool = False
) -> Iterator[RenderableType]:
    """Yield the gains by domain, for the relations that earned roles, or else for the best one.

    Not all relations and domains are shown unless ``everything`` is. Yields nothing where the
    probes have a single domain.
    """
    earned = [_relation_key(row) for row in relations if row.text("role")]
    best = (head.text("best_relation"), head.text("best_looks_to"))
    chosen = earned or [key for key in map(_relation_key, relations) if key[1:] == best]
    by_relation = [
        [row for row in domains if _relation_key(row) == key]
        for key in (chosen if everything else chosen[:DOMAIN_RELATIONS_SHOWN])
    ]
    shown = [rows for rows in by_relation if len(rows) > 1]
    if not shown:
        return
    most = max(map(len, by_relation)) if everything else DOMAINS_SHOWN
    cut = len(chosen) > len(by_relation) or any(len(rows) > most for rows in shown)
    yield title("by domain", "most instances first" + ("; all: --all" if cut else ""))
    words = [relation_words(rows[0]) for rows in shown]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("looks for", overflow="fold", min_width=longest_word(words))
    names = [clip(row.text("domain"), 24) for rows in shown for row in rows]
    table.add_column("domain", overflow="fold", min_width=longest_word(names))
    for name in ("n", "top1", "baseline", "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    for rows in shown:
        ordered = sorted(rows, key=lambda row: -row.whole("n"))
        for place, row in enumerate(ordered[:most]):
            table.add_row(
                "" if place else relation_words(row),
                clip(row.text("domain"), 24),
                f"{row.whole('n'):,}",
                numbers.fraction(row.number("top1")),
                numbers.fraction(row.number("baseline_top1")),
                Text(numbers.signed(row.number("gain")), style="bold"),
            )
        if ordered[most:]:
            table.add_row("", Text(_other_domains(ordered[most:]), style=LABEL))
    yield Padding(table, (0, 0, 0, 2))


def _other_domains(rows: Sequence[Row]) -> str:
    """The number of further domains, and the range of their gains."""
    gains = [gain for row in rows if (gain := row.number("gain")) is not None]
    if not gains:
        return f"{len(rows)} more"
    return f"{len(rows)} more: {numbers.signed(min(gains))} to {numbers.signed(max(gains))}"


def _relation_key(row: Row) -> tuple[str, str, str]:
    family, relation, looks_to = (row.text(name) for name in _RELATION_COLUMNS)
    return family, relation, looks_to


WORD_WIDTH = 40
"""Characters beyond which a word is cut."""

FAINT = ".00"
"""The format of weights that get no mark."""

QUERY_STYLE, HIT_STYLE, ATTENDED_STYLE, MISSED_STYLE, SAME = (
    "bold reverse",
    "bold green",
    "yellow",
    "bold red",
    "bold cyan",
)


class Outcome(Enum):
    """What an example shows: the values are headings of the page, in its order."""

    HIT = "the head looks most at a target"
    MISS = "misses, highest weight on another word first"
    SAME_FORM = "it looks most at an antecedent of the same form, which -strict leaves out"


def outcome_of(example: Mapping[str, Any]) -> Outcome:
    """Return what an example shows.

    A strict relation does not count words of the query's own form. If such a word is an antecedent
    and gets the most attention, the example is not a miss.
    """
    if example["hit"]:
        return Outcome.HIT
    strongest = [int(place) for place, _ in example["attended"][:1]]
    same_form = set(example.get("same_form", ()))
    return Outcome.SAME_FORM if same_form.issuperset(strongest) and strongest else Outcome.MISS


def key_to_excerpts(examples: Sequence[Mapping[str, Any]]) -> Text:
    """Return the key to the marks that occur in the examples."""
    entries = [
        (("‹word›", QUERY_STYLE), " the word that looks back"),
        (("[word .62]", HIT_STYLE), " looked at, with its weight"),
    ]
    if any(outcome_of(example) is not Outcome.HIT for example in examples):
        entries.append((("{word}", MISSED_STYLE), " a target not looked at most"))
    if any(example.get("same_form") for example in examples):
        entries.append(
            (("[=word .62]", SAME), " an antecedent of the same form, left out by -strict")
        )
    key = Text("\n")
    for place, (mark, meaning) in enumerate(entries):
        key.append("\n" if place else "").append(*mark).append(meaning, style=LABEL)
    return key


def draw_excerpt(example: Mapping[str, Any]) -> Text:
    """Format an example (``results.examples``) as running text."""
    query, targets = int(example["query"]), set(example["targets"])
    missed = missed_targets(example)
    same_form = set(example.get("same_form", ()))
    weights = {int(place): fraction(float(weight)) for place, weight in example["attended"]}
    glued, gaps = set(example["glued"]), set(example["gaps"])
    line = Text()
    for place, word in enumerate(example["words"]):
        if place in gaps:
            line.append("… " if place == 0 else " … ", style=LABEL)
        elif place and place not in glued:
            line.append(" ")
        form, weight = clip(word, WORD_WIDTH), weights.get(place, FAINT)
        weighed = form if weight == FAINT else f"{form} {weight}"
        if place == query:
            line.append(f"‹{form}›", style=QUERY_STYLE)
        elif place in missed or (missed and place in targets and weighed != form):
            line.append(f"{{{weighed}}}", style=MISSED_STYLE)
        elif weighed != form and place in same_form:
            line.append(f"[={weighed}]", style=SAME)
        elif weighed != form:
            line.append(f"[{weighed}]", style=HIT_STYLE if place in targets else ATTENDED_STYLE)
        else:
            line.append(form)
    return line.append(" …", style=LABEL) if len(example["words"]) in gaps else line


def missed_targets(example: Mapping[str, Any]) -> set[int]:
    """The word that a miss should have attended to.

    That is the ``expected`` head word of a mention, or else the nearest target.
    """
    if outcome_of(example) is not Outcome.MISS:
        return set()
    nearest = max(example["targets"], default=-1)
    return {int(example.get("expected", nearest))}


RELATIONS_SHOWN = 10
"""Number of relations shown; ``--all`` shows all."""

SPACIOUS = 96
"""Width of the console, in characters, below which p is not shown."""

BAR = 40
"""Width of a full bar, in characters."""

_BULLETS = {Outcome.HIT: "•", Outcome.MISS: "×", Outcome.SAME_FORM: "="}

_EIGHTHS = " ▏▎▍▌▋▊▉"


def draw_head(view: HeadView, console: Console, everything: bool = False) -> None:
    """Print the page of a head; ``everything`` shows all relations and domains."""
    console.print(_name(view.head, console.width))
    console.print(Padding(_reason(view.head, console.width), (0, 0, 0, 2)))
    console.print(Padding(_means(view.head), (1, 0, 0, 2)))
    for part in _relations(view.relations, console.width, everything):
        console.print(part)
    for part in (*draw_importance(view), *draw_takeovers(view)):
        console.print(part)
    for part in _profile(view.profile):
        console.print(part)
    for part in _sentences(view.examples):
        console.print(part)
    for part in draw_domains(view.head, view.relations, view.domains, everything):
        console.print(part)


def _name(head: Row, width: int) -> Text:
    kind = kind_of(head)
    line = Text.assemble(
        (head.text("name"), "bold"), "  ", (safe_text(kind), marks([kind])[kind].style)
    )
    if head.number("strength") is not None:
        line.append(f", strength {numbers.fraction(head.number('strength'))}")
    others = [role for role in roles_of(head) if role != kind]
    parts = [Text(f"also {safe_text(', '.join(others))}")] if others else []
    if head.text("repeater_of"):
        parts.append(Text(f"repeats {safe_text(head.text('repeater_of'))}"))
    parts.append(Text(f"KV group {head.whole('kv_group')}", style=LABEL))
    used = line.cell_len
    for part in parts:  # a part that does not fit goes on a line of its own
        fits = used + 3 + part.cell_len <= width
        line.append("   " if fits else "\n  ").append_text(part)
        used = (used + 3 if fits else 2) + part.cell_len
    return line


WORD_CLASSES = ("nouns", "verbs", "adjectives")
"""Columns of ``heads.csv`` with the share of stripped attention on a word class."""


def _means(head: Row) -> Text:
    attends = [(name, numbers.fraction(head.number(name))) for name in ("sink", "self", "previous")]
    words = [("marks", numbers.fraction(head.number("punctuation")))]
    words += [(name, numbers.fraction(head.number(name))) for name in WORD_CLASSES]
    other = [
        ("entropy", f"{numbers.decimal(head.number('entropy'))} nats"),
        ("distance", f"{numbers.decimal(head.number('distance'), 1)} words"),
        ("output", f"{numbers.decimal(head.number('output_norm'))} x the layer's median"),
    ]
    lines = Text()
    for parts in (attends, words, other):
        lines.append("\n" if lines else "")
        for place, (name, value) in enumerate(parts):
            lines.append("   " if place else "").append(f"{name} ", style=LABEL).append(value)
    return lines


def _relations(rows: Sequence[Row], width: int, everything: bool) -> Iterator[RenderableType]:
    ranked = sorted((row for row in rows if row.whole("n")), key=_rank)
    ordered = ranked if everything else ranked[:RELATIONS_SHOWN]
    more = len(ranked) - len(ordered)
    note = "by role, then by the lower end of gain"
    yield title("relations", note + (f"; {more} more: --all" if more else ""))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    words = [relation_words(row) for row in ordered]
    table.add_column("looks for", overflow="fold", min_width=longest_word(words))
    for name in ("n", "top1"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("baseline", no_wrap=True)
    table.add_column("gain", justify="right", no_wrap=True)
    table.add_column("95 %", no_wrap=True)
    if width >= SPACIOUS:
        table.add_column("p", justify="right", no_wrap=True)
    for row, looks_for in zip(ordered, words, strict=True):
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
            *([numbers.p_value(row.number("p"))] if width >= SPACIOUS else []),
        )
    yield Padding(table, (0, 0, 0, 2))


def _category(row: Row) -> str:
    """A second line with the top1 of the category control, where the head beats it."""
    if row.text("beats") != "category" or row.number("category_top1") is None:
        return ""
    return f"\n  also beats category {numbers.fraction(row.number('category_top1'))}"


def _rank(row: Row) -> tuple[bool, bool, float]:
    """Sort key: relations that earned a role first, those with too few instances (no q) last."""
    low = row.number("gain_low")
    too_few = row.number("q") is None
    return not row.text("role"), too_few, inf if low is None else -low


def _reason(head: Row, width: int) -> Text:
    """The reason of the verdict, in lines that keep numbers beside their names, and the key."""
    lines = Text(filled(safe_text(head.text("reason")).split(", "), width - 2))
    if head.number("strength") is not None:
        lines.append("\nstrength: gain as a share of the largest possible gain", style=LABEL)
    return lines


def _profile(profile: Sequence[tuple[str, float]]) -> Iterator[RenderableType]:
    if not profile:
        return
    yield title("how far back", "share of the head's attention by distance in words")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style=LABEL, no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for distance, share in profile:
        table.add_row(distance, numbers.fraction(share), Text(bar(share), style="cyan"))
    yield Padding(table, (0, 0, 0, 2))


def bar(share: float, width: int = BAR) -> str:
    """Return a bar with a resolution of an eighth of a character; a share of 1 fills ``width``."""
    eighths = round(max(0.0, min(share, 1.0)) * width * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _sentences(examples: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    def looks_for(example: Mapping[str, Any]) -> str:
        family, relation, looks_to = (str(example[k]) for k in ("family", "relation", "looks_to"))
        return wording.relation_words(family, relation, looks_to)

    for words, group in groupby(examples, key=looks_for):
        members = list(group)
        has_hits = any(outcome_of(example) is Outcome.HIT for example in members)
        note = "examples: hits, highest weight first" if has_hits else "examples"
        yield title(safe_text(words), note)
        for outcome in Outcome:
            chosen = [example for example in members if outcome_of(example) is outcome]
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


TEXT_WORDS_SHOWN = 4
"""Number of words shown per query word, strongest first."""

LEAST_WEIGHT_SHOWN = 0.005
"""Smaller weights are not shown; they would print as .00."""


def draw_text(view: TextView, console: Console) -> None:
    """Print the words that each word attends to, strongest first."""
    console.print(Text.assemble((safe_text(view.name), "bold"), " on your text"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("word", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("start", justify="right", no_wrap=True, style=LABEL)
    table.add_column("itself", justify="right", no_wrap=True, style=LABEL)
    table.add_column("looks at", overflow="fold")
    shown = numbered_words([clip(word, WORD_WIDTH) for word in view.words])
    for place, form in enumerate(shown):
        if not view.usable[place]:
            table.add_row(
                form, "", "", Text("unusable: shares a token with another word", style=LABEL)
            )
            continue
        row = view.weights[place]
        sink, itself = fraction(view.sink[place]), fraction(row[place])
        table.add_row(form, sink, itself, _looks_at(shown, row[:place]))
    console.print(table)


def _looks_at(words: Sequence[str], weights: Sequence[float]) -> Text:
    strongest = sorted(range(len(weights)), key=lambda place: -weights[place])[:TEXT_WORDS_SHOWN]
    line = Text()
    for place in strongest:
        if weights[place] < LEAST_WEIGHT_SHOWN:
            break
        line.append("   " if line else "", style=LABEL)
        line.append(words[place], style="" if line else "bold green")
        line.append(f" {fraction(weights[place])}", style=LABEL)
    return line
