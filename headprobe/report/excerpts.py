"""Sentences with the attended words marked, readable without colour."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from headprobe.report.numbers import fraction
from headprobe.report.palette import LABEL
from headprobe.report.plain import clip

LONGEST_WORD = 40
"""Characters after which a word is cut."""

FAINT = ".00"
"""A weight that is not worth a mark."""

QUERY, FOUND, SEEN, MISSED = "bold reverse", "bold green", "yellow", "bold red"

KEY = Text.assemble(
    ("‹word›", QUERY),
    (" asks   ", LABEL),
    ("[word .62]", FOUND),
    (" is looked at, with its weight   ", LABEL),
    ("{word}", MISSED),
    (" should have been", LABEL),
)
"""How to read an excerpt."""


def draw_excerpt(example: Mapping[str, Any]) -> Text:
    """One example row (``report.examples``) as running text."""
    query, targets = int(example["query"]), set(example["targets"])
    missed = max(targets, default=-1) if not example["hit"] else -1
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
        elif place == missed:
            line.append(f"{{{weighed}}}", style=MISSED)
        elif weighed != form:
            line.append(f"[{weighed}]", style=FOUND if place in targets else SEEN)
        else:
            line.append(form)
    return line.append(" …", style=LABEL) if len(example["words"]) in gaps else line
