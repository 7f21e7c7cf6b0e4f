"""Which words compete for a query, and where its targets stand, by word distance.

Sums over a relation's instances by document fold, by form fold and by domain, all at once.

The three groupings lie one after another on one axis S, which ``DOCUMENTS``, ``FORMS`` and
``DOMAINS`` cut apart; ``HALVES`` are the even and the odd document folds.

Query rows by the thousand: relations with one candidates' rule share the work on them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.evidence import Bools, Floats, Ints
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.vocabulary import FOLDS, LONGEST, Scope


@dataclass(frozen=True)
class Candidates:
    """The words that compete for each of some query words: the usable earlier words of its sentence
    or passage and, with ``strict``, none that has the query's lower-cased form (METHOD section 2).
    ``query`` [Q] holds word numbers."""

    instances: Instances
    query: Ints
    scope: Scope
    strict: bool

    @cached_property
    def low(self) -> Ints:
        """[Q]: the first word of the scope."""
        if self.scope == "sentence":
            return np.asarray(self.instances.sentence_first[self.query], dtype=np.int64)
        firsts = self.instances.passage_first[self.instances.passage[self.query]]
        return np.asarray(firsts, dtype=np.int64)

    @cached_property
    def extent(self) -> Ints:
        """[Q]: how many words, candidates or not, stand before the query in its scope."""
        return self.query - self.low

    def contain(self, words: Ints) -> Bools:
        """[Q, ...]: whether each of some word numbers, none negative, is a candidate of its row."""
        row = (slice(None), *[None] * (words.ndim - 1))
        allowed = self.instances.usable[words] & (words >= self.low[row])
        if self.strict:
            form = self.instances.folded_form
            allowed &= form[words] != form[self.query][row]
        return np.asarray(allowed & (words < self.query[row]))

    def count(self, among: Bools | None = None) -> Ints:
        """[Q]: how many candidates there are, or how many ``among`` [W] some words."""
        if among is None:
            counted = self.instances.usable_before
        else:
            counted = np.concatenate([[0], np.cumsum(among & self.instances.usable)])
        total = counted[self.query] - counted[self.low]
        return np.asarray(total - self._same_form(among) if self.strict else total)

    def _same_form(self, among: Bools | None) -> Ints:
        """[Q]: how many words of the scope are usable, ``among`` these, and of the query's form."""
        form, by_form = self.instances.folded_form, self.instances.usable_by_form
        keys = by_form if among is None else by_form[among[by_form % len(form)]]
        base = form[self.query] * len(form)
        return np.searchsorted(keys, base + self.query) - np.searchsorted(keys, base + self.low)

    def by_distance(self) -> Floats:
        """[Q, D']: the number of candidates at each word distance (index distance - 1), the last of
        ``LONGEST`` columns counting all from there on; as many columns as the longest row needs."""
        width = int(min(self.extent.max(initial=1), LONGEST))
        words = self.query[:, None] - np.arange(1, width + 1)
        counts = self.contain(np.maximum(words, 0)) & (words >= 0)
        table = counts.astype(np.float64)
        if width == LONGEST:
            table[:, -1] = self.count() - table[:, :-1].sum(1)
        return table

    def nearest(self, among: Bools, ended: Ints | None = None) -> Ints:
        """[Q]: the nearest candidate ``among`` [W] some words, -1 where there is none; with
        ``ended`` [W] only one whose number there is smaller than the query's."""
        members = np.flatnonzero(among & self.instances.usable)
        place = np.searchsorted(members, self.query) - 1
        nearest_words = np.full(len(self.query), -1, dtype=np.int64)
        pending = np.flatnonzero(place >= 0)
        while len(pending):
            word = members[place[pending]]
            within = word >= self.low[pending]
            pending, word = pending[within], word[within]
            rows = Candidates(self.instances, self.query[pending], self.scope, self.strict)
            suits = rows.contain(word)
            if ended is not None:
                suits &= ended[word] < rows.query
            nearest_words[pending[suits]] = word[suits]
            place[pending] -= 1
            pending = pending[~suits & (place[pending] >= 0)]
        return nearest_words

    def nearest_beyond(self) -> Ints:
        """[Q]: the distance of the nearest candidate at least ``LONGEST`` words away; 0: none."""
        distance = np.zeros_like(self.query)
        pending = np.flatnonzero(self.extent >= LONGEST)
        step = LONGEST
        while len(pending):
            rows = Candidates(self.instances, self.query[pending], self.scope, self.strict)
            is_candidate = rows.contain(rows.query - step)
            distance[pending[is_candidate]] = step
            step += 1
            pending = pending[~is_candidate & (rows.extent >= step)]
        return distance


def candidates_of(instances: Instances, links: RelationInstances) -> Candidates:
    """The candidates of every instance of a relation, Q = I."""
    query = np.asarray(links.query, dtype=np.int64)
    return Candidates(instances, query, links.relation.scope, links.relation.strict)


