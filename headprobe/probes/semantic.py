"""Semantic relations: word pairs that a probe file names, and twins of its passages.

A file of word pairs has one pair a line, in four columns separated by tabs: the relation
(``synonym``, ``antonym`` or ``hypernym``), the part of speech of both words (UPOS), and two lemmas.
Of a hypernym the more general word comes last. Lines that start with ``#`` are comments. Each later
word of a document is linked to all earlier words that are so related to it; those of synonyms and
antonyms in either order, those of hypernyms only where the general word comes first.

The twin of a passage has an unrelated word at the place of each target. A head that answers to the
meaning of a word no longer has a reason to look there (docs/method.md, Baselines).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from headprobe.format import suggest_names
from headprobe.probes.document import DeclaredLink, Document, Sentence, Word
from headprobe.probes.file import ProbeFile
from headprobe.vocabulary import UPOS, Relation

SEMANTIC = ("synonym", "antonym", "hypernym")
"""The semantic relations."""

_COLUMNS = "relation, part of speech, word, related word"


def semantic_relation(name: str) -> Relation:
    """Return a relation of ``SEMANTIC`` by name."""
    return Relation("semantic", name, "word", same_upos=True)


@dataclass
class WordPairs:
    """Pairs of related words, by part of speech and lower-cased lemma of the later word."""

    related: dict[tuple[str, str], dict[str, set[str]]] = field(default_factory=dict)
    """(UPOS, lemma of the later word) -> relation -> lemmas of the earlier words."""

    def add(self, relation: str, upos: str, word: str, related: str) -> None:
        """Add a pair; of a hypernym, ``related`` is the more general word."""
        self._add(relation, upos, word.lower(), related.lower())
        if relation != "hypernym":
            self._add(relation, upos, related.lower(), word.lower())

    def _add(self, relation: str, upos: str, later: str, earlier: str) -> None:
        self.related.setdefault((upos, later), {}).setdefault(relation, set()).add(earlier)

    def links(self, words: Sequence[Word]) -> Iterator[DeclaredLink]:
        """Yield a link for each word of a document and relation that has earlier words."""
        places: dict[tuple[str, str], list[int]] = {}
        for query, word in enumerate(words):
            key = word.upos, word.lemma_key
            for name, lemmas in self.related.get(key, {}).items():
                targets = [
                    place for lemma in lemmas for place in places.get((word.upos, lemma), ())
                ]
                if targets:
                    yield DeclaredLink(semantic_relation(name), query, tuple(sorted(targets)))
            places.setdefault(key, []).append(query)


def read_pairs(file: ProbeFile) -> WordPairs:
    """Read a file of word pairs. Raises HeadprobeError with file:line where it is malformed."""
    pairs = WordPairs()
    for number, line in enumerate(file.lines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 4 or not all(cells):
            raise file.error(
                number,
                f"{line.strip()[:60]!r} is not a word pair",
                f"Write four columns separated by tabs: {_COLUMNS}",
            )
        relation, upos, word, related = cells
        if relation not in SEMANTIC:
            raise file.error(
                number,
                f"{relation[:40]!r} is not a semantic relation",
                suggest_names(relation, SEMANTIC),
            )
        if upos not in UPOS:
            raise file.error(
                number, f"{upos[:40]!r} is not a part of speech", suggest_names(upos, UPOS[1:])
            )
        if word.lower() == related.lower():
            raise file.error(number, f"{word[:40]!r} is paired with itself", "Remove the line")
        pairs.add(relation, upos, word, related)
    return pairs


def twin_document(document: Document) -> Document:
    """Return the twin of a document, with the same number of words in the same sentences.

    Its only annotation are the links of semantic relations whose targets are all replaced.
    """
    twins, first = document.twins, 0
    sentences = []
    for sentence in document.sentences:
        sentences.append(_twin_sentence(sentence, first, twins))
        first += len(sentence.words)
    links = tuple(
        link
        for link in document.declared
        if link.relation.family == "semantic" and all(target in twins for target in link.targets)
    )
    return replace(document, sentences=tuple(sentences), mentions=(), declared=links, twins={})


def _twin_sentence(sentence: Sentence, first: int, twins: Mapping[int, str]) -> Sentence:
    forms = {
        index: twins[first + index]
        for index in range(len(sentence.words))
        if first + index in twins
    }
    if not forms:
        return sentence
    words = tuple(
        word._replace(form=forms[index], lemma="") if index in forms else word
        for index, word in enumerate(sentence.words)
    )
    surfaces = tuple(
        surface._replace(form=forms[surface.first]) if surface.first in forms else surface
        for surface in sentence.surfaces
    )
    return Sentence(words, surfaces, sentence.source)
