"""Sentences with the attended words marked, readable without colour."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from headprobe.report.numbers import fraction
from headprobe.report.palette import LABEL
from headprobe.report.plain import clip

LONGEST_WORD = 40
"""Characters after which a word is cut."""

QUERY, SEEN, MISSED = "bold reverse", "bold green", "bold red"

KEY = Text.assemble(
    ("‹word›", QUERY),
    (" asks   ", LABEL),
    ("[word .62]", SEEN),
    (" is looked at, with its weight   ", LABEL),
    ("{word}", MISSED),
    (" should have been", LABEL),
)
"""How to read an excerpt."""


def draw_excerpt(example: Mapping[str, Any]) -> Text:
    """One example row (``report.examples``) as running text."""
    query = int(example["query"])
    seen = {int(place): float(weight) for place, weight in example["attended"]}
    targets = [int(place) for place in example["targets"]]
    missed = targets[-1:] if not example["hit"] else []
    glued, gaps = set(example["glued"]), set(example["gaps"])
    line = Text()
    for place, form in enumerate(example["words"]):
        if place in gaps:
            line.append("… " if place == 0 else " … ", style=LABEL)
        elif place and place not in glued:
            line.append(" ")
        line.append_text(_word(clip(form, LONGEST_WORD), place, query, seen, missed))
    return line.append(" …", style=LABEL) if len(example["words"]) in gaps else line


def _word(
    form: str, place: int, query: int, seen: Mapping[int, float], missed: Sequence[int]
) -> Text:
    if place == query:
        return Text(f"‹{form}›", style=QUERY)
    if place in missed and place not in seen:
        return Text(f"{{{form}}}", style=MISSED)
    if place in missed:
        return Text(f"{{{form} {fraction(seen[place])}}}", style=MISSED)
    if place in seen:
        return Text(f"[{form} {fraction(seen[place])}]", style=SEEN)
    return Text(form)
