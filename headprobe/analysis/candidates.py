"""Which words compete with the targets of a query.

``Candidates`` is the only place that decides which words are candidates (``docs/method.md``,
"Relations"). Baselines, controls and examples all ask it.

``shared_rows`` goes through the query words of all relations in blocks of bounded size. Relations
with the same candidates (scope and rule) share the work on a query word.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from headprobe.arrays import Bools, Ints
from headprobe.runs.instances import Instances, Integers, RelationInstances, join_instances
from headprobe.vocabulary import CandidateRule, Scope

MAX_ENTRIES = 1_000_000
"""Entries of the largest temporary array (query rows by heads)."""


@dataclass(frozen=True)
class Candidates:
    """The candidates of each query word: the usable earlier words of its sentence or passage.

    ``rule`` says which of these compete (``vocabulary.CandidateRule``).
    """

    instances: Instances
    """The words of the run."""
    query: Ints
    """[Q]: word numbers of the queries."""
    scope: Scope
    """Whether candidates come from the query's sentence or from its passage."""
    rule: CandidateRule
    """Which words of the scope compete."""

    @cached_property
    def scope_first(self) -> Ints:
        """[Q]: word number of the first word in the query's sentence or passage."""
        if self.scope == "sentence":
            return np.asarray(self.instances.sentence_first[self.query], dtype=np.int64)
        firsts = self.instances.passage_first[self.instances.passage[self.query]]
        return np.asarray(firsts, dtype=np.int64)

    @cached_property
    def words_before(self) -> Ints:
        """[Q]: number of words before the query in its scope, whether candidates or not."""
        return self.query - self.scope_first

    def contain(self, words: Ints) -> Bools:
        """Return which ``words`` [Q, ...] are candidates of the query in their row.

        Word numbers must not be negative.
        """
        row = (slice(None), *[None] * (words.ndim - 1))
        allowed = self.instances.usable[words] & (words >= self.scope_first[row])
        if self.rule != "any":
            required, excluded = self.instances.candidate_keys(self.rule)
            allowed &= required[words] == required[self.query][row]
            allowed &= excluded[words] != excluded[self.query][row]
        return np.asarray(allowed & (words < self.query[row]))

    def pairs(self) -> tuple[Ints, Ints]:
        """Return every pair of a query and one of its candidates, sorted by query, then word.

        The first array [K] indexes ``query``, the second [K] holds the candidate's word number.
        The temporary arrays have ``words_before.sum()`` entries.
        """
        index = np.repeat(np.arange(len(self.query)), self.words_before)
        word = np.repeat(self.scope_first, self.words_before) + position_in_run(self.words_before)
        allowed = Candidates(self.instances, self.query[index], self.scope, self.rule).contain(word)
        return index[allowed], word[allowed]

    def count(self, among: Bools | None = None) -> Ints:
        """Return the number of candidates of each query [Q]; only words ``among`` [W] if given."""
        if self.rule == "same-upos":
            keys = self.instances.candidate_keys(self.rule)
            by_key = self.instances.usable_by_upos
            of_upos, of_lemma = (
                self._count_key(*each, among) for each in zip(keys, by_key, strict=True)
            )
            return of_upos - of_lemma
        if among is None:
            counted = self.instances.usable_before
        else:
            counted = np.concatenate([[0], np.cumsum(among & self.instances.usable)])
        total = np.asarray(counted[self.query] - counted[self.scope_first])
        if self.rule == "any":
            return total
        form = self.instances.folded_form
        return total - self._count_key(form, self.instances.usable_by_form, among)

    def _count_key(self, key: Integers, by_key: Integers, among: Bools | None) -> Ints:
        """[Q]: number of usable words in the scope, before the query, with the query's ``key`` [W].

        ``by_key`` are the usable words sorted by ``key * W + word number``.
        """
        keys = by_key if among is None else by_key[among[by_key % len(key)]]
        base = key[self.query].astype(np.int64) * len(key)
        after = np.searchsorted(keys, base + self.query)
        return after - np.searchsorted(keys, base + self.scope_first)

    def longest(self) -> tuple[Ints, Ints]:
        """Return the tokens of each query's longest candidate, and how many are as long, [Q] each.

        Evenly spread attention prefers these. They have no meaning for a query without candidates.
        """
        return self._longest_by_scan() if self.rule == "any" else self._longest_by_trial()

    def _longest_by_scan(self) -> tuple[Ints, Ints]:
        """``longest`` where all usable words of the scope are candidates.

        Both are running values over the words of each scope: the maximum of tokens so far, and a
        count that starts again wherever the maximum rises. Adding a base that grows with each scope
        lets one ``maximum.accumulate`` serve all scopes.
        """
        words = np.arange(len(self.instances.form))
        every = Candidates(self.instances, words, self.scope, "any")
        tokens = np.where(self.instances.usable, self.instances.tokens, 0).astype(np.int64)
        base = every.scope_first * (tokens.max(initial=0) + 1)
        most = np.maximum.accumulate(base + tokens)
        counted = np.cumsum(base + tokens == most)
        rises = np.diff(most, prepend=-1) > 0
        before = np.maximum.accumulate(np.where(rises, counted - 1, 0))
        last = self.query - 1
        return (most - base)[last], (counted - before)[last]

    def _longest_by_trial(self) -> tuple[Ints, Ints]:
        """``longest`` where not all words are candidates: try each length, longest first."""
        tokens = self.instances.tokens
        tied, most = np.zeros((2, len(self.query)), dtype=np.int64)
        for length in np.unique(tokens)[::-1]:
            count = self.count(tokens == length)
            decided = (tied == 0) & (count > 0)
            tied[decided], most[decided] = count[decided], length
            if tied.all():
                break
        return most, tied

    def nearest(self, among: Bools, ended: Ints | None = None) -> Ints:
        """Return the nearest candidate ``among`` [W] of each query [Q]; -1 if there is none.

        With ``ended`` [W], a word counts only if its value there is smaller than the query's word
        number.
        """
        # Each round moves every undecided query one member of `among` farther to the left.
        members = np.flatnonzero(among & self.instances.usable)
        place = np.searchsorted(members, self.query) - 1
        nearest_words = np.full(len(self.query), -1, dtype=np.int64)
        pending = np.flatnonzero(place >= 0)
        while len(pending):
            word = members[place[pending]]
            within = word >= self.scope_first[pending]
            pending, word = pending[within], word[within]
            rows = Candidates(self.instances, self.query[pending], self.scope, self.rule)
            suits = rows.contain(word)
            if ended is not None:
                suits &= ended[word] < rows.query
            nearest_words[pending[suits]] = word[suits]
            place[pending] -= 1
            pending = pending[~suits & (place[pending] >= 0)]
        return nearest_words


