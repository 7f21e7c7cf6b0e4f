"""Effects of ablations: intervals over clusters, comparison with null sets, p and q.

See ``docs/causal.md``. Clusters are document folds, or templates of minimal pairs.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.gains import benjamini_hochberg
from headprobe.analysis.groups import effective_folds
from headprobe.analysis.intervals import delete_one_variance, one_sided_p, quantile
from headprobe.arrays import Bools, Floats

TOO_FEW = "too few"
EXACT = "exact"
SAMPLED = "sampled"


class CausalThresholds(Protocol):
    """The thresholds of the rules file that effects depend on."""

    @property
    def confidence(self) -> float:
        """Confidence level of the two-sided intervals."""

    @property
    def max_p(self) -> float:
        """The largest p and q with which an effect counts."""

    @property
    def min_rows(self) -> int:
        """Rows of text that are needed among the query rows of a relation, and among the others."""

    @property
    def min_share(self) -> float:
        """The smallest share of the harm that counts as takeover: of the harm of both heads that is
        more than the sum, and of the harm of one head that another's reaction saves. Also the
        smallest rise of a role score."""


def min_sets(max_p: float) -> int:
    """Return the fewest null sets with which a p can be as small as ``max_p``: 19 for .05."""
    return math.ceil(1 / max_p - 1e-9) - 1


@dataclass(frozen=True)
class Effects:
    """Mean differences of S sets, with intervals; NaN where there are too few clusters."""

    mean: Floats
    """[S]: the mean over units."""
    low: Floats
    """[S]: lower end."""
    high: Floats
    """[S]: upper end."""
    p: Floats
    """[S]: one-sided p of the hypothesis that the mean is not above 0."""


def cluster_sums(values: Floats, cluster: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the sums [F, S] of ``values`` [S, U] over the units of each cluster, and the number of
    units [F] of each."""
    _, number = np.unique(cluster, return_inverse=True)
    sizes = np.bincount(number).astype(np.float64)
    weighted = [np.bincount(number, each, minlength=len(sizes)) for each in values]
    sums = np.stack(weighted, axis=1) if weighted else np.zeros((len(sizes), 0))
    return sums.astype(np.float64), sizes


def mean_effects(sums: Floats, sizes: Floats, confidence: float) -> Effects:
    """Return the means with their intervals, from sums by cluster [F, S] and sizes [F].

    The variance is that of the delete-one jackknife (``intervals.delete_one_variance``). Student's
    t with the effective number of clusters, minus 1, degrees of freedom.
    """
    total = sizes.sum()
    mean = sums.sum(0) / total
    degrees = effective_folds(sizes) - 1
    if len(sizes) < 2 or degrees < 1:
        nothing = np.full_like(mean, np.nan)
        return Effects(mean, nothing, nothing, nothing)
    error = np.sqrt(delete_one_variance(sums, sizes))
    reach = quantile(degrees, (1 + confidence) / 2) * error
    # Without any variation, as for a head that writes nothing, t is not defined
    t = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    return Effects(mean, mean - reach, mean + reach, one_sided_p(degrees, t))


@dataclass(frozen=True)
class NullComparison:
    """The effect of a set beside those of its null sets."""

    kind: str
    """``exact`` (all sets that exist), ``sampled``, or ``too few`` for a p."""
    sets: int
    median: float
    q95: float
    """95th percentile in the direction of harm."""
    p: float
    """(1 + the number of null sets that do as much harm) / (sets + 1); NaN for too few."""


def compare_with_null(harm: float, null_harm: Floats, exact: bool, fewest: int) -> NullComparison:
    """Compare the harm of a set with that of its null sets [N]; harm is positive.

    There is no p with fewer than ``fewest`` sets (``min_sets``).
    """
    count = len(null_harm)
    median, q95 = np.quantile(null_harm, [0.5, 0.95]) if count else (np.nan, np.nan)
    if count < fewest or np.isnan(harm):
        return NullComparison(TOO_FEW, count, float(median), float(q95), float("nan"))
    p = (1 + int((null_harm >= harm).sum())) / (count + 1)
    return NullComparison(EXACT if exact else SAMPLED, count, float(median), float(q95), p)


def selectivity(change: Floats, is_query: Bools, min_rows: int) -> Floats:
    """Return the mean change [S] of the loss at query rows minus that at all other rows.

    ``change`` is [S, U]; NaN where fewer than ``min_rows`` rows lie on either side.
    """
    if min(int(is_query.sum()), int((~is_query).sum())) < min_rows:
        return np.full(len(change), np.nan)
    return np.asarray(change[:, is_query].mean(1) - change[:, ~is_query].mean(1))


@dataclass(frozen=True)
class Ratio:
    """A ratio of sums over units, with its interval; NaN where there are too few clusters."""

    value: float
    low: float
    high: float


def cluster_ratio(
    numerator: Floats, denominator: Floats, cluster: NDArray[np.int64], confidence: float
) -> Ratio:
    """Return sum(numerator) / sum(denominator), both [U], with its interval over clusters.

    The variance is that of the delete-one jackknife of the ratio itself, with Student's t as in
    ``mean_effects``.
    """
    sums, sizes = cluster_sums(np.stack([numerator, denominator]), cluster)
    total = sums.sum(0)
    value = float(total[0] / total[1])
    degrees = effective_folds(sizes) - 1
    if len(sizes) < 2 or degrees < 1:
        return Ratio(value, float("nan"), float("nan"))
    others = total - sums
    changes = others[:, 0] / others[:, 1] - value
    error = float(np.sqrt((len(sizes) - 1) / len(sizes) * (changes**2).sum()))
    reach = float(quantile(degrees, (1 + confidence) / 2)) * error
    return Ratio(value, value - reach, value + reach)


def adjust(p: Floats) -> Floats:
    """Return q by Benjamini and Hochberg; NaN where p is NaN."""
    q, known = np.full_like(p, np.nan), ~np.isnan(p)
    if known.any():
        q[known] = benjamini_hochberg(p[known])
    return q
