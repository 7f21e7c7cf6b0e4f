"""Intervals of a gain, clustered by folds, and the power of a relation.

See ``docs/method.md``, "Intervals and multiple testing". The interval comes from a closed-form
jackknife over folds, so nothing is resampled. ``find_power`` says how large a head's gain must be
to be detected on the instances of a relation.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import stdtr, stdtrit

from headprobe.analysis.evidence import Bools, Evidence, Floats, Ints


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
    """[N]: the smallest mean with any one form fold left out; NaN where there are enough forms for
    the interval to include them."""

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


def effective_folds(sizes: Floats) -> float:
    """Return the effective number of folds, ``1 / sum_j w_j^2``; 0 without instances.

    ``sizes`` [F] are the instances of each fold, w_j is the share of fold j.
    """
    total = sizes.sum()
    return float(total**2 / (sizes**2).sum()) if total else 0.0


def few_forms(form_sizes: Floats, min_form_folds: float) -> bool:
    """Return whether there are too few form folds for the interval to include them."""
    return effective_folds(form_sizes) < min_form_folds


def fold_variance(sums: Floats, sizes: Floats) -> Floats:
    """Return the variance [N] of a mean by the linearised delete-one-fold jackknife.

    ``g/(g-1) * sum_j w_j^2 (theta_j - theta)^2`` with theta_j the mean of fold j, w_j its share of
    the instances and g the number of folds that have any. ``sums`` is [F, N], ``sizes`` [F]. NaN
    for fewer than two folds with instances.
    """
    filled = int((sizes > 0).sum())
    if filled < 2:
        return np.full(sums.shape[1], np.nan)
    total = sizes.sum()
    deviations = sums - sizes[:, None] * (sums.sum(0) / total)
    scatter = np.einsum("fn,fn->n", deviations, deviations)
    return np.asarray(scatter * filled / (filled - 1) / total**2)


def leave_one_out(sums: Floats, sizes: Floats) -> Floats:
    """Return the smallest mean [N] with any one fold left out.

    ``sums`` is [F, N], ``sizes`` [F]. NaN for fewer than two folds with instances.
    """
    filled = sizes > 0
    if filled.sum() < 2:
        return np.full(sums.shape[1], np.nan)
    rest = (sums.sum(0) - sums[filled]) / (sizes.sum() - sizes[filled])[:, None]
    return np.asarray(rest.min(0))


def interval(
    by_document: Floats,
    document_sizes: Floats,
    by_form: Floats,
    form_sizes: Floats,
    *,
    confidence: float,
    min_form_folds: float,
) -> Interval:
    """Return the interval of mean differences from their sums by document and by form fold [F, N].

    The variances of the two groupings are added. (Two-way clustering by Cameron, Gelbach and Miller
    2011 also subtracts the variance over pairs of folds; without that term the interval is wider.)
    The degrees of freedom are the smaller effective number of folds, minus 1. If there are fewer
    than ``min_form_folds`` effective form folds, the form part is left out and ``without_form`` is
    computed instead.

    No standard error is below one instance's weight, 1/n: folds that agree to the last instance
    prove no certainty. With fewer than two effective document folds the ends are NaN.
    """
    total = document_sizes.sum()
    mean = by_document.sum(0) / total
    degrees = effective_folds(document_sizes) - 1
    variance = fold_variance(by_document, document_sizes)
    if few_forms(form_sizes, min_form_folds):
        without_form = leave_one_out(by_form, form_sizes)
    else:
        degrees = min(degrees, effective_folds(form_sizes) - 1)
        variance = variance + fold_variance(by_form, form_sizes)
        without_form = np.full_like(mean, np.nan)
    if degrees < 1:
        nothing = np.full_like(mean, np.nan)
        return Interval(mean, nothing, degrees, nothing, nothing, without_form)
    error = np.sqrt(np.maximum(variance, 1 / total**2))
    reach = quantile(degrees, (1 + confidence) / 2) * error
    return Interval(mean, error, degrees, mean - reach, mean + reach, without_form)


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


class PowerThresholds(EvidenceThresholds, Protocol):
    """The thresholds of the rules file that the power of a relation depends on."""

    @property
    def margin(self) -> float:
        """Value that ``gain_low`` must exceed."""

    @property
    def min_forms(self) -> int:
        """Different target forms that a relation needs."""

    @property
    def power(self) -> float:
        """Probability with which a detectable gain earns a role."""


OUT_OF_REACH = "only a gain above what the baseline leaves is sure to be seen"
"""``Power.why`` of a relation whose detectable gain is more than the baseline leaves."""


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
    """What the relation lacks first, ``OUT_OF_REACH``, or an empty string."""
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
    few = evidence.form_folds < thresholds.min_form_folds
    folds = np.where(
        few, evidence.document_folds, np.minimum(evidence.document_folds, evidence.form_folds)
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
        (few & (evidence.forms < thresholds.min_forms), "too few target forms"),
        (few & ~(evidence.form_folds > 1), "its target forms share one fold"),
    ]
    why = [
        next(
            (text for lacking, text in lacks if lacking[index]),
            OUT_OF_REACH if impossible[index] else "",
        )
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
