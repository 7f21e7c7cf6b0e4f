"""The groups that a relation's instances belong to, and sums over them.

Hits are stored as one bit per instance and head. Judging unpacks one relation at a time and sums
its hits by *cell*, the finest grouping that any number needs: document fold, form of the nearest
target and domain. Sums by fold, by form or by domain are sums over cells.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from headprobe.analysis.kernels import sum_packed
from headprobe.arrays import Floats, Ints
from headprobe.compiled import split_over_threads, thread_count
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.vocabulary import FOLDS

_LANES = (
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.uint64)
    << np.arange(0, 64, 8, dtype=np.uint64)
).sum(1, dtype=np.uint64)
"""The eight bits of each byte as eight bytes of one number, the first bit in the lowest byte."""


def effective_folds(sizes: Floats) -> float:
    """Return the effective number of folds, ``1 / sum_j w_j^2``; 0 without instances.

    ``sizes`` [F] are the instances of each fold, w_j is the share of fold j.
    """
    total = sizes.sum()
    return float(total**2 / (sizes**2).sum()) if total else 0.0


@dataclass(frozen=True)
class Grouping:
    """A partition of cells [C] into groups, and the number of instances in each group."""

    group: Ints
    """[C]: the group of each cell."""
    sizes: Floats
    """[J]: instances in each group; groups may be empty."""

    @cached_property
    def _members(self) -> sparse.csr_array:
        """[J, C]: 1 where a cell is in a group."""
        count = len(self.group)
        places = (self.group, np.arange(count))
        return sparse.csr_array((np.ones(count), places), shape=(len(self.sizes), count))

    @cached_property
    def _is_identity(self) -> bool:
        """Whether every cell is a group by itself, in the same order."""
        return len(self.group) == len(self.sizes) and bool(
            (np.diff(self.group, prepend=-1) == 1).all()
        )

    def sums(self, cells: Floats) -> Floats:
        """Return the sums [J, N] of values by cell [C, N]."""
        if self._is_identity:
            return cells
        return np.asarray(self._members @ cells)


@dataclass(frozen=True)
class GroupSums:
    """Sums of values over the instances of a relation, in four groupings at once."""

    documents: Floats
    """[F, N]: by document fold."""
    forms: Floats
    """[J, N]: by form fold, or by form where forms are few."""
    pairs: Floats
    """[P, N]: by pair of the two."""
    domains: Floats
    """[G, N]: by domain."""

    def __sub__(self, other: "GroupSums") -> "GroupSums":
        return GroupSums(
            self.documents - other.documents,
            self.forms - other.forms,
            self.pairs - other.pairs,
            self.domains - other.domains,
        )

    @property
    def total(self) -> Floats:
        """[N]: sums over all instances."""
        return np.asarray(self.documents.sum(0))

    def half(self, parity: int) -> Floats:
        """[N]: sums over the even (0) or odd (1) document folds."""
        return np.asarray(self.documents[parity::2].sum(0))


@dataclass(frozen=True)
class Cells:
    """The cells [C] of a relation, and the instances in each."""

    sizes: Floats
    """[C]: number of instances."""
    document: Ints
    """[C]: document fold."""
    form: Ints
    """[C]: form fold of the nearest target, or its form itself where forms are few."""
    domain: Ints
    """[C]: domain."""
    n_domains: int
    """Number of domains of the run."""
    form_folds: float
    """Effective number of form folds."""
    few_forms: bool
    """Whether there are too few form folds for the variance to include forms. ``form`` is then
    exact, so that any one form can be left out by itself."""

    @cached_property
    def documents(self) -> Grouping:
        """By document fold."""
        return self._grouping(self.document, FOLDS)

    @cached_property
    def forms(self) -> Grouping:
        """By form fold, or by form where forms are few."""
        return self._grouping(self.form, int(self.form.max(initial=-1)) + 1)

    @cached_property
    def pairs(self) -> Grouping:
        """By pair of document fold and form fold."""
        keys = self.document * (self.form.max(initial=0) + 1) + self.form
        distinct, group = np.unique(keys, return_inverse=True)
        return self._grouping(group, len(distinct))

    @cached_property
    def domains(self) -> Grouping:
        """By domain."""
        return self._grouping(self.domain, self.n_domains)

    def _grouping(self, group: Ints, groups: int) -> Grouping:
        sizes = np.bincount(group, weights=self.sizes, minlength=groups)
        return Grouping(group, sizes.astype(np.float64))

    @property
    def total(self) -> float:
        """Number of instances."""
        return float(self.sizes.sum())

    @cached_property
    def document_folds(self) -> float:
        """Effective number of document folds."""
        return effective_folds(self.documents.sizes)

    @property
    def degrees(self) -> float:
        """Student's degrees of freedom: the smaller effective number of folds, minus 1; that of
        documents where forms are few."""
        few = self.few_forms
        return (self.document_folds if few else min(self.document_folds, self.form_folds)) - 1

    def sums(self, values: Floats) -> GroupSums:
        """Return the sums of values by cell [C, N] in all groupings."""
        return GroupSums(
            self.documents.sums(values),
            self.forms.sums(values),
            self.pairs.sums(values),
            self.domains.sums(values),
        )


@dataclass(frozen=True)
class GroupedInstances:
    """The instances of a relation, sorted into cells."""

    cells: Cells
    """The cells."""
    members: sparse.csr_array
    """[C, I]: 1 where an instance is in a cell."""

    def sums(self, values: NDArray[Any]) -> GroupSums:
        """Return the sums of values by instance [I, N] in all groupings."""
        return self.cells.sums(np.asarray(self.members @ values, dtype=np.float64))

    def hits(self, packed: NDArray[np.uint8], heads: int) -> GroupSums:
        """Return the sums of packed hits [I, Z] in all groupings."""
        order, edges = (
            each.astype(np.int64) for each in (self.members.indices, self.members.indptr)
        )
        count = len(edges) - 1
        sums = np.empty((count, heads))
        arrays = packed.reshape(-1), order, edges, _LANES, heads, sums.reshape(-1)
        split_over_threads(count, thread_count(), lambda low, high: sum_packed(low, high, *arrays))
        return self.cells.sums(sums)


def group_instances(
    instances: Instances, links: RelationInstances, min_form_folds: float
) -> GroupedInstances:
    """Sort the instances of a relation into cells.

    Forms are few where there are fewer than ``min_form_folds`` effective form folds.
    """
    passage, nearest = instances.passage[links.query], links.nearest
    form_fold = instances.form_fold[nearest]
    _, exact_form = np.unique(instances.folded_form[nearest], return_inverse=True)
    form_folds = effective_folds(np.bincount(form_fold, minlength=FOLDS).astype(np.float64))
    few_forms = form_folds < min_form_folds
    form = exact_form if few_forms else form_fold
    shape = FOLDS, int(form.max(initial=0)) + 1, max(len(instances.domains), 1)
    columns = instances.document_fold[passage], form, instances.domain[passage]
    keys, cell = np.unique(np.ravel_multi_index(columns, shape), return_inverse=True)
    document, form, domain = np.unravel_index(keys, shape)
    order = np.argsort(cell, kind="stable")
    sizes = np.bincount(cell, minlength=len(keys))
    members = sparse.csr_array(
        (np.ones(len(cell), np.int32), order, np.concatenate([[0], np.cumsum(sizes)])),
        shape=(len(keys), len(cell)),
    )
    return GroupedInstances(
        Cells(
            sizes=sizes.astype(np.float64),
            document=document,
            form=form,
            domain=domain,
            n_domains=len(instances.domains),
            form_folds=form_folds,
            few_forms=few_forms,
        ),
        members,
    )
