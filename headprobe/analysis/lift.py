"""How much more attention targets get than the head's own distance profile would give them.

``top1`` has no scale: a head whose attention is almost even can win most comparisons by a hair. The
lift compares amounts instead. It is the ratio of odds(share) to odds(distance_share), where
``share`` is the stripped attention on the targets and ``distance_share`` what the head's distance
profile predicts for them; odds, because words nearby leave a plain ratio no room. See
``docs/method.md``, "Lift".
"""

from dataclasses import dataclass

import numpy as np

from headprobe.analysis.evidence import divide
from headprobe.analysis.groups import Cells
from headprobe.analysis.intervals import delete_one_variance, quantile
from headprobe.arrays import Floats


@dataclass(frozen=True)
class ShareSums:
    """A share of attention summed over the instances of a relation, for N heads."""

    by_document: Floats
    """[F, N]: by document fold."""
    by_form: Floats
    """[F, N]: by form fold of the nearest target."""

    @property
    def total(self) -> Floats:
        """[N]: over all instances."""
        return np.asarray(self.by_document.sum(0))


@dataclass(frozen=True)
class Lift:
    """The lift of N heads on one relation. NaN where a mean share is 0 or 1."""

    share: Floats
    """[N]: mean stripped attention on the targets."""
    distance_share: Floats
    """[N]: the mean share that the distance profile predicts, the larger of its two forms."""
    lift: Floats
    """[N]: odds(share) / odds(distance_share)."""
    low: Floats
    """[N]: its lower end."""
    without_form: Floats
    """[N]: the smallest lift with any one form fold left out; NaN where there are enough forms for
    the interval to include them."""


def lift_of(
    share: ShareSums,
    predicted: tuple[ShareSums, ShareSums],
    cells: Cells,
    form_sizes: Floats,
    confidence: float,
) -> Lift:
    """Return the lift of every head, given sums of its share and of the two predicted shares.

    ``form_sizes`` [F] are the instances of each form fold. The standard error of log(lift) is that
    of the mean of its linear part, ``u_i = (share_i - share) / (share (1 - share)) - (predicted_i -
    predicted) / (predicted (1 - predicted))``. The variances by documents and by forms are added,
    or that by documents is taken alone where forms are few. Degrees of freedom are the gain's.
    """
    n = cells.total
    is_second = predicted[1].total > predicted[0].total
    expected = ShareSums(
        np.where(is_second, predicted[1].by_document, predicted[0].by_document),
        np.where(is_second, predicted[1].by_form, predicted[0].by_form),
    )
    means = share.total / n, expected.total / n
    lift = _lift(*means)
    slopes = [divide(np.ones_like(mean), mean * (1 - mean)) for mean in means]

    def deviations(sums: tuple[Floats, Floats], sizes: Floats) -> Floats:
        """[F, N]: sums of u."""
        parts = [
            (each - sizes[:, None] * mean) * slope
            for each, mean, slope in zip(sums, means, slopes, strict=True)
        ]
        return np.asarray(parts[0] - parts[1])

    document_sizes = cells.documents.sizes
    by_document = deviations((share.by_document, expected.by_document), document_sizes)
    variance = delete_one_variance(by_document, document_sizes)
    without_form = np.full_like(lift, np.nan)
    if cells.few_forms:
        filled = form_sizes > 0
        if filled.sum() > 1:
            rest = (n - form_sizes[filled])[:, None]
            left = [(sums.total - sums.by_form[filled]) / rest for sums in (share, expected)]
            without_form = _lift(*left).min(0)
    else:
        by_form = deviations((share.by_form, expected.by_form), form_sizes)
        variance = variance + delete_one_variance(by_form, form_sizes)
    low = np.full_like(lift, np.nan)
    if cells.degrees >= 1:
        reach = quantile(cells.degrees, (1 + confidence) / 2) * np.sqrt(variance)
        low = lift * np.exp(-reach)
    return Lift(*means, lift, low, without_form)


def _lift(share: Floats, expected: Floats) -> Floats:
    """odds(share) / odds(expected); NaN where either is 0 or 1, also by rounding."""
    inside = (share > 0) & (share < 1) & (expected > 0) & (expected < 1)
    safe_share, safe_expected = (np.where(inside, each, 0.5) for each in (share, expected))
    lift = safe_share / (1 - safe_share) * (1 - safe_expected) / safe_expected
    return np.where(inside, lift, np.nan)
