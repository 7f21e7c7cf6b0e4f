"""Names as tables and pages write them."""

from headprobe.store.relation import Relation


def relation_name(relation: Relation) -> str:
    """The relation's name, with the suffix ``-strict`` where it is strict (METHOD section 2)."""
    strict = relation.strict and not relation.name.endswith("-strict")
    return f"{relation.name}-strict" if strict else relation.name
