"""Sentences with the attended words marked, readable without colour."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from rich.text import Text

from headprobe.report.numbers import fraction
from headprobe.report.palette import LABEL
from headprobe.report.plain import clip

LONGEST_WORD = 40
"""Characters after which a word is cut."""

FAINT = ".00"
"""A weight that is not worth a mark."""

QUERY, FOUND, SEEN, MISSED, SAME = "bold reverse", "bold green", "yellow", "bold red", "bold cyan"


class Outcome(Enum):
    """What an example shows, in the order and the words of the page."""

    HIT = "the head looks most at a target"
    MISS = "and where it misses"
    SAME_FORM = (
        "and where it looks most at an antecedent of the same form, which -strict leaves out"
    )


def outcome_of(example: Mapping[str, Any]) -> Outcome:
    """A strict relation does not count words of the query's own form. Where such a word is an
    antecedent and gets most attention, the head is not wrong: it is no miss."""
    if example["hit"]:
        return Outcome.HIT
    strongest = [int(place) for place, _ in example["attended"][:1]]
    same_form = set(example.get("same_form", ()))
    return Outcome.SAME_FORM if same_form.issuperset(strongest) and strongest else Outcome.MISS


def key_to_excerpts(examples: Sequence[Mapping[str, Any]]) -> Text:
    """How to read the examples: an entry for every kind of mark that occurs in them."""
    entries = [
        (("‹word›", QUERY), " the word that looks back"),
        (("[word .62]", FOUND), " looked at, with its weight"),
    ]
    if any(outcome_of(example) is not Outcome.HIT for example in examples):
        entries.append((("{word}", MISSED), " a target not looked at most"))
    if any(example.get("same_form") for example in examples):
        entries.append(
            (("[=word .62]", SAME), " an antecedent of the same form, left out by -strict")
        )
    key = Text("\n")
    for place, (mark, meaning) in enumerate(entries):
        key.append("\n" if place else "").append(*mark).append(meaning, style=LABEL)
    return key


def draw_excerpt(example: Mapping[str, Any]) -> Text:
    """One example row (``report.examples``) as running text."""
    query, targets = int(example["query"]), set(example["targets"])
    missed = _missed(example)
    same_form = set(example.get("same_form", ()))
    weights = {int(place): fraction(float(weight)) for place, weight in example["attended"]}
    glued, gaps = set(example["glued"]), set(example["gaps"])
    line = Text()
    for place, word in enumerate(example["words"]):
        if place in gaps:
            line.append("… " if place == 0 else " … ", style=LABEL)
        elif place and place not in glued:
            line.append(" ")
        form, weight = clip(word, LONGEST_WORD), weights.get(place, FAINT)
        weighed = form if weight == FAINT else f"{form} {weight}"
        if place == query:
            line.append(f"‹{form}›", style=QUERY)
        elif place in missed or (missed and place in targets and weighed != form):
            line.append(f"{{{weighed}}}", style=MISSED)
        elif weighed != form and place in same_form:
            line.append(f"[={weighed}]", style=SAME)
        elif weighed != form:
            line.append(f"[{weighed}]", style=FOUND if place in targets else SEEN)
        else:
            line.append(form)
    return line.append(" …", style=LABEL) if len(example["words"]) in gaps else line


def _missed(example: Mapping[str, Any]) -> set[int]:
    """The word that a miss should have looked at: of a mention its head word (``expected``), else
    the nearest target."""
    if outcome_of(example) is not Outcome.MISS:
        return set()
    nearest = max(example["targets"], default=-1)
    return {int(example.get("expected", nearest))}
