"""Annotated text as data: the documents that readers yield, and the passages cut from them.

``Word``, ``Surface``, ``PassageWord`` and ``Link`` are named tuples because a corpus holds hundreds
of thousands of them and a named tuple takes half as long to create as a dataclass.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from headprobe.vocabulary import Relation


class Word(NamedTuple):
    """A syntactic word of a sentence."""

    form: str

    upos: str = ""
    """Universal part of speech; empty where it is not annotated."""

    head: int | None = None
    """Index of the head in the sentence; None for a root, or where there is no tree."""

    deprel: str = ""
    """Dependency relation to the head, with its subtype; empty where it is not annotated."""

    lemma: str = ""
    """Dictionary form; empty where it is not annotated."""

    @property
    def lemma_key(self) -> str:
        """What words of one lemma share: the lower-cased lemma, or else the lower-cased form."""
        return (self.lemma or self.form).lower()


class Surface(NamedTuple):
    """A stretch of text that holds the words ``first`` to ``last`` of a sentence, both included.

    Most stretches hold one word; a multiword token ("don't", "du") holds several.
    """

    form: str
    first: int
    last: int
    space_after: bool = True


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence: its words, the text that holds them, and its place in the file (file:line)."""

    words: tuple[Word, ...]
    surfaces: tuple[Surface, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Mention:
    """A mention of an entity. ``words`` (ascending) and ``head`` are word indices."""

    entity: str
    words: tuple[int, ...]
    head: int


@dataclass(frozen=True, slots=True)
class DeclaredLink:
    """A link that the probe file declares itself; ``query`` and ``targets`` are word indices."""

    relation: Relation
    query: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """Sentences in order, and the annotation that spans them, in word indices of the document."""

    id: str
    domain: str
    sentences: tuple[Sentence, ...]

    source: str
    """Where the document starts (file:line)."""

    mentions: tuple[Mention, ...] = ()
    declared: tuple[DeclaredLink, ...] = ()

    cluster: str = ""
    """The text that the document fold is hashed from: for generated probes the template, else the
    id of the document."""

    annotated: bool = True
    """Whether its words have parts of speech, trees or links; False for plain text."""

    from_text: bool = False
    """Whether it is a plain text file. It has the relations of ``relations.TEXT_MAKERS``, even
    where a parser annotated it."""

    twins: Mapping[int, str] = field(default_factory=dict)
    """Word -> the unrelated form that stands at its place in the document's twin (docs/method.md,
    Baselines)."""


class PassageWord(NamedTuple):
    """A word of a passage; its characters are ``text[start:end]``, none where start == end."""

    form: str
    upos: str

    sentence: int
    """Index of the sentence in the passage."""

    start: int
    end: int
    deprel: str = ""

    lemma: str = ""
    """``Word.lemma_key``."""


class Link(NamedTuple):
    """An instance of a relation; ``targets`` ascend and all come before ``query``."""

    relation: Relation
    query: int
    targets: tuple[int, ...]

    entity: str = ""
    """The entity that query and targets refer to; empty where the relation has none."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Consecutive whole sentences of one document: its exact text and all links inside it."""

    id: str

    document: str
    """Id of the document."""

    domain: str
    cluster: str
    text: str
    words: tuple[PassageWord, ...]
    links: tuple[Link, ...]

    classes: Mapping[Relation, tuple[int, ...]] = field(default_factory=dict)
    """Relation with ``every`` -> the words of its class (docs/method.md, Relations)."""

    mention_ends: Mapping[int, int] = field(default_factory=dict)
    """Head word of mentions -> last word of the mention that ends first."""

    cut_off: int = 0
    """Number of instances that are lost because all their targets come before the passage."""

    source: str = ""
    """Where the passage starts (file:line)."""

    first_sentence: int = 0
    """Index of the passage's first sentence in the document."""

    twin: "Passage | None" = None
    """The same passage with unrelated words at the places of targets. Its links are those of the
    semantic relations whose targets are all replaced, with ``Relation.twin``; it has no other
    annotation."""
