"""Relations and numbers as people read them, in reasons, tables and pages alike."""

from headprobe.store.relation import Relation

MISSING = "–"


def asked_words(family: str, relation: str, looks_to: str) -> str:
    """What a head is asked for, as people read it: ``obj → head``, ``pronoun-strict`` (which looks
    to an antecedent), ``stop mark`` (``mark → head`` is UD's word for a subordinator)."""
    if family == "coreference":
        return relation
    return f"{relation} mark" if family == "punctuation" else f"{relation} → {looks_to}"


def relation_name(relation: Relation) -> str:
    """The relation's name, with the suffix ``-strict`` where it is strict (METHOD section 2)."""
    strict = relation.strict and not relation.name.endswith("-strict")
    return f"{relation.name}-strict" if strict else relation.name


def fraction(value: float | None) -> str:
    """A share or a probability: ``.80``, ``1.00``."""
    if value is None:
        return MISSING
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def signed(value: float | None) -> str:
    """A gain: ``+.40``, ``-.03``."""
    if value is None:
        return MISSING
    text = fraction(abs(value))
    return f"{'-' if value < 0 and text != '.00' else '+'}{text}"


def span(low: float | None, high: float | None) -> str:
    """An interval: ``+.35 +.45``."""
    return MISSING if low is None or high is None else f"{signed(low)} {signed(high)}"


def chance_of(value: float | None) -> str:
    """A p or q: ``.03``, ``<.001``."""
    if value is None:
        return MISSING
    return "<.001" if value < 0.001 else f"{value:.3f}".replace("0.", ".", 1)
