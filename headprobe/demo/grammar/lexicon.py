"""The lexicon file as frozen lists: who and what may stand in a slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Lexicon:
    """Word lists by name; an entry may be several words of the notation."""

    verbs: frozenset[str]
    lists: Mapping[str, tuple[str, ...]]
    kinds: Mapping[str, Mapping[str, str]]
    compounds: Mapping[str, tuple[str, ...]]
    gaps: Mapping[str, tuple[str, ...]]
    openers: Mapping[str, tuple[str, ...]]
    pairs: Mapping[str, tuple[str, ...]]
    asides: tuple[str, ...]


@cache
def load_lexicon() -> Lexicon:
    """Read lexicon.yaml once."""
    read = yaml.safe_load((HERE / "lexicon.yaml").read_text("utf-8"))
    return Lexicon(
        verbs=frozenset(read["verbs"].split()),
        lists=_tuples(read["lists"]),
        kinds=read["kinds"],
        compounds=_tuples(read["compounds"]),
        gaps=_tuples(read["gaps"]),
        openers=_tuples(read["openers"]),
        pairs=_tuples(read["pairs"]),
        asides=tuple(read["asides"]),
    )


def _tuples(lists: Mapping[str, list[str] | str]) -> dict[str, tuple[str, ...]]:
    """Lists as tuples; a plain string is a list of single words."""
    return {
        str(name): tuple(entries.split() if isinstance(entries, str) else map(str, entries))
        for name, entries in lists.items()
    }