def target_table(links: RelationInstances, chosen: Ints, width: int) -> Bools:
    """[I', width]: whether the word at each distance (index distance - 1) is a target, for the
    instances ``chosen`` [I'] of a relation; no target may be farther than ``width``."""
    of, targets = links.targets_of(chosen)
    table = np.zeros((len(chosen), width), dtype=np.bool_)
    table[of, links.query[chosen][of] - targets - 1] = True
    return table


DOCUMENTS = slice(0, FOLDS)

FORMS = slice(FOLDS, 2 * FOLDS)

DOMAINS = slice(2 * FOLDS, None)

HALVES = (slice(0, FOLDS, 2), slice(1, FOLDS, 2))


@dataclass(frozen=True)
class GroupedInstances:
    """A relation's instances. ``groups`` [3, I] holds each one's places on S, an axis of ``length``
    places: its document fold, the form fold of its nearest target, and its domain."""

    links: RelationInstances
    groups: NDArray[np.unsignedinteger]
    length: int

    def sums(self, values: Floats | None = None) -> Floats:
        """[S] of ``values`` [I]; without them, how many instances there are."""
        total = np.zeros(self.length)
        for places in self.groups:
            total += np.bincount(places, weights=values, minlength=self.length)
        return total

    def sums_of_some(self, chosen: Ints, hits: Bools) -> Floats:
        """[S, N] of the ``hits`` [I', N] of the instances ``chosen`` [I']."""
        members = np.zeros((self.length, len(chosen)), dtype=np.float32)
        members[self.groups[:, chosen], np.arange(len(chosen))] = 1
        return np.asarray(members @ hits.astype(np.float32), dtype=np.float64)


def length_of_groups(instances: Instances) -> int:
    return 2 * FOLDS + len(instances.domains)


def group(instances: Instances, relation: int) -> GroupedInstances:
    """All instances of ``instances.relations[relation]``."""
    links = instances.of(relation)
    passage, length = instances.passage[links.query], length_of_groups(instances)
    groups = np.empty((3, len(links)), np.min_scalar_type(length))
    groups[0] = instances.document_fold[passage]
    groups[1] = FOLDS + instances.form_fold[links.nearest]
    groups[2] = 2 * FOLDS + instances.domain[passage]
    return GroupedInstances(links, groups, length)


MAX_ENTRIES = 1_000_000
"""Entries of the largest temporary array: rows by distances, or rows by heads."""


class RelationRows(NamedTuple):
    """The instances ``chosen`` [I'] of relation ``number`` and the rows [I'] they ask."""

    number: int
    relation: GroupedInstances
    chosen: Ints
    row: Ints


def slices(count: int, width: int) -> Iterator[slice]:
    """Pieces of an axis of ``count``, so long that with ``width`` of another they fit
    ``MAX_ENTRIES``."""
    size = max(1, MAX_ENTRIES // width)
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def shared_rows(
    instances: Instances, relations: Sequence[GroupedInstances], heads: int
) -> Iterator[tuple[Candidates, list[RelationRows]]]:
    """Every query word once for each rule of candidates (scope, strict), short rows first, with
    who asks it; so many rows at a time that neither rows by words nor rows by ``heads`` outgrow
    ``MAX_ENTRIES``."""
    alike = defaultdict(list)
    for index, relation in enumerate(relations):
        if len(relation.links):
            rule = relation.links.relation.scope, relation.links.relation.strict
            alike[rule].append(index)
    for (scope, strict), members in alike.items():
        asks = np.zeros(len(instances.form), dtype=np.bool_)
        for index in members:
            asks[relations[index].links.query] = True
        every = Candidates(instances, np.flatnonzero(asks), scope, strict)
        by_extent = np.argsort(every.extent, kind="stable")
        every = Candidates(instances, every.query[by_extent], scope, strict)
        rank = np.zeros(len(asks), dtype=np.min_scalar_type(len(asks)))
        rank[every.query] = np.arange(len(by_extent))
        asking = []
        for index in members:
            row = rank[relations[index].links.query]
            order = np.argsort(row, kind="stable").astype(rank.dtype)
            asking.append((index, order, row[order]))
        widest = max(int(every.extent.max(initial=1)), LONGEST)
        for part in slices(len(every.query), max(widest, heads)):
            found, edges = [], np.array([part.start, part.stop], dtype=rank.dtype)
            for index, order, row in asking:
                low, high = np.searchsorted(row, edges)  # of another dtype, rows would be copied
                if high > low:
                    some = order[low:high], row[low:high].astype(np.int64) - part.start
                    found.append(RelationRows(index, relations[index], *some))
            yield Candidates(instances, every.query[part], scope, strict), found
