"""Names as tables and pages write them."""

from headprobe.store.relation import Relation


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
