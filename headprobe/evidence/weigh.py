"""Sums in, evidence out: one division at the end, and how sure each gain is."""

import numpy as np

from headprobe.evidence.arrays import Floats
from headprobe.evidence.category_null import CategoryTastes
from headprobe.evidence.evidence import Evidence
from headprobe.evidence.footing import Footing, find_footing
from headprobe.evidence.gains import Demands, Gains, gains_over, nothing_asked
from headprobe.evidence.groups import DOCUMENTS, DOMAINS, FORMS
from headprobe.evidence.intervals import effective_folds
from headprobe.evidence.multiplicity import false_discovery
from headprobe.evidence.sums import divide, floats
from headprobe.store.instances import Instances
from headprobe.store.tallies import Tallies

_SPREAD = (
    *("top1", "baseline_top1", "gain", "gain_error", "gain_low", "gain_high", "gain_a", "gain_b"),
    *("gain_without_form", "p", "category_top1", "category_gain", "category_gain_low"),
    *("domain_top1", "domain_baseline_top1", "domain_gain"),
)
"""What stands in Evidence as each relation's gains have it."""


def weigh(
    instances: Instances, tallies: Tallies, fitted: CategoryTastes, demands: Demands
) -> Evidence:
    """Every head against every relation's baselines (METHOD sections 2 to 4); ``fitted`` to the
    same tallies."""
    return weigh_on(find_footing(instances, tallies, fitted), instances, tallies, demands)


def weigh_on(
    footing: Footing, instances: Instances, tallies: Tallies, demands: Demands
) -> Evidence:
    """``weigh`` where the baselines are known already: no work per instance is left."""
    relations, layers, heads = tallies["mass"].shape
    columns = [_gains(footing, tallies, index, demands) for index in range(relations)]

    def spread(rows: Floats) -> Floats:
        """[R, ..., N] to [..., L, H, R]."""
        return np.moveaxis(rows.reshape(*rows.shape[:-1], layers, heads), 0, -1)

    def stack(name: str) -> Floats:
        rows = [getattr(column, name) for column in columns]
        between = (len(instances.domains),) if name.startswith("domain_") else ()
        return np.array(rows, dtype=np.float64).reshape(relations, *between, layers * heads)

    n = footing.sizes[:, DOCUMENTS].sum(1)
    tested = np.where((n >= demands.min_n)[:, None], stack("p"), np.nan)
    q = false_discovery(tested, [relation.family for relation in instances.relations])
    means = {
        name: divide(floats(tallies, name), n[:, None, None]).reshape(relations, layers * heads)
        for name in ("mass", "kept", "share", "share_norm")
    }
    baselines = {
        name: divide(sums[:, DOCUMENTS].sum(1), n[:, None])
        for name, sums in footing.baselines.items()
    }
    return Evidence(
        relations=instances.relations,
        n=n.astype(np.int64),
        forms=footing.forms,
        shared_forms=footing.shared_forms,
        document_folds=np.array([effective_folds(sizes[DOCUMENTS]) for sizes in footing.sizes]),
        form_folds=np.array([effective_folds(sizes[FORMS]) for sizes in footing.sizes]),
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
        beats=spread(stack("beats")).astype(np.int64),
        **{name: spread(stack(name)) for name in _SPREAD},
        q=spread(q),
        strength=spread(divide(stack("gain"), 1 - stack("baseline_top1"))),
        reliability=_correlations(stack("gain_a"), stack("gain_b")),
        domains=instances.domains,
        domain_n=footing.sizes[:, DOMAINS].T.astype(np.int64),
    )


def _gains(footing: Footing, tallies: Tallies, index: int, demands: Demands) -> Gains:
    """One relation's, ``baseline`` as an index into the names of all baselines."""
    hits = np.concatenate(
        [
            tallies[name][index].astype(np.float64).reshape(len(tallies[name][index]), -1)
            for name in ("hits_by_document", "hits_by_form", "hits_by_domain")
        ]
    )
    sizes = footing.sizes[index]
    if not sizes.any():
        return nothing_asked(hits.shape[1], len(sizes[DOMAINS]))
    rivals = [sums[index] for sums in footing.baselines.values()]
    computed = [number for number, sums in enumerate(rivals) if not np.isnan(sums).any()]
    return gains_over(
        hits,
        {number: rivals[number] for number in computed},
        footing.category[:, index],
        sizes,
        demands,
    )


def _correlations(one: Floats, other: Floats) -> Floats:
    """[R]: correlation over heads of two arrays [R, N]; NaN for fewer than three heads that have
    both, and where one does not vary."""
    found = np.full(len(one), np.nan)
    for index, pair in enumerate(zip(one, other, strict=True)):
        both = np.array(pair)
        both = both[:, ~np.isnan(both).any(0)]
        if both.shape[1] >= 3 and (np.ptp(both, axis=1) > 0).all():
            found[index] = np.corrcoef(both)[0, 1]
    return found
