"""A run of whole sentences of a document, seen with word indices of its own."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from headprobe.probes.document import Declared, Document, Mention, Sentence, Word


@dataclass(frozen=True)
class Excerpt:
    """Whole sentences of a document; word indices count from the first of their words.

    ``mentions`` are those whose head word is inside, by head word; ``declared`` are the links whose
    query is. Their other words may lie before the excerpt (a negative index) or after it.
    ``before`` are the entities that have a whole mention before the excerpt.
    """

    sentences: tuple[Sentence, ...]
    mentions: tuple[Mention, ...] = ()
    declared: tuple[Declared, ...] = ()
    before: frozenset[str] = frozenset()

    @cached_property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for sentence in self.sentences for word in sentence.words)

    @property
    def numbered(self) -> Iterator[tuple[int, Sentence]]:
        """(index of its first word, sentence)."""
        return zip(_starts(self.sentences), self.sentences, strict=False)


class Excerpts:
    """Takes excerpts out of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._starts = _starts(document.sentences)
        self._mentions = sorted(document.mentions, key=lambda mention: mention.head)
        self._declared = sorted(document.declared, key=lambda declared: declared.query)
        self._heads = [mention.head for mention in self._mentions]
        self._queries = [declared.query for declared in self._declared]
        self._first_end: dict[str, int] = {}
        for mention in document.mentions:
            end = self._first_end.get(mention.entity, mention.words[-1])
            self._first_end[mention.entity] = min(end, mention.words[-1])

    def take(self, first: int, last: int) -> Excerpt:
        """The sentences ``first`` to ``last`` - 1."""
        start, end = self._starts[first], self._starts[last]
        return Excerpt(
            self._document.sentences[first:last],
            tuple(
                Mention(
                    mention.entity, tuple(w - start for w in mention.words), mention.head - start
                )
                for mention in self._mentions[
                    bisect_left(self._heads, start) : bisect_left(self._heads, end)
                ]
            ),
            tuple(
                Declared(
                    declared.relation,
                    declared.query - start,
                    tuple(target - start for target in declared.targets),
                )
                for declared in self._declared[
                    bisect_left(self._queries, start) : bisect_left(self._queries, end)
                ]
            ),
            frozenset(entity for entity, end in self._first_end.items() if end < start),
        )


def _starts(sentences: Sequence[Sentence]) -> list[int]:
    """The index of each sentence's first word, and last the number of all words."""
    return [0, *accumulate(len(sentence.words) for sentence in sentences)]
