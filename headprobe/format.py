"""Text for people: safe display of untrusted text, and the wording of relations and numbers.

Reasons, tables and pages all format through this module, so that a value reads the same everywhere.
"""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType

from headprobe.vocabulary import REPETITION, WORD_CLASS, Relation

MISSING = "–"
"""Printed for a value that does not exist."""

TOO_LITTLE = "too little data"
"""Printed instead of an interval that no gain can have, one that leaves [-1, 1]."""

_JOINERS = "\u200c\u200d"
"""The zero-width non-joiner and joiner."""

_MAX_SUGGESTIONS = 12
"""Number of names that ``suggest_names`` lists."""

_NAMED_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that ``safe_text`` escapes."""


def safe_text(text: str) -> str:
    """Return ``text`` on one line with every character visible.

    Control characters, bidi overrides, invisible format characters, lone surrogates and line
    separators become escapes (``\\x1b``, ``\\u202e``). Zero-width joiners stay after characters of
    scripts that need them (Persian, Hindi, emoji). Markup needs no escapes, because the consoles of
    this package do not parse it.
    """
    if text.isascii() and text.isprintable():
        return text
    pieces = []
    before = ""
    for character in text:
        joins = character in _JOINERS and before > "\u02ff" and before not in _JOINERS
        hidden = unicodedata.category(character) in _HIDDEN_CATEGORIES and not joins
        pieces.append(_escape(character) if hidden else character)
        before = character
    return "".join(pieces)


def _escape(character: str) -> str:
    code = ord(character)
    if character in _NAMED_ESCAPES:
        return _NAMED_ESCAPES[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clip(text: str, width: int) -> str:
    """Return ``safe_text(text)``, its end cut off with an ellipsis beyond ``width`` characters."""
    shown = safe_text(text)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def clip_start(text: str, width: int) -> str:
    """Return ``safe_text(text)``, its start cut off with an ellipsis beyond ``width`` characters.

    Paths are shown this way.
    """
    shown = safe_text(text)
    return shown if len(shown) <= width else "…" + shown[len(shown) - width + 1 :]


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
"""UD relation -> what its head and its dependent typically are."""

_ANAPHORS: Mapping[str, str] = MappingProxyType(
    {"pronoun": "pronoun", "nominal": "noun", "proper": "name", "anaphor": "anaphor"}
)
"""Coreference relation -> the kind of word that refers back."""

_COPY = "earlier copy (same-word)"

_BASELINES: Mapping[str, str] = MappingProxyType(
    {
        "habit_length": "habit and length",
        "start": "text start",
        "embedding": "input embeddings",
        "swap": "unrelated words",
    }
)
"""Baseline -> its wording, where that is not the name with spaces for underscores."""


def deprel_words(deprel: str) -> str:
    """Describe words with a dependency label: ``object (obj)``; ``other words`` for no label."""
    if deprel in _EDGE_ENDS:
        return f"{_EDGE_ENDS[deprel][1]} ({deprel})"
    return {"": "other words", "punct": "punctuation (punct)"}.get(deprel, deprel)


def relation_words(family: str, relation: str, looks_to: str) -> str:
    """Describe what a head looks for, from the later word to the earlier one.

    Examples: ``noun → its preposition (case)``, ``pronoun → its antecedent (pronoun-strict)``,
    ``stop mark``; for a relation of a probe file, ``negation → target``.
    """
    if family == "coreference":
        anaphor = _ANAPHORS.get(relation.removesuffix("-strict"))
        return f"{anaphor} → its antecedent ({relation})" if anaphor else relation
    if family in ("semantic", REPETITION):
        return f"word → its {_COPY if family == REPETITION else relation}"
    if family == "punctuation":
        return f"{relation} mark"
    if family == WORD_CLASS:
        return f"any {relation}"
    if family == "syntax" and relation in _EDGE_ENDS and looks_to in ("head", "dependent"):
        head, dependent = _EDGE_ENDS[relation]
        later, earlier = (head, dependent) if looks_to == "dependent" else (dependent, head)
        return f"{later} → its {earlier} ({relation})"
    return f"{relation} → {looks_to}"


def relation_name(relation: Relation) -> str:
    """Return the relation's name, with the suffix ``-strict`` if strict (docs/method.md)."""
    strict = relation.strict and not relation.name.endswith("-strict")
    return f"{relation.name}-strict" if strict else relation.name


