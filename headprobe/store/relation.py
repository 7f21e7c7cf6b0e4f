"""What a head can be asked to look for."""

from dataclasses import dataclass
from typing import Literal

Scope = Literal["sentence", "passage"]


@dataclass(frozen=True, order=True, slots=True)
class Relation:
    """A query word, the earlier words that are its targets, and what they compete with.

    ``scope`` says which earlier words are candidates: those of the query's sentence or those of the
    whole passage. With ``strict`` the words that have the query's own lower-cased form are neither
    targets nor candidates. With ``every`` each usable word of a passage is a query and the targets
    are all earlier words of the class ``name`` (METHOD section 2, punctuation); otherwise each
    instance is a link of its own.
    """

    family: str
    name: str
    looks_to: str
    scope: Scope = "passage"
    strict: bool = False
    every: bool = False
