"""Heads of two models, matched by where they look on the same words (docs/compare.md).

Two models have different tokenizers and passages, so their attention is compared on *named* rows:
the sketch of a run keeps the attention of words that are known by document, sentence and place.
Seats mean nothing across models, so heads are assigned one to one by similarity, never by index.

Letters in shapes: A heads of the first model, B of the second, T of a random twin, S shared rows;
the others are those of ``vocabulary``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from headprobe.arrays import Bools, Floats, Ints

FLOOR_PERCENTILE = 95
"""The percentile of the similarities with a random twin that a match must exceed."""

PERMUTATIONS = 9_999
"""The number of random permutations of the heads of each layer."""


def head_vectors(sketch: NDArray[Any], rows: Ints, words: Bools) -> Floats:
    """[N, K]: one vector per head whose products are sums of Hellinger affinities.

    ``sketch`` is [Q, L, H, J]; K are the shared words of all rows. Each row is renormalised over
    its shared words; a head that gives them nothing has zeros there.
    """
    layers, heads = sketch.shape[1:3]
    parts = []
    for row, shared in zip(rows.tolist(), words, strict=True):
        share = sketch[row][..., shared].astype(np.float64).reshape(layers * heads, -1)
        total = share.sum(1, keepdims=True)
        parts.append(np.sqrt(np.divide(share, total, out=np.zeros_like(share), where=total > 0)))
    return np.concatenate(parts, axis=1)


def similarity(one: Floats, other: Floats, rows: int) -> Floats:
    """[A, B]: the mean Hellinger affinity, sum(sqrt(p q)), of all pairs of heads over ``rows``
    shared rows; ``one`` and ``other`` are ``head_vectors``."""
    return np.asarray(one @ other.T / rows)


@dataclass(frozen=True)
class Matching:
    """The counterparts of the heads of the first model. Arrays are [A]."""

    assigned: Ints
    """The head of the second model that is assigned; -1 where it has fewer heads."""

    affinity: Floats
    """The similarity with the assigned head; NaN without one."""

    nearest: Bools
    """Whether each of the two is the other's most similar head."""

    floor: Floats
    """The larger of two percentiles: of the similarities of the head with the second model's
    random twin, and of its assigned head with the first model's. NaN where a twin is missing."""

    @property
    def matched(self) -> Bools:
        """Whether the pair is a match: each other's nearest, and above the floor."""
        return np.asarray(self.nearest & (self.affinity > self.floor))


def match_heads(
    similarities: Floats,
    floor_a: Floats | None,
    floor_b: Floats | None,
    pairs: Ints | None = None,
) -> Matching:
    """Assign the heads of two models one to one, so that their similarities [A, B] add up to most.

    ``pairs`` [A] gives the head that belongs to each one instead, where that is known. ``floor_a``
    [A] and ``floor_b`` [B] are those of ``twin_floor``; None where a twin is missing.
    """
    count = len(similarities)
    if pairs is None:
        first, second = linear_sum_assignment(similarities, maximize=True)
    else:
        first, second = np.arange(count), pairs
    assigned = np.full(count, -1)
    assigned[first] = second
    affinity, floor = np.full(count, np.nan), np.full(count, np.nan)
    affinity[first] = similarities[first, second]
    nearest = np.zeros(count, dtype=np.bool_)
    nearest[first] = (affinity[first] >= similarities[first].max(1)) & (
        affinity[first] >= similarities[:, second].max(0)
    )
    if floor_a is not None and floor_b is not None:
        floor[first] = np.maximum(floor_a[first], floor_b[second])
    return Matching(assigned, affinity, nearest, floor)


def twin_floor(with_twin: Floats) -> Floats:
    """[A]: the floor of each head, from its similarities [A, T] with a random twin's heads."""
    return np.asarray(np.percentile(with_twin, FLOOR_PERCENTILE, axis=1))


def self_assigned(gain_a: Floats, gain_b: Floats) -> float:
    """Return the share of heads that find themselves, when heads are assigned by their gains.

    ``gain_a`` and ``gain_b`` [N, R] are the gains of one run on the even and the odd document
    folds. It is the ceiling of any matching by what heads do: they differ by noise alone. NaN
    without relations that have both.
    """
    known = ~np.isnan(gain_a).any(0) & ~np.isnan(gain_b).any(0)
    if not known.any():
        return float("nan")
    one, other = gain_a[:, known], gain_b[:, known]
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    first, second = linear_sum_assignment(squares)
    return float((first == second).mean())


@dataclass(frozen=True)
class EqualSeats:
    """Whether the same seats of two models of one shape hold the same roles."""

    observed: int
    """The number of seats with the same role in both models; ``none`` does not count."""

    expected: float
    """The number that is expected when the heads of each layer change places at random."""

    p: float
    """The probability of as many or more then, by ``PERMUTATIONS`` permutations."""


def equal_seats(roles_a: NDArray[np.str_], roles_b: NDArray[np.str_], none: str) -> EqualSeats:
    """Compare the roles [L, H] of equal seats with chance.

    Heads without a role agree because they are many, so the role ``none`` does not count.
    """
    names, codes = np.unique([roles_a, roles_b], return_inverse=True)
    a, b = codes.reshape(2, *roles_a.shape)
    a = np.where(names[a] == none, -1, a)  # equal to no code of the other model
    kinds = np.arange(len(names))
    in_layer_a, in_layer_b = ((each[:, :, None] == kinds).sum(1) for each in (a, b))
    observed = int((a == b).sum())
    rng = np.random.default_rng(0)
    as_many = sum(
        int((a == rng.permuted(b, axis=1)).sum()) >= observed for _ in range(PERMUTATIONS)
    )
    expected = float((in_layer_a * in_layer_b).sum() / a.shape[1])
    return EqualSeats(observed, expected, (1 + as_many) / (1 + PERMUTATIONS))


def kappa(table: Mapping[tuple[str, str], int]) -> float:
    """Cohen's kappa of two labellings, from the counts of each pair of labels (Cohen 1960).

    NaN where both use one and the same label only.
    """
    total = sum(table.values())
    labels = {label for pair in table for label in pair}
    observed = sum(table.get((label, label), 0) for label in labels) / total
    expected = (
        sum(
            sum(n for (one, _), n in table.items() if one == label)
            * sum(n for (_, other), n in table.items() if other == label)
            for label in labels
        )
        / total**2
    )
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")
