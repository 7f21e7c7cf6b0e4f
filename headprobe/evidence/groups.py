"""Sums over a relation's instances by document fold, by form fold and by domain, all at once.

The three groupings lie one after another on one axis S, which ``DOCUMENTS``, ``FORMS`` and
``DOMAINS`` cut apart; ``HALVES`` are the even and the odd document folds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headprobe.axes import FOLDS
from headprobe.evidence.arrays import Bools, Floats, Ints
from headprobe.store.instances import Instances, RelationInstances

DOCUMENTS = slice(0, FOLDS)
FORMS = slice(FOLDS, 2 * FOLDS)
DOMAINS = slice(2 * FOLDS, None)
HALVES = (slice(0, FOLDS, 2), slice(1, FOLDS, 2))


@dataclass(frozen=True)
class GroupedInstances:
    """A relation's instances. ``groups`` [3, I] holds each one's places on S, an axis of ``length``
    places: its document fold, the form fold of its nearest target, and its domain."""

    asked: RelationInstances
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
    asked = instances.of(relation)
    passage, length = instances.passage[asked.query], length_of_groups(instances)
    groups = np.empty((3, len(asked)), np.min_scalar_type(length))
    groups[0] = instances.document_fold[passage]
    groups[1] = FOLDS + instances.form_fold[asked.nearest]
    groups[2] = 2 * FOLDS + instances.domain[passage]
    return GroupedInstances(asked, groups, length)