def baseline_name(name: str, offset: int | None = None) -> str:
    """Format a baseline: ``nearest mention``; for the best fixed distance, ``2 words back``."""
    if name == "offset" and offset:
        return "1 word back" if offset == 1 else f"{offset} words back"
    return _BASELINES.get(name, name.replace("_", " "))


def text_loss(per_character: float, per_byte: float | None) -> str:
    """Format a model's loss on text: ``0.93 bits per byte (0.95 per character)``.

    The part in parentheses is missing where both are equal, as in plain ASCII.
    """
    if per_byte is None:
        return f"{per_character:.2f} bits per character"
    shown = f"{per_byte:.2f} bits per byte"
    same = f"{per_character:.2f}" == f"{per_byte:.2f}"
    return shown if same else f"{shown} ({per_character:.2f} per character)"


def fraction(value: float | None) -> str:
    """Format a share or a probability: ``.80``, ``1.00``."""
    return MISSING if value is None else _without_zero(f"{value:.2f}")


def small(value: float | None) -> str:
    """Format a share that may be tiny: ``.05``, ``.004``, ``<.001``."""
    if value is None:
        return MISSING
    return "<.001" if 0 < value < 0.001 else _without_zero(f"{value:.3f}".removesuffix("0"))


def ratio(value: float | None) -> str:
    """Format a ratio: ``1.32``, ``12.4``; NaN, which a ratio of zeros gives, as missing."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Format a gain: ``+.40``, ``-.03``."""
    if value is None:
        return MISSING
    text = fraction(abs(value))
    return f"{'-' if value < 0 and text != '.00' else '+'}{text}"


def span(low: float | None, high: float | None) -> str:
    """Format an interval of a gain: ``+.35 +.45``.

    Gains lie between -1 and 1. An interval that leaves this range was computed from too few folds,
    and is shown as ``too little data``.
    """
    if low is None or high is None:
        return MISSING
    return TOO_LITTLE if low < -1 or high > 1 else f"{signed(low)} {signed(high)}"


def p_value(value: float | None) -> str:
    """Format a p or q value: ``.03``, ``<.001``."""
    if value is None:
        return MISSING
    return "<.001" if value < 0.001 else _without_zero(f"{value:.3f}")


def suggest_names(name: str, names: Iterable[str], others: Iterable[str] = ()) -> str:
    """Return a remedy for a mistyped ``name``: similar names, or all ``names`` if none is similar.

    ``others`` are suggested only where they are similar.
    """
    known, more_known = (
        [each if each.isprintable() else repr(each) for each in dict.fromkeys(group)]
        for group in (names, others)
    )
    # Where names differ in case only, the first one is suggested.
    lower = {candidate.lower(): candidate for candidate in reversed([*known, *more_known])}
    close = [lower[match] for match in get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    if not known:
        return "There are none"
    more = len(known) - _MAX_SUGGESTIONS
    listed = ", ".join(known[:_MAX_SUGGESTIONS])
    return f"Choose from {listed}{f' and {more} more' if more > 0 else ''}"


def _without_zero(text: str) -> str:
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def decimal(value: float | None, digits: int = 2) -> str:
    """Format a number that is not a share: ``1.24``, ``.68``."""
    return MISSING if value is None else _without_zero(f"{value:.{digits}f}")


def count(value: int, singular: str, plural: str | None = None) -> str:
    """Format a number of things: ``1 head``, ``1,024 heads``."""
    return f"{value:,} {singular if value == 1 else plural or singular + 's'}"


def groups(n_kv_heads: Sequence[int]) -> str:
    """Format numbers of KV groups: ``4 KV groups``; ``[2, 4] KV groups`` if layers differ."""
    numbers = sorted(set(n_kv_heads))
    return count(numbers[0], "KV group") if len(numbers) == 1 else f"{numbers} KV groups"


def duration(seconds: float) -> str:
    """Format a duration: ``0.4 s``, ``38 s``, ``4 min 10 s``, ``2 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory(mebibytes: float | None) -> str:
    """Format an amount of memory: ``512 MiB``, ``14.2 GiB``."""
    if mebibytes is None:
        return MISSING
    return f"{mebibytes:,.0f} MiB" if mebibytes < 10_000 else f"{mebibytes / 1024:.1f} GiB"
