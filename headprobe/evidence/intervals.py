"""How sure a gain is (METHOD section 4): fold-clustered intervals, without a resampling loop."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from headprobe.evidence.arrays import Floats


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
