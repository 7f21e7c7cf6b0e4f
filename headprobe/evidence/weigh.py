"""Sums in, evidence out: one division at the end, and how sure each gain is."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headprobe.axes import FOLDS
from headprobe.evidence.arrays import Floats
from headprobe.evidence.evidence import Evidence
from headprobe.evidence.footing import Footing, find_footing
from headprobe.evidence.intervals import effective_folds, interval
from headprobe.evidence.multiplicity import false_discovery
from headprobe.evidence.sums import divide, floats
from headprobe.store.instances import Instances
from headprobe.store.tallies import Tallies

_SPREAD = (
    *("top1", "baseline_top1", "gain", "gain_low", "gain_high", "gain_a", "gain_b"),
    *("gain_without_form", "p"),
)
"""What stands in Evidence as each relation's column gives it."""


class Demands(Protocol):
    """What the rules ask of evidence, whatever it is evidence for."""

    @property
    def confidence(self) -> float: ...
    @property
    def min_n(self) -> int: ...
    @property
    def min_form_folds(self) -> float: ...


def weigh(instances: Instances, tallies: Tallies, demands: Demands) -> Evidence:
    """Every head against every relation's baselines (METHOD sections 2 to 4)."""
    return weigh_on(find_footing(instances, tallies), instances, tallies, demands)


def weigh_on(
    footing: Footing, instances: Instances, tallies: Tallies, demands: Demands
) -> Evidence:
    """``weigh`` where the baselines are known already: no work per instance is left.

    ``gain_low`` is the lowest of the lower ends over all baselines, ``p`` the largest, and
    ``gain_without_form`` the smallest; ``gain_high`` is the upper end against the baseline named,
    so that ``gain`` always lies between the two.
    """
    _, layers, heads = tallies["mass"].shape
    columns = [
        _weigh_relation(footing, tallies, index, demands)
        for index in range(len(instances.relations))
    ]

    def stack(name: str) -> Floats:
        rows = [getattr(column, name) for column in columns]
        return np.array(rows, dtype=np.float64).reshape(len(columns), layers * heads)

    def spread(rows: Floats) -> Floats:
        """[R, N] to [L, H, R]."""
        return np.moveaxis(rows.reshape(len(columns), layers, heads), 0, -1)

    n = footing.sizes_by_document.sum(1)
    tested = np.where((n >= demands.min_n)[:, None], stack("p"), np.nan)
    q = false_discovery(tested, [relation.family for relation in instances.relations])
    means = {
        name: divide(floats(tallies, name), n[:, None, None]).reshape(len(n), layers * heads)
        for name in ("mass", "kept", "share", "share_norm")
    }
    baselines = {
        name: divide(sums.sum(1), n[:, None]) for name, sums in footing.by_document.items()
    }
    return Evidence(
        relations=instances.relations,
        n=n.astype(np.int64),
        forms=footing.forms,
        document_folds=np.array([effective_folds(sizes) for sizes in footing.sizes_by_document]),
        form_folds=np.array([effective_folds(sizes) for sizes in footing.sizes_by_form]),
        **{name: spread(values) for name, values in means.items()},
        habit_share=spread(footing.habit_share),
        habit_expected=spread(footing.habit_expected),
        baselines={
            name: values[:, 0] if values.shape[1] == 1 else spread(values)
            for name, values in baselines.items()
        },
        best_offset=np.array(
            [int(text or 0) for text in footing.choices["offset"]], dtype=np.int64
        ),
        best_start=footing.choices["start"],
        baseline=spread(stack("baseline")).astype(np.int64),
        **{name: spread(stack(name)) for name in _SPREAD},
        q=spread(q),
        strength=spread(divide(stack("gain"), 1 - stack("baseline_top1"))),
    )


@dataclass(frozen=True)
class _Column:
    """One relation's numbers, each [N]."""

    top1: Floats
    baseline: Floats
    baseline_top1: Floats
    gain: Floats
    gain_low: Floats
    gain_high: Floats
    gain_a: Floats
    gain_b: Floats
    gain_without_form: Floats
    p: Floats


def _weigh_relation(footing: Footing, tallies: Tallies, index: int, demands: Demands) -> _Column:
    by_document, by_form = (
        tallies[name][index].astype(np.float64).reshape(FOLDS, -1)
        for name in ("hits_by_document", "hits_by_form")
    )
    document_sizes, form_sizes = footing.sizes_by_document[index], footing.sizes_by_form[index]
    total = document_sizes.sum()
    if not total:
        nothing = np.full(by_document.shape[1], np.nan)
        return _Column(nothing, np.full_like(nothing, -1), *[nothing] * 8)
    against = [
        interval(
            by_document - footing.by_document[name][index],
            document_sizes,
            by_form - footing.by_form[name][index],
            form_sizes,
            confidence=demands.confidence,
            min_form_folds=demands.min_form_folds,
        )
        for name in footing.by_document
    ]
    rivals = [sums[index] for sums in footing.by_document.values()]
    named = np.array(np.broadcast_arrays(*[rival.sum(0) for rival in rivals])).argmax(0)

    def of_named(arrays: list[Floats]) -> Floats:
        return np.asarray(np.choose(named, arrays))

    def half(parity: int) -> Floats:
        folds = slice(parity, None, 2)
        theirs = of_named([rival[folds].sum(0) for rival in rivals])
        return divide(by_document[folds].sum(0) - theirs, document_sizes[folds].sum())

    return _Column(
        top1=by_document.sum(0) / total,
        baseline=named.astype(np.float64),
        baseline_top1=of_named([rival.sum(0) / total for rival in rivals]),
        gain=of_named([each.mean for each in against]),
        gain_low=np.min([each.low for each in against], axis=0),
        gain_high=of_named([each.high for each in against]),
        gain_a=half(0),
        gain_b=half(1),
        gain_without_form=np.min([each.without_form for each in against], axis=0),
        p=np.max([each.p for each in against], axis=0),
    )