def candidates_of(instances: Instances, links: RelationInstances) -> Candidates:
    """Return the candidates of every instance of a relation (Q = I)."""
    query = np.asarray(links.query, dtype=np.int64)
    return Candidates(instances, query, links.relation.scope, links.relation.candidates)


def position_in_run(counts: Ints) -> Ints:
    """Return 0, 1, ..., count - 1 for each of ``counts``, one after another."""
    total = np.cumsum(counts)
    return np.arange(total[-1] if len(total) else 0) - np.repeat(total - counts, counts)


class BlockInstances(NamedTuple):
    """The instances of all relations whose queries are in a block of query rows, by relation.

    All arrays are of one type, because compiled loops exist once for each combination of types.
    """

    number: Ints
    """[I']: number of the instance in the run (``Instances.first_instance``)."""
    relation: Ints
    """[I']: index of its relation."""
    row: Ints
    """[I']: row of the block in which its query stands."""
    first: Ints
    """[I']: index into ``targets`` of its first target."""
    stop: Ints
    """[I']: index into ``targets`` after its last target."""
    targets: Ints
    """[K]: word numbers of the targets of all blocks."""

    @property
    def nearest(self) -> Ints:
        """[I']: word number of each instance's last target."""
        return self.targets[self.stop - 1]


def slices(count: int, width: int) -> Iterator[slice]:
    """Cut an axis of ``count``: each piece times ``width`` has at most ``MAX_ENTRIES`` entries."""
    size = max(1, MAX_ENTRIES // max(width, 1))
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def shared_rows(
    instances: Instances, relations: Sequence[RelationInstances], heads: int
) -> Iterator[tuple[Candidates, BlockInstances]]:
    """Yield the query words of all relations in blocks, with the instances that use each block.

    ``relations`` are those measured, in their order. A query word occurs once for each combination
    of scope and rule, so that relations with the same candidates share its row. Short rows come
    first. Rows times ``heads`` do not exceed ``MAX_ENTRIES`` in a block.
    """
    same_candidates = defaultdict(list)
    for index, links in enumerate(relations):
        if len(links):
            same_candidates[links.relation.scope, links.relation.candidates].append(index)
    for (scope, rule), members in same_candidates.items():
        is_query = np.zeros(len(instances.form), dtype=np.bool_)
        for index in members:
            is_query[relations[index].query] = True
        every = Candidates(instances, np.flatnonzero(is_query), scope, rule)
        by_length = np.argsort(every.words_before, kind="stable")
        every = Candidates(instances, every.query[by_length], scope, rule)
        rank = np.zeros(len(is_query), dtype=np.int64)
        rank[every.query] = np.arange(len(by_length))
        sizes = [len(relations[index]) for index in members]
        joined = join_instances([relations[index] for index in members])
        first, stop, targets = (
            each.astype(np.int64, copy=False)
            for each in (joined.first, joined.stop, joined.targets)
        )
        row = rank[joined.query]
        order = np.argsort(row, kind="stable")
        sorted_row = row[order]
        relation = np.repeat(members, sizes)
        starts = instances.first_instance[members]
        number = np.repeat(starts, sizes) + position_in_run(np.array(sizes))
        for part in slices(len(every.query), heads):
            # Sorted again, by place in the joined arrays, so that a relation's sums stay in cache
            some = np.sort(order[slice(*np.searchsorted(sorted_row, [part.start, part.stop]))])
            yield (
                Candidates(instances, every.query[part], scope, rule),
                BlockInstances(
                    number[some],
                    relation[some],
                    row[some] - part.start,
                    first[some],
                    stop[some],
                    targets,
                ),
            )
