"""Annotated text as the readers give it: documents, not yet cut into passages.

What there are a hundred thousand of are named tuples, which are made in half the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from headprobe.vocabulary import Relation


class Word(NamedTuple):
    """A syntactic word. ``head`` is an index in its sentence; None for a root or without a tree."""

    form: str
    upos: str = ""
    head: int | None = None
    deprel: str = ""


class Surface(NamedTuple):
    """A stretch of text that holds the words ``first`` to ``last`` of a sentence (both included).

    Most hold one word; a multiword token ("don't", "du") holds several.
    """

    form: str
    first: int
    last: int
    space_after: bool = True


@dataclass(frozen=True, slots=True)
class Sentence:
    """Whole sentence: its words, the text that holds them, and where it stands (file:line)."""

    words: tuple[Word, ...]
    surfaces: tuple[Surface, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Mention:
    """A mention of an entity. ``words`` (ascending) and ``head`` are words of the document."""

    entity: str
    words: tuple[int, ...]
    head: int


@dataclass(frozen=True, slots=True)
class DeclaredLink:
    """A link that the probe file itself declares, in word indices of the document."""

    relation: Relation
    query: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A document: sentences in order and what is known across them.

    ``cluster`` is what the document fold is hashed from: the id, or for generated probes the
    template. ``annotated`` is False for plain text, which carries no relation at all.
    """

    id: str
    domain: str
    sentences: tuple[Sentence, ...]
    source: str
    mentions: tuple[Mention, ...] = ()
    declared: tuple[DeclaredLink, ...] = ()
    cluster: str = ""
    annotated: bool = True


class PassageWord(NamedTuple):
    """A word in a passage; its characters are ``text[start:end]``, none where start == end."""

    form: str
    upos: str
    sentence: int
    start: int
    end: int
    deprel: str = ""


class Link(NamedTuple):
    """An instance of a relation; ``targets`` ascend and all stand before ``query``."""

    relation: Relation
    query: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A run of whole sentences of one document, its exact text, and every link within it.

    ``classes`` gives, for each relation with ``every``, the words of its class (METHOD section 2);
    ``mention_ends`` for each word that heads mentions the last word of the one that ends first;
    ``cut_off`` counts the instances whose targets all stand before it.
    """

    id: str
    document: str
    domain: str
    cluster: str
    text: str
    words: tuple[PassageWord, ...]
    links: tuple[Link, ...]
    classes: Mapping[Relation, tuple[int, ...]] = field(default_factory=dict)
    mention_ends: Mapping[int, int] = field(default_factory=dict)
    cut_off: int = 0
    source: str = ""
