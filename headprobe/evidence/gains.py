"""One relation: every head against every baseline, and against the harder control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from headprobe.evidence.arrays import Bools, Floats
from headprobe.evidence.groups import DOCUMENTS, DOMAINS, FORMS, HALVES
from headprobe.evidence.intervals import Interval, few_forms, interval, one_sided_p
from headprobe.evidence.sums import divide


class Demands(Protocol):
    """What the rules ask of evidence, whatever it is evidence for."""

    @property
    def confidence(self) -> float: ...
    @property
    def min_n(self) -> int: ...
    @property
    def min_form_folds(self) -> float: ...


@dataclass(frozen=True)
class Gains:
    """One relation's numbers as ``Evidence`` describes them: [N], those of domains [G, N]."""

    top1: Floats
    baseline: Floats
    baseline_top1: Floats
    gain: Floats
    gain_error: Floats
    gain_low: Floats
    gain_high: Floats
    gain_a: Floats
    gain_b: Floats
    gain_without_form: Floats
    p: Floats
    category_top1: Floats
    category_gain: Floats
    category_gain_low: Floats
    beats: Floats
    domain_top1: Floats
    domain_baseline_top1: Floats
    domain_gain: Floats


def nothing_asked(heads: int, domains: int) -> Gains:
    """The gains of a relation without instances."""
    empty = {
        each.name: np.full((domains, heads) if each.name.startswith("domain_") else heads, np.nan)
        for each in fields(Gains)
    }
    return Gains(**{**empty, "baseline": np.full(heads, -1.0), "beats": np.zeros(heads)})


def gains_over(
    hits: Floats,
    baselines: Mapping[int, Floats],
    category: Floats,
    sizes: Floats,
    demands: Demands,
) -> Gains:
    """Heads' ``hits`` [S, N] against those of each baseline, by its number: [S, 1] or [S, N], and
    against those of the control's rules [C, S, N], on ``sizes`` [S] instances.

    ``gain_low`` is the lowest of the lower ends, ``p`` the largest and ``gain_without_form`` the
    smallest over all baselines; ``gain_high`` and ``gain_error`` are against the one named, so that
    ``gain`` always lies between the two ends. Of the control's rules the larger counts, and the
    lowest of the lower ends.
    """
    total = sizes[DOCUMENTS].sum()
    rivals = list(baselines.values())
    against = [_interval(hits - rival, sizes, demands) for rival in rivals]
    harder = [_interval(hits - rule, sizes, demands) for rule in category]
    top1s = np.array(np.broadcast_arrays(*[_mean(rival, sizes) for rival in rivals]))
    named = top1s.argmax(0)

    def of_named(arrays: Sequence[Floats]) -> Floats:
        return np.asarray(np.choose(named, arrays))

    def half(folds: slice) -> Floats:
        theirs = of_named([rival[folds].sum(0) for rival in rivals])
        return divide(hits[folds].sum(0) - theirs, sizes[folds].sum())

    least_t = np.min([each.mean / each.error for each in against], axis=0)
    clear = np.logical_and.reduce([_clear(each, sizes, demands) for each in against])
    right = np.logical_and.reduce([_clear(each, sizes, demands) for each in harder])
    of_domains = of_named([rival[DOMAINS] for rival in rivals])
    in_domains = sizes[DOMAINS, None]
    return Gains(
        top1=hits[DOCUMENTS].sum(0) / total,
        baseline=np.array(list(baselines), dtype=np.float64)[named],
        baseline_top1=of_named(list(top1s)),
        gain=of_named([each.mean for each in against]),
        gain_error=of_named([each.error for each in against]),
        gain_low=np.min([each.low for each in against], axis=0),
        gain_high=of_named([each.high for each in against]),
        gain_a=half(HALVES[0]),
        gain_b=half(HALVES[1]),
        gain_without_form=np.min([each.without_form for each in against], axis=0),
        p=one_sided_p(against[0].degrees, least_t),
        category_top1=np.max([_mean(rule, sizes) for rule in category], axis=0),
        category_gain=np.min([each.mean for each in harder], axis=0),
        category_gain_low=np.min([each.low for each in harder], axis=0),
        beats=np.where(clear, 1.0 + right, 0.0),
        domain_top1=divide(hits[DOMAINS], in_domains),
        domain_baseline_top1=divide(of_domains, in_domains),
        domain_gain=divide(hits[DOMAINS] - of_domains, in_domains),
    )


def _interval(gains: Floats, sizes: Floats, demands: Demands) -> Interval:
    return interval(
        gains[DOCUMENTS],
        sizes[DOCUMENTS],
        gains[FORMS],
        sizes[FORMS],
        confidence=demands.confidence,
        min_form_folds=demands.min_form_folds,
    )


def _clear(gain: Interval, sizes: Floats, demands: Demands) -> Bools:
    """[N]: whether the interval lies above zero, and where forms are few each of them can go."""
    clear = gain.low > 0
    if few_forms(sizes[FORMS], demands.min_form_folds):
        clear &= gain.without_form > 0
    return np.asarray(clear)


def _mean(hits: Floats, sizes: Floats) -> Floats:
    return np.asarray(hits[DOCUMENTS].sum(0) / sizes[DOCUMENTS].sum())
