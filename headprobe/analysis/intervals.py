"""How sure a gain is (METHOD section 4): fold-clustered intervals, without a resampling loop.

What a relation could show at all: how large a head's gain must be to be seen on so few words.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import stdtr, stdtrit

from headprobe.analysis.evidence import Bools, Evidence, Floats, Ints


@dataclass(frozen=True)
class Interval:
    """A mean difference [N] over paired instances, its standard ``error``, the two ends, and the
    smallest difference with any one form fold left out (NaN where forms are many enough to be a
    part of the interval). ``degrees`` of freedom are Student's; below 1 nothing but the mean is
    known (NaN)."""

    mean: Floats
    error: Floats
    degrees: float
    low: Floats
    high: Floats
    without_form: Floats

    @property
    def p(self) -> Floats:
        """[N]: the one-sided p of "not above zero"."""
        return one_sided_p(self.degrees, self.mean / self.error)


def one_sided_p(degrees: float, t: Floats) -> Floats:
    """The chance of a Student's t at least so large."""
    return np.asarray(stdtr(degrees, -t))


def quantile(degrees: float | Floats, level: float) -> Floats:
    """Student's t that is not passed with probability ``level``."""
    return np.asarray(stdtrit(degrees, level))


def effective_folds(sizes: Floats) -> float:
    """``1 / sum(w_j^2)`` for folds of so many instances [F]; 0 without any."""
    total = sizes.sum()
    return float(total**2 / (sizes**2).sum()) if total else 0.0


def few_forms(form_sizes: Floats, min_form_folds: float) -> bool:
    """Whether forms are left out one fold at a time instead of being a part of the interval."""
    return effective_folds(form_sizes) < min_form_folds


def fold_variance(sums: Floats, sizes: Floats) -> Floats:
    """Variance [N] of a mean by the linearised delete-one-fold jackknife.

    ``g/(g-1) * sum_j w_j^2 (theta_j - theta)^2`` with theta_j the mean of fold j, w_j its share of
    the instances and g the number of folds that have any. ``sums`` [F, N], ``sizes`` [F]; NaN for
    fewer than two folds.
    """
    filled = int((sizes > 0).sum())
    if filled < 2:
        return np.full(sums.shape[1], np.nan)
    total = sizes.sum()
    deviations = sums - sizes[:, None] * (sums.sum(0) / total)
    scatter = np.einsum("fn,fn->n", deviations, deviations)
    return np.asarray(scatter * filled / (filled - 1) / total**2)


def leave_one_out(sums: Floats, sizes: Floats) -> Floats:
    """[N]: the smallest mean with any one filled fold left out; NaN for fewer than two folds."""
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
    """The interval of mean differences whose sums are given by document and by form fold [F, N].

    The variances of the two groupings are added and the smaller of their degrees of freedom, one
    less than the effective number of folds, is Student's. Fewer than ``min_form_folds`` effective
    form folds leave the form part out and give ``without_form`` instead. No standard error is below
    one instance's weight, 1/n: folds that all agree to the last instance prove no certainty. Fewer
    than two effective document folds give no interval (NaN).
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
    """What the rules ask of evidence, whatever it is evidence for."""

    @property
    def confidence(self) -> float: ...
    @property
    def min_n(self) -> int: ...
    @property
    def min_form_folds(self) -> float: ...


class PowerThresholds(EvidenceThresholds, Protocol):
    """What the rules ask before a head may be named."""

    @property
    def margin(self) -> float: ...
    @property
    def min_forms(self) -> int: ...
    @property
    def power(self) -> float: ...


OUT_OF_REACH = "only a gain above what the baseline leaves is sure to be seen"
"""Why a relation with enough of everything still says little."""


@dataclass(frozen=True)
class Power:
    """Arrays [R]. ``error`` is the typical standard error of a gain: the median over heads, each
    against its named baseline. ``detectable`` is the smallest true gain that a head with such an
    error needs to be named with the demanded power, ``impossible`` where that is more than the
    typical baseline leaves. ``can_say`` is False where no head whatever could be named, ``why``
    says what it lacks first, or that the power is out of reach. ``best`` is the head (layer * heads
    + head, -1: none) with the largest gain on one half of the documents, ``best_gain`` its gain on
    the other. NaN: not computed."""

    error: Floats
    detectable: Floats
    impossible: Bools
    can_say: Bools
    why: tuple[str, ...]
    best: Ints
    best_gain: Floats


def find_power(evidence: Evidence, thresholds: PowerThresholds) -> Power:
    """The power of each relation of a run.

    ``detectable = margin + (t_c + t_power) * error``, t_c the quantile that the interval uses (the
    minimum detectable effect of Bloom 1995, Evaluation Review 19(5), moved by the margin). It is
    about ``gain_low`` alone: q, halves and mass may ask for more.
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
    layers, heads, relations = evidence.gain.shape
    chosen_by, told_by = (
        gains.reshape(layers * heads, relations) for gains in (evidence.gain_a, evidence.gain_b)
    )
    ranked = np.where(np.isnan(chosen_by), -np.inf, chosen_by)
    any_head = (ranked > -np.inf).any(0)
    best = ranked.argmax(0)
    gain = told_by[best, np.arange(relations)]
    return np.where(any_head, best, -1), np.where(any_head, gain, np.nan)


def _median_over_heads(values: Floats) -> Floats:
    """[R] of [L, H, R]; NaN where a relation has none."""
    layers, heads, relations = values.shape
    return np.asarray(np.median(values.reshape(layers * heads, relations), axis=0))
