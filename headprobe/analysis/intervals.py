"""Intervals of a gain, clustered by folds, and the power of a relation.

See ``docs/method.md``, "Intervals and multiple testing". The interval comes from closed-form
jackknives over folds, so nothing is resampled. ``find_power`` says how large a head's gain must be
to be detected on the instances of a relation.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import stdtr, stdtrit

from headprobe.analysis.evidence import Evidence
from headprobe.analysis.groups import Cells, GroupSums
from headprobe.analysis.kernels import add_squared_changes
from headprobe.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class Interval:
    """The interval of a mean difference over paired instances, for N heads.

    Where ``degrees`` is below 1, ``error``, ``low`` and ``high`` are NaN.
    """

    mean: Floats
    """[N]: the mean difference."""
    error: Floats
    """[N]: its standard error."""
    degrees: float
    """Student's degrees of freedom."""
    low: Floats
    """[N]: lower end."""
    high: Floats
    """[N]: upper end."""
    without_form: Floats
    """[N]: the smallest mean with any one form left out; NaN where there are enough forms for the
    interval to include them."""

    @property
    def p(self) -> Floats:
        """[N]: one-sided p of the null hypothesis that the mean is not above zero."""
        return one_sided_p(self.degrees, self.mean / self.error)


def one_sided_p(degrees: float, t: Floats) -> Floats:
    """Return the probability that Student's t is at least ``t`` [N]."""
    return np.asarray(stdtr(degrees, -t))


def quantile(degrees: float | Floats, level: float) -> Floats:
    """Return the quantile of Student's t at ``level``."""
    return np.asarray(stdtrit(degrees, level))


def delete_one_variance(sums: Floats, sizes: Floats) -> Floats:
    """Return the variance [N] of a mean by the delete-one-group jackknife.

    ``(g-1)/g * sum_j (w_j (theta_j - theta) / (1 - w_j))^2`` with theta_j the mean of group j, w_j
    its share of the instances and g the number of groups that have any. The terms are exact: they
    are the changes of the mean when group j is left out. (Linearised terms, without the division,
    are too small where a few groups hold most instances.)

    ``sums`` is [J, N], ``sizes`` [J]. NaN for fewer than two groups with instances.
    """
    filled = sizes > 0
    count, total = int(filled.sum()), sizes.sum()
    if count < 2:
        return np.full(sums.shape[1], np.nan)
    flat = np.ascontiguousarray(sums, dtype=np.float64).reshape(-1)
    mean = np.asarray(sums.sum(0) / total, dtype=np.float64)
    changes = np.zeros_like(mean)
    add_squared_changes(flat, sizes.astype(np.float64), float(total), mean, changes)
    return changes * ((count - 1) / count)


def leave_one_out(sums: Floats, sizes: Floats) -> Floats:
    """Return the smallest mean [N] with any one group left out.

    ``sums`` is [J, N], ``sizes`` [J]. NaN for fewer than two groups with instances.
    """
    filled = sizes > 0
    if filled.sum() < 2:
        return np.full(sums.shape[1], np.nan)
    rest = (sums.sum(0) - sums[filled]) / (sizes.sum() - sizes[filled])[:, None]
    return np.asarray(rest.min(0))


def interval(gains: GroupSums, cells: Cells, confidence: float) -> Interval:
    """Return the interval of mean differences, given their sums by group.

    The variance is clustered in two ways, by documents and by forms (Cameron, Gelbach and Miller
    2011, Journal of Business & Economic Statistics 29(2)): ``V_documents + V_forms - V_both``,
    where the groups of ``V_both`` are the pairs of a document fold and a form fold. Without the
    third term the noise of the instances counts twice. The difference of estimates can be too
    small, even
    negative, so neither single variance is undercut.

    Where forms are few, only documents enter the variance, and ``without_form`` is computed.

    No standard error is below one instance's weight, 1/n: folds that agree to the last instance
    prove no certainty. With fewer than two effective document folds the ends are NaN.
    """
    mean = gains.total / cells.total
    variance = delete_one_variance(gains.documents, cells.documents.sizes)
    without_form = np.full_like(mean, np.nan)
    if cells.few_forms:
        without_form = leave_one_out(gains.forms, cells.forms.sizes)
    else:
        by_form = delete_one_variance(gains.forms, cells.forms.sizes)
        both = delete_one_variance(gains.pairs, cells.pairs.sizes)
        variance = np.max([variance, by_form, variance + by_form - both], axis=0)
    if cells.degrees < 1:
        nothing = np.full_like(mean, np.nan)
        return Interval(mean, nothing, cells.degrees, nothing, nothing, without_form)
    error = np.sqrt(np.maximum(variance, 1 / cells.total**2))
    reach = quantile(cells.degrees, (1 + confidence) / 2) * error
    return Interval(mean, error, cells.degrees, mean - reach, mean + reach, without_form)


