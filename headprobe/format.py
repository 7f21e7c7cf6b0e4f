"""Text of others, made safe to look at.

Relations and numbers as people read them, in reasons, tables and pages alike.

Numbers as people read them.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from headprobe.vocabulary import Relation

_JOINERS = "\u200c\u200d"

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def safe_text(text: str) -> str:
    """``text`` on one line, every character visible.

    Control characters, bidi overrides, invisible format characters, lone surrogates and line
    separators come out as escapes (``\\x1b``, ``\\u202e``); zero-width joiners stay where a script
    that needs them (Persian, Hindi, emoji) puts them. Markup is text: consoles here never parse it.
    """
    if text.isascii() and text.isprintable():
        return text
    pieces = []
    before = ""
    for character in text:
        joins = character in _JOINERS and before > "\u02ff" and before not in _JOINERS
        hidden = unicodedata.category(character) in _HIDDEN and not joins
        pieces.append(_escape(character) if hidden else character)
        before = character
    return "".join(pieces)


def _escape(character: str) -> str:
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clip(text: str, width: int) -> str:
    """``safe_text(text)``, cut to ``width`` characters with an ellipsis for its end."""
    shown = safe_text(text)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def clip_start(text: str, width: int) -> str:
    """``safe_text(text)``, cut to ``width`` characters with an ellipsis for its beginning
    (paths)."""
    shown = safe_text(text)
    return shown if len(shown) <= width else "…" + shown[len(shown) - width + 1 :]


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


def p_value(value: float | None) -> str:
    """A p or q: ``.03``, ``<.001``."""
    if value is None:
        return MISSING
    return "<.001" if value < 0.001 else _without_zero(f"{value:.3f}")


def _without_zero(text: str) -> str:
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def decimal(value: float | None, digits: int = 2) -> str:
    """A number that is no share: ``1.24``, ``.68``."""
    if value is None:
        return MISSING
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def count(value: int, one: str, many: str | None = None) -> str:
    """``1 head``, ``1,024 heads``."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def groups(n_kv_heads: Sequence[int]) -> str:
    """``4 KV groups``; ``[2, 4] KV groups`` where layers differ."""
    found = sorted(set(n_kv_heads))
    return count(found[0], "KV group") if len(found) == 1 else f"{found} KV groups"


def duration(seconds: float) -> str:
    """``0.4 s``, ``38 s``, ``4 min 10 s``, ``2 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory(mebibytes: float | None) -> str:
    """``512 MiB``, ``14.2 GiB``."""
    if mebibytes is None:
        return MISSING
    return f"{mebibytes:,.0f} MiB" if mebibytes < 10_000 else f"{mebibytes / 1024:.1f} GiB"
