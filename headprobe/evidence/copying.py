"""Heads that look to what was said before (METHOD section 5, *duplicate-token*, *induction*)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from headprobe.evidence.arrays import Floats
from headprobe.evidence.intervals import interval
from headprobe.evidence.sums import divide, floats
from headprobe.store.tallies import Tallies


@dataclass(frozen=True)
class Copying:
    """On repeated random tokens (``store.copying``), over all ``rows`` of the repetitions: ``top1``
    [L, H] is the share where the earlier copy (or the token after it) gets most of all earlier
    tokens, ``mass`` [L, H] its mean raw attention, ``baseline`` what the best fixed distance in
    tokens scores. ``gain`` is their difference, ``gain_low`` the lowest of the lower ends against
    every fixed distance, with the sequences as folds. NaN where no sequence could be run."""

    rows: int
    baseline: float
    top1: Floats
    mass: Floats
    gain: Floats
    gain_low: Floats

    @property
    def strength(self) -> Floats:
        """How much of what the baseline leaves is won."""
        return np.asarray(self.gain / (1 - self.baseline))


def copying(
    tallies: Tallies, kind: Literal["duplicate", "induction"], confidence: float
) -> Copying:
    """How well each head finds the earlier copy of a token, or the token after it.

    Each sequence has a lag of its own, which fixes the distance of its targets: any one distance
    hits every row of one sequence and none of another.
    """
    sizes, hits = floats(tallies, "copy_rows"), floats(tallies, f"{kind}_hits")
    _, layers, heads = hits.shape
    total = float(sizes.sum())
    top1, mass = (
        divide(sums.sum(0), np.array(total)) for sums in (hits, floats(tallies, f"{kind}_mass"))
    )
    if not total:
        return Copying(0, np.nan, top1, mass, top1, top1)
    each = hits.reshape(len(sizes), -1)
    lows = [
        interval(
            each - fixed[:, None],
            sizes,
            each,
            sizes,
            confidence=confidence,
            min_form_folds=np.inf,
        ).low
        for fixed in np.diag(sizes)
    ]
    baseline = float(sizes.max()) / total
    low = np.min(lows, axis=0).reshape(layers, heads)
    return Copying(int(total), baseline, top1, mass, top1 - baseline, low)