class EvidenceThresholds(Protocol):
    """The thresholds of the rules file that intervals depend on."""

    @property
    def confidence(self) -> float:
        """Confidence level of the two-sided intervals."""

    @property
    def min_n(self) -> int:
        """Instances that a relation needs."""

    @property
    def min_form_folds(self) -> float:
        """Effective form folds from which on the interval includes forms."""

    @property
    def min_forms(self) -> int:
        """Different target forms that a relation needs."""


class PowerThresholds(EvidenceThresholds, Protocol):
    """The thresholds of the rules file that the power of a relation depends on."""

    @property
    def margin(self) -> float:
        """Value that ``gain_low`` must exceed."""

    @property
    def power(self) -> float:
        """Probability with which a detectable gain earns a role."""


OUT_OF_REACH = "more instances are needed"
"""``Power.why`` of a relation whose detectable gain is more than the baseline leaves."""

NO_ROOM = "the baseline leaves too little to gain"
"""``Power.why`` of a relation whose typical baseline leaves no more than the margin."""


@dataclass(frozen=True)
class Power:
    """What each relation of a run can show. Arrays are [R]; NaN means not computed."""

    error: Floats
    """Typical standard error of a gain: the median over heads, each against its best baseline."""
    detectable: Floats
    """The smallest true gain with which a head with that error earns a role with the required
    power."""
    impossible: Bools
    """Whether ``detectable`` is more than the typical baseline leaves."""
    can_say: Bools
    """Whether the relation could give any head a role."""
    why: tuple[str, ...]
    """What the relation lacks first, ``NO_ROOM``, ``OUT_OF_REACH``, or an empty string."""
    best: Ints
    """The head (layer * heads + head) with the largest gain on the even document folds; -1 if no
    head has one."""
    best_gain: Floats
    """The gain of ``best`` on the odd document folds."""


def find_power(evidence: Evidence, thresholds: PowerThresholds) -> Power:
    """Return the power of each relation of a run.

    ``detectable = margin + (t_c + t_power) * error`` with t_c the quantile that the interval uses:
    the minimum detectable effect of Bloom 1995 (Evaluation Review 19(5)), shifted by the margin. It
    considers ``gain_low`` only; q, the halves and ``mass`` can require more.
    """
    in_variance = np.array([rule == "variance" for rule in evidence.form_rule], dtype=np.bool_)
    one_by_one = np.array([rule == "leave one out" for rule in evidence.form_rule], dtype=np.bool_)
    barred = np.array([rule == "barred" for rule in evidence.form_rule], dtype=np.bool_)
    folds = np.where(
        in_variance,
        np.minimum(evidence.document_folds, evidence.form_folds),
        evidence.document_folds,
    )
    error = _median_over_heads(evidence.gain_error)
    degrees = np.where(folds >= 2, folds - 1, np.nan)
    reach = quantile(degrees, (1 + thresholds.confidence) / 2) + quantile(degrees, thresholds.power)
    detectable = thresholds.margin + reach * error
    room = 1 - _median_over_heads(evidence.baseline_top1)
    impossible = detectable > room
    lacks = [
        (evidence.n < thresholds.min_n, "too few instances"),
        (evidence.document_folds < 2, "fewer than two effective document folds"),
        (barred, "too few target forms"),
        (one_by_one & (evidence.forms < max(thresholds.min_forms, 2)), "too few target forms"),
    ]
    doubts = [*lacks, (room <= thresholds.margin, NO_ROOM), (impossible, OUT_OF_REACH)]
    why = [
        next((text for applies, text in doubts if applies[index]), "")
        for index in range(len(evidence.n))
    ]
    best, best_gain = _held_out_gains(evidence)
    return Power(
        error=error,
        detectable=detectable,
        impossible=impossible,
        can_say=~np.logical_or.reduce([lacking for lacking, _ in lacks]),
        why=tuple(why),
        best=best,
        best_gain=best_gain,
    )


def _held_out_gains(evidence: Evidence) -> tuple[Ints, Floats]:
    """Each relation's best head on one half of the documents, and its gain on the other half."""
    layers, heads, relations = evidence.gain.shape
    gain_a, gain_b = (
        gains.reshape(layers * heads, relations) for gains in (evidence.gain_a, evidence.gain_b)
    )
    ranked = np.where(np.isnan(gain_a), -np.inf, gain_a)
    any_head = (ranked > -np.inf).any(0)
    best = ranked.argmax(0)
    gain = gain_b[best, np.arange(relations)]
    return np.where(any_head, best, -1), np.where(any_head, gain, np.nan)


def _median_over_heads(values: Floats) -> Floats:
    """[R]: median over the heads of [L, H, R]; NaN where a relation has no values."""
    layers, heads, relations = values.shape
    return np.asarray(np.median(values.reshape(layers * heads, relations), axis=0))
