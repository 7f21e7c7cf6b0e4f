"""Relations and numbers as people read them, in reasons, tables and pages alike."""

from collections.abc import Mapping
from types import MappingProxyType

from headprobe.store.relation import Relation

MISSING = "–"

TOO_LITTLE = "too little data"
"""Printed instead of a number that no gain can have, such as an interval beyond [-1, 1]."""

_EDGE_ENDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "acl": ("noun", "clause"),
        "advcl": ("verb", "adverbial clause"),
        "advmod": ("verb", "adverb"),
        "amod": ("noun", "adjective"),
        "appos": ("noun", "apposition"),
        "aux": ("verb", "auxiliary"),
        "case": ("noun", "preposition"),
        "cc": ("conjunct", "conjunction"),
        "ccomp": ("verb", "object clause"),
        "clf": ("numeral", "classifier"),
        "compound": ("noun", "compound part"),
        "conj": ("first conjunct", "later conjunct"),
        "cop": ("predicate", "copula"),
        "csubj": ("verb", "subject clause"),
        "dep": ("word", "dependent"),
        "det": ("noun", "determiner"),
        "discourse": ("verb", "interjection"),
        "dislocated": ("verb", "dislocated phrase"),
        "expl": ("verb", "expletive"),
        "fixed": ("first word", "later word"),
        "flat": ("first name", "later name"),
        "goeswith": ("word", "split-off part"),
        "iobj": ("verb", "indirect object"),
        "list": ("first item", "later item"),
        "mark": ("verb", "subordinator"),
        "nmod": ("noun", "noun modifier"),
        "nsubj": ("verb", "subject"),
        "nummod": ("noun", "number"),
        "obj": ("verb", "object"),
        "obl": ("verb", "oblique noun"),
        "orphan": ("remaining word", "orphan"),
        "parataxis": ("main clause", "side clause"),
        "reparandum": ("correction", "corrected word"),
        "vocative": ("verb", "person addressed"),
        "xcomp": ("verb", "open complement"),
    }
)
"""What typically stands at the head and at the dependent of each UD relation."""

_ANAPHORS: Mapping[str, str] = MappingProxyType(
    {"pronoun": "pronoun", "nominal": "noun", "proper": "name", "anaphor": "anaphor"}
)
"""The coreference relations and the kind of word that looks back."""

_BASELINES: Mapping[str, str] = MappingProxyType(
    {"habit_length": "habit and length", "start": "text start"}
)
"""Baselines whose names are not words with underscores for spaces."""


def relation_words(family: str, relation: str, looks_to: str) -> str:
    """What a head looks for, from the later word to the earlier one, and the relation's name:
    ``noun → its preposition (case)``, ``pronoun → its antecedent (pronoun-strict)``, ``stop mark``.
    Relations that are not known here: ``negation → target``."""
    if family == "coreference":
        anaphor = _ANAPHORS.get(relation.removesuffix("-strict"))
        return f"{anaphor} → its antecedent ({relation})" if anaphor else relation
    if family == "punctuation":
        return f"{relation} mark"
    if family == "syntax" and relation in _EDGE_ENDS and looks_to in ("head", "dependent"):
        head, dependent = _EDGE_ENDS[relation]
        later, earlier = (head, dependent) if looks_to == "dependent" else (dependent, head)
        return f"{later} → its {earlier} ({relation})"
    return f"{relation} → {looks_to}"


def relation_name(relation: Relation) -> str:
    """The relation's name, with the suffix ``-strict`` where it is strict (METHOD section 2)."""
    strict = relation.strict and not relation.name.endswith("-strict")
    return f"{relation.name}-strict" if strict else relation.name


def baseline_name(name: str, offset: int | None = None) -> str:
    """A baseline as people read it: ``nearest mention``, and for the best fixed distance which one:
    ``2 words back``."""
    if name == "offset" and offset:
        return "1 word back" if offset == 1 else f"{offset} words back"
    return _BASELINES.get(name, name.replace("_", " "))


def fraction(value: float | None) -> str:
    """A share or a probability: ``.80``, ``1.00``."""
    return MISSING if value is None else _without_zero(f"{value:.2f}")


def small(value: float | None) -> str:
    """A share that may be tiny, to three decimals, without zeros at its end: ``.05``, ``.004``."""
    if value is None:
        return MISSING
    return "<.001" if 0 < value < 0.001 else _without_zero(f"{value:.3f}".removesuffix("0"))


def signed(value: float | None) -> str:
    """A gain: ``+.40``, ``-.03``."""
    if value is None:
        return MISSING
    text = fraction(abs(value))
    return f"{'-' if value < 0 and text != '.00' else '+'}{text}"


def span(low: float | None, high: float | None) -> str:
    """An interval of a gain: ``+.35 +.45``. Gains lie between -1 and 1: an interval that goes
    beyond comes of too few folds, and says so instead of numbers."""
    if low is None or high is None:
        return MISSING
    return TOO_LITTLE if low < -1 or high > 1 else f"{signed(low)} {signed(high)}"


def chance_of(value: float | None) -> str:
    """A p or q: ``.03``, ``<.001``."""
    if value is None:
        return MISSING
    return "<.001" if value < 0.001 else _without_zero(f"{value:.3f}")


def _without_zero(text: str) -> str:
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
