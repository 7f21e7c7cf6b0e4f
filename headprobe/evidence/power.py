"""What a relation could show at all: how large a head's gain must be to be seen on so few words."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headprobe.evidence.arrays import Bools, Floats, Ints
from headprobe.evidence.evidence import Evidence
from headprobe.evidence.gains import Demands
from headprobe.evidence.intervals import quantile


class PowerDemands(Demands, Protocol):
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


def find_power(evidence: Evidence, demands: PowerDemands) -> Power:
    """The power of each relation of a run.

    ``detectable = margin + (t_c + t_power) * error``, t_c the quantile that the interval uses (the
    minimum detectable effect of Bloom 1995, Evaluation Review 19(5), moved by the margin). It is
    about ``gain_low`` alone: q, halves and mass may ask for more.
    """
    few = evidence.form_folds < demands.min_form_folds
    folds = np.where(
        few, evidence.document_folds, np.minimum(evidence.document_folds, evidence.form_folds)
    )
    error = _median_over_heads(evidence.gain_error)
    degrees = np.where(folds >= 2, folds - 1, np.nan)
    reach = quantile(degrees, (1 + demands.confidence) / 2) + quantile(degrees, demands.power)
    detectable = demands.margin + reach * error
    room = 1 - _median_over_heads(evidence.baseline_top1)
    impossible = detectable > room
    lacks = [
        (evidence.n < demands.min_n, "too few instances"),
        (evidence.document_folds < 2, "fewer than two effective document folds"),
        (few & (evidence.forms < demands.min_forms), "too few target forms"),
        (few & ~(evidence.form_folds > 1), "its target forms share one fold"),
    ]
    why = [
        next(
            (text for lacking, text in lacks if lacking[index]),
            OUT_OF_REACH if impossible[index] else "",
        )
        for index in range(len(evidence.n))
    ]
    best, best_gain = _told_by_the_other_half(evidence)
    return Power(
        error=error,
        detectable=detectable,
        impossible=impossible,
        can_say=~np.logical_or.reduce([lacking for lacking, _ in lacks]),
        why=tuple(why),
        best=best,
        best_gain=best_gain,
    )


def _told_by_the_other_half(evidence: Evidence) -> tuple[Ints, Floats]:
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
