"""Links that mean nothing: the control under which no head may be named (METHOD section 3)."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.candidates import Candidates
from headprobe.analysis.evidence import Ints
from headprobe.runs.instances import PAIRS, Instances, split_by_count
from headprobe.vocabulary import Scope


def shuffle_links(instances: Instances, seed: int) -> Instances:
    """The same queries with targets drawn at random, and marks where the words of their sentence
    happen to take them; everything else as it was.

    A link gets as many targets as it had, drawn from the candidates in its query's sentence, or
    where these leave no choice from all its candidates. In the classes of relations with ``every``
    each sentence's usable words swap places, so every sentence keeps its number of marks (the
    instances are then the words after its first one, wherever that came to stand). The same seed
    gives the same links with every version of numpy: only raw bits are drawn, whose stream is
    fixed.
    """
    bits = np.random.PCG64(seed)
    targets = np.array(instances.link_targets, dtype=np.int64)
    for number, relation in enumerate(instances.relations):
        chosen = np.flatnonzero(instances.link_relation == number)
        counts = np.diff(instances.link_first)[chosen]
        query = np.asarray(instances.link_query[chosen], dtype=np.int64)
        near = Candidates(instances, query, "sentence", relation.strict)
        free = near.count() > counts
        scopes: tuple[Scope, Scope] = ("sentence", relation.scope)
        for whole, scope in zip((free, ~free), scopes, strict=True):
            links = np.flatnonzero(whole)
            every = Candidates(instances, query[links], scope, relation.strict)
            for some in split_by_count(every.extent, PAIRS):
                rows = links[some]
                first = np.asarray(instances.link_first[chosen[rows]], dtype=np.int64)
                words = _Pairs(instances, query[rows], scope, relation.strict).draw(
                    counts[rows], bits
                )
                targets[np.repeat(first, counts[rows]) + _within(counts[rows])] = words
    return replace(instances, link_targets=targets, word_classes=_shuffle_classes(instances, bits))


class _Pairs:
    """Every (query, candidate) pair of some queries, one after another: ``of`` [K] says which
    query, ``word`` [K] the candidate; ``counts`` [Q]."""

    def __init__(self, instances: Instances, query: Ints, scope: Scope, strict: bool) -> None:
        rows = Candidates(instances, query, scope, strict)
        of = np.repeat(np.arange(len(query)), rows.extent)
        word = np.repeat(rows.low, rows.extent) + _within(rows.extent)
        allowed = Candidates(instances, query[of], scope, strict).contain(word)
        self.of, self.word = of[allowed], word[allowed]
        self.counts = np.bincount(self.of, minlength=len(query))

    def draw(self, counts: Ints, bits: np.random.PCG64) -> Ints:
        """[K']: of each query's candidates as many as ``counts`` [Q] says, ascending."""
        order = np.lexsort((_keys(bits, len(self.of)), self.of))
        kept = np.sort(order[_within(self.counts) < np.repeat(counts, self.counts)])
        return self.word[kept]


def _shuffle_classes(instances: Instances, bits: np.random.PCG64) -> Ints:
    classes = np.array(instances.word_classes, dtype=np.int64)
    words = np.flatnonzero(instances.usable)
    sentence = instances.sentence_first[words]
    order = np.lexsort((_keys(bits, len(words)), sentence))
    classes[words] = classes[words[order]]
    return classes


def _keys(bits: np.random.PCG64, size: int) -> NDArray[np.uint64]:
    return np.asarray(bits.random_raw(size), dtype=np.uint64)


def _within(counts: Ints) -> Ints:
    """0, 1, ... within each run of so many."""
    total = np.cumsum(counts)
    return np.arange(total[-1] if len(total) else 0) - np.repeat(total - counts, counts)
