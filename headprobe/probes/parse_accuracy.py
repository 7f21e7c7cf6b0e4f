"""Accuracy of an annotator on gold sentences.

Gold and parsed words are compared where they have the same characters. A gold word without such a
parsed word counts as wrong. Punctuation is left out, because edges to marks are no relations, and
subtypes of relations are ignored.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from headprobe.probes.document import Sentence, Surface, Word
from headprobe.probes.passages import sentence_text

MIN_WORDS = 20
"""Gold words below which the accuracy of a relation is not given."""

Span = tuple[int, int]
"""First character of a word, and the one after its last."""


@dataclass(frozen=True)
class ParseAccuracy:
    """How often an annotator agrees with gold sentences. Shares are of the gold words."""

    sentences: int
    words: int
    """Gold words, without punctuation."""

    aligned: float
    """Share of words that the annotator separates in the same way."""

    upos: float
    """Share with the gold part of speech, of the aligned words."""

    uas: float
    """Share with the gold head."""

    las: float
    """Share with the gold head and relation."""

    relations: Mapping[str, float] = field(default_factory=dict)
    """Relation -> F1 of its edges, for relations with at least ``MIN_WORDS`` gold words."""


@dataclass
class _Counts:
    sentences: int = 0
    words: int = 0
    aligned: int = 0
    upos: int = 0
    heads: int = 0
    edges: int = 0
    gold: Counter[str] = field(default_factory=Counter)
    parsed: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)


def sample_sentences(
    groups: Sequence[Iterable[Sentence]], count: int, seed: str = ""
) -> list[Sentence]:
    """Return about ``count`` sentences with a tree, as many from each group as it has."""
    chosen: list[Sentence] = []
    for group in groups:
        with_tree = [s for s in group if any(word.deprel == "root" for word in s.words)]
        with_tree.sort(key=lambda s: hashlib.blake2b(f"{seed} {s.source}".encode()).digest())
        chosen.extend(with_tree[: -(-count // len(groups))])
    return chosen


def parse_accuracy(
    gold: Sequence[Sentence],
    parse: Callable[[Sequence[str]], Iterable[Sequence[tuple[Sequence[Word], Sequence[Surface]]]]],
) -> ParseAccuracy:
    """Compare gold sentences with what ``parse`` makes of their text.

    ``parse`` returns the sentences of each text. A gold sentence that is parsed as several has
    several roots.
    """
    counts = _Counts()
    texts = [sentence_text(sentence) for sentence in gold]
    for sentence, parsed in zip(gold, parse(texts), strict=True):
        counts.sentences += 1
        _compare(_edges([(sentence.words, sentence.surfaces)]), _edges(parsed), counts)
    words = max(counts.words, 1)
    return ParseAccuracy(
        sentences=counts.sentences,
        words=counts.words,
        aligned=counts.aligned / words,
        upos=counts.upos / max(counts.aligned, 1),
        uas=counts.heads / words,
        las=counts.edges / words,
        relations={
            name: 2 * counts.right[name] / (counts.gold[name] + counts.parsed[name])
            for name in sorted(counts.gold)
            if counts.gold[name] >= MIN_WORDS
        },
    )


@dataclass(frozen=True)
class _Edge:
    upos: str
    deprel: str
    head: Span | None


def _edges(
    sentences: Iterable[tuple[Sequence[Word], Sequence[Surface]]],
) -> dict[Span, _Edge]:
    """Return the edge of each word that has characters of its own, by its characters.

    Characters are counted without white space, so that it does not matter how much there is.
    """
    edges: dict[Span, _Edge] = {}
    start = 0
    for words, surfaces in sentences:
        spans: dict[int, Span] = {}
        for surface in surfaces:
            members = range(surface.first, surface.last + 1)
            separable = "".join(words[i].form for i in members) == surface.form
            at = start
            for index in members:
                if separable or len(members) == 1:
                    length = _length(words[index].form if len(members) > 1 else surface.form)
                    spans[index] = (at, at + length)
                    at += length
            start += _length(surface.form)
        for index, span in spans.items():
            word = words[index]
            head = None if word.head is None else spans.get(word.head, (-1, -1))
            edges[span] = _Edge(word.upos, word.deprel.partition(":")[0], head)
    return edges


def _length(form: str) -> int:
    return len("".join(form.split()))


def _compare(gold: Mapping[Span, _Edge], parsed: Mapping[Span, _Edge], counts: _Counts) -> None:
    counts.parsed.update(_relations(parsed))
    counts.gold.update(_relations(gold))
    for span, edge in gold.items():
        if edge.upos == "PUNCT":
            continue
        counts.words += 1
        other = parsed.get(span)
        if other is None:
            continue
        counts.aligned += 1
        counts.upos += edge.upos == other.upos
        if edge.head == other.head:
            counts.heads += 1
            if edge.deprel == other.deprel:
                counts.edges += 1
                counts.right[edge.deprel] += 1


def _relations(edges: Mapping[Span, _Edge]) -> Iterator[str]:
    return (edge.deprel for edge in edges.values() if edge.upos != "PUNCT")
