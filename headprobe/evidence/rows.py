"""Query rows by the thousand: relations with one candidates' rule share the work on them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from headprobe.axes import LONGEST
from headprobe.evidence.arrays import Ints
from headprobe.evidence.candidates import Candidates
from headprobe.evidence.groups import GroupedInstances
from headprobe.store.instances import Instances

ROOM = 1_000_000
"""Entries of the largest temporary array: rows by distances, or rows by heads."""


class Asking(NamedTuple):
    """The instances ``chosen`` [I'] of relation ``number`` and the rows [I'] they ask."""

    number: int
    relation: GroupedInstances
    chosen: Ints
    row: Ints


def cut(count: int, width: int) -> Iterator[slice]:
    """Pieces of an axis of ``count``, so long that with ``width`` of another they fit ``ROOM``."""
    size = max(1, ROOM // width)
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))


def shared_rows(
    instances: Instances, relations: Sequence[GroupedInstances], heads: int
) -> Iterator[tuple[Candidates, list[Asking]]]:
    """Every query word once for each rule of candidates (scope, strict), short rows first, with
    who asks it; so many rows at a time that neither rows by words nor rows by ``heads`` outgrow
    ``ROOM``."""
    alike = defaultdict(list)
    for index, relation in enumerate(relations):
        if len(relation.asked):
            rule = relation.asked.relation.scope, relation.asked.relation.strict
            alike[rule].append(index)
    for (scope, strict), members in alike.items():
        asks = np.zeros(len(instances.form), dtype=np.bool_)
        for index in members:
            asks[relations[index].asked.query] = True
        every = Candidates(instances, np.flatnonzero(asks), scope, strict)
        by_extent = np.argsort(every.extent, kind="stable")
        every = Candidates(instances, every.query[by_extent], scope, strict)
        rank = np.zeros(len(asks), dtype=np.min_scalar_type(len(asks)))
        rank[every.query] = np.arange(len(by_extent))
        asking = []
        for index in members:
            row = rank[relations[index].asked.query]
            order = np.argsort(row, kind="stable").astype(rank.dtype)
            asking.append((index, order, row[order]))
        widest = max(int(every.extent.max(initial=1)), LONGEST)
        for part in cut(len(every.query), max(widest, heads)):
            found, edges = [], np.array([part.start, part.stop], dtype=rank.dtype)
            for index, order, row in asking:
                low, high = np.searchsorted(row, edges)  # of another dtype, rows would be copied
                if high > low:
                    some = order[low:high], row[low:high].astype(np.int64) - part.start
                    found.append(Asking(index, relations[index], *some))
            yield Candidates(instances, every.query[part], scope, strict), found
