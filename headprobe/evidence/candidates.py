"""Which words compete for a query, and where its targets stand, by word distance."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headprobe.axes import LONGEST
from headprobe.evidence.arrays import Bools, Floats, Ints
from headprobe.store.instances import Instances, RelationInstances
from headprobe.store.relation import Scope


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
        found = np.full(len(self.query), -1, dtype=np.int64)
        pending = np.flatnonzero(place >= 0)
        while len(pending):
            word = members[place[pending]]
            within = word >= self.low[pending]
            pending, word = pending[within], word[within]
            rows = Candidates(self.instances, self.query[pending], self.scope, self.strict)
            suits = rows.contain(word)
            if ended is not None:
                suits &= ended[word] < rows.query
            found[pending[suits]] = word[suits]
            place[pending] -= 1
            pending = pending[~suits & (place[pending] >= 0)]
        return found

    def nearest_beyond(self) -> Ints:
        """[Q]: the distance of the nearest candidate at least ``LONGEST`` words away; 0: none."""
        distance = np.zeros_like(self.query)
        pending = np.flatnonzero(self.extent >= LONGEST)
        step = LONGEST
        while len(pending):
            rows = Candidates(self.instances, self.query[pending], self.scope, self.strict)
            found = rows.contain(rows.query - step)
            distance[pending[found]] = step
            step += 1
            pending = pending[~found & (rows.extent >= step)]
        return distance


def candidates_of(instances: Instances, asked: RelationInstances) -> Candidates:
    """The candidates of every instance of a relation, Q = I."""
    query = np.asarray(asked.query, dtype=np.int64)
    return Candidates(instances, query, asked.relation.scope, asked.relation.strict)


def target_table(asked: RelationInstances, chosen: Ints, width: int) -> Bools:
    """[I', width]: whether the word at each distance (index distance - 1) is a target, for the
    instances ``chosen`` [I'] of a relation; no target may be farther than ``width``."""
    of, targets = asked.targets_of(chosen)
    table = np.zeros((len(chosen), width), dtype=np.bool_)
    table[of, asked.query[chosen][of] - targets - 1] = True
    return table
