"""Sums in, evidence out: one division at the end, and how sure each gain is.

One relation: every head against every baseline, and against the harder control.

What every head is set against: the baselines of each relation and the category control, summed
by fold and domain, from the instances and the profiles alone.

Many heads, many relations: what is left of a p when all of them are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from headprobe.analysis.baselines import BASELINES, BASELINES_OF_FAMILY, baseline_input
from headprobe.analysis.candidates import (
    DOCUMENTS,
    DOMAINS,
    FORMS,
    HALVES,
    GroupedInstances,
    count_groups,
    group,
)
from headprobe.analysis.distance_control import distance_control
from headprobe.analysis.evidence import Bools, Evidence, Floats, Ints, divide, floats, mean_profile
from headprobe.analysis.intervals import (
    EvidenceThresholds,
    Interval,
    effective_folds,
    few_forms,
    interval,
    one_sided_p,
)
from headprobe.analysis.pos_control import PosPreferences, category_hits
from headprobe.runs.instances import Instances
from headprobe.runs.sums import Tallies


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


def empty_gains(heads: int, domains: int) -> Gains:
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
    thresholds: EvidenceThresholds,
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
    against = [_interval(hits - rival, sizes, thresholds) for rival in rivals]
    harder = [_interval(hits - rule, sizes, thresholds) for rule in category]
    top1s = np.array(np.broadcast_arrays(*[_mean(rival, sizes) for rival in rivals]))
    named = top1s.argmax(0)

    def of_named(arrays: Sequence[Floats]) -> Floats:
        return np.asarray(np.choose(named, arrays))

    def half(folds: slice) -> Floats:
        theirs = of_named([rival[folds].sum(0) for rival in rivals])
        return divide(hits[folds].sum(0) - theirs, sizes[folds].sum())

    least_t = np.min([each.mean / each.error for each in against], axis=0)
    clear = np.logical_and.reduce([_clear(each, sizes, thresholds) for each in against])
    right = np.logical_and.reduce([_clear(each, sizes, thresholds) for each in harder])
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


def _interval(gains: Floats, sizes: Floats, thresholds: EvidenceThresholds) -> Interval:
    return interval(
        gains[DOCUMENTS],
        sizes[DOCUMENTS],
        gains[FORMS],
        sizes[FORMS],
        confidence=thresholds.confidence,
        min_form_folds=thresholds.min_form_folds,
    )


def _clear(gain: Interval, sizes: Floats, thresholds: EvidenceThresholds) -> Bools:
    """[N]: whether the interval lies above zero, and where forms are few each of them can go."""
    clear = gain.low > 0
    if few_forms(sizes[FORMS], thresholds.min_form_folds):
        clear &= gain.without_form > 0
    return np.asarray(clear)


def _mean(hits: Floats, sizes: Floats) -> Floats:
    return np.asarray(hits[DOCUMENTS].sum(0) / sizes[DOCUMENTS].sum())


@dataclass(frozen=True)
class BaselineSums:
    """Sums over instances by document fold, form fold (of the nearest target) and domain, all on
    the axis S of ``analysis.candidates``.

    ``sizes`` [R, S] count instances, ``forms`` [R] the different forms of nearest targets and
    ``shared_forms`` [R] those of them that share their fold with another. ``baselines`` maps a name
    to its sums of hits: [R, S, 1] where it is the same for all heads, else [R, S, N]; NaN where a
    relation need not beat it or it cannot be worked out. ``category`` [2, R, S, N] are those of the
    harder control's two rules. ``choices`` maps ``offset`` and ``start`` to what they chose.
    ``habit_expected`` and ``habit_share`` are [R, N].
    """

    sizes: Floats
    forms: Ints
    shared_forms: Ints
    baselines: Mapping[str, Floats]
    category: Floats
    choices: Mapping[str, tuple[str, ...]]
    habit_expected: Floats
    habit_share: Floats


def sum_baselines(
    instances: Instances, tallies: Tallies, preferences: PosPreferences
) -> BaselineSums:
    """The baselines and the control of METHOD section 3 on all relations of a run."""
    relations = [group(instances, index) for index in range(len(instances.relations))]
    sizes = np.array([each.sums() for each in relations])
    forms, shared_forms = _count_forms(instances, relations)
    sums, choices = _rules(instances, relations)
    profiles = (mean_profile(tallies, name) for name in ("profile", "profile_norm"))
    by_distance = distance_control(instances, relations, *profiles)
    general = {name: sums.pop(name) for name in BASELINES}
    return BaselineSums(
        sizes=sizes.reshape(len(relations), count_groups(instances)),
        forms=forms,
        shared_forms=shared_forms,
        baselines={**general, **by_distance.sums, **sums},
        category=category_hits(instances, relations, preferences),
        choices={name: tuple(chosen) for name, chosen in choices.items()},
        habit_expected=by_distance.expected,
        habit_share=by_distance.share,
    )


def _rules(
    instances: Instances, relations: Sequence[GroupedInstances]
) -> tuple[dict[str, Floats], dict[str, list[str]]]:
    """By the name of each rule that is the same for all heads: its hits [R, S, 1], its choices."""
    shape = (len(relations), count_groups(instances), 1)
    sums = {name: np.zeros(shape) for name in BASELINES}
    for rules in BASELINES_OF_FAMILY.values():
        sums |= {name: np.full(shape, np.nan) for name in rules}
    choices = {name: [""] * len(relations) for name in sums}
    for index, relation in enumerate(relations):
        if not len(relation.links):
            continue
        question = baseline_input(instances, relation.links)
        of_family = BASELINES_OF_FAMILY.get(relation.links.relation.family, {})
        for name, rule in (*BASELINES.items(), *of_family.items()):
            baseline = rule(question)
            if baseline is not None:
                sums[name][index, :, 0] = relation.sums(baseline.hits)
                choices[name][index] = baseline.choice
    return sums, choices


def _count_forms(instances: Instances, relations: Sequence[GroupedInstances]) -> tuple[Ints, Ints]:
    """[R] forms of nearest targets, and [R] how many share their fold with another one."""
    counts = np.zeros((2, len(relations)), dtype=np.int64)
    for index, relation in enumerate(relations):
        nearest = relation.links.nearest
        fold = np.full(len(instances.forms), -1)
        fold[instances.folded_form[nearest]] = instances.form_fold[nearest]
        forms = np.bincount(fold[fold >= 0])
        counts[:, index] = forms.sum(), forms[forms > 1].sum()
    return counts[0], counts[1]


def simes(p: Floats) -> Floats:
    """[N]: Simes' p of each row of ``p`` [N, R], ``min_k R p_(k) / k`` (Simes 1986)."""
    count = p.shape[1]
    return np.asarray((np.sort(p, axis=1) * count / np.arange(1, count + 1)).min(1))


def benjamini_hochberg(p: Floats) -> Floats:
    """Adjusted p's (Benjamini and Hochberg 1995) of an array of any shape, all tests at once."""
    flat = p.ravel()
    order = np.argsort(flat)[::-1]
    scaled = flat[order] * flat.size / np.arange(flat.size, 0, -1)
    adjusted = np.empty_like(flat)
    adjusted[order] = np.minimum.accumulate(scaled)
    return np.minimum(adjusted, 1).reshape(p.shape)


def false_discovery(p: Floats, families: Sequence[str]) -> Floats:
    """q [R, N] of ``p`` [R, N]: one Simes p per head and family, Benjamini-Hochberg over both.

    All relations of a family share its head's q. Relations whose p is NaN for every head take no
    part and get none.
    """
    q = np.full_like(p, np.nan)
    tested = [index for index in range(len(p)) if not np.isnan(p[index]).all()]
    names = sorted({families[index] for index in tested})
    if not names:
        return q
    members = [[index for index in tested if families[index] == name] for name in names]
    combined = np.array([simes(np.nan_to_num(p[rows].T, nan=1.0)) for rows in members])
    for rows, adjusted in zip(members, benjamini_hochberg(combined), strict=True):
        q[rows] = adjusted
    return q


_GAIN_COLUMNS = (
    *("top1", "baseline_top1", "gain", "gain_error", "gain_low", "gain_high", "gain_a", "gain_b"),
    *("gain_without_form", "p", "category_top1", "category_gain", "category_gain_low"),
    *("domain_top1", "domain_baseline_top1", "domain_gain"),
)
"""What stands in Evidence as each relation's gains have it."""


def compute_evidence(
    instances: Instances,
    tallies: Tallies,
    preferences: PosPreferences,
    thresholds: EvidenceThresholds,
) -> Evidence:
    """Every head against every relation's baselines (METHOD sections 2 to 4); ``preferences`` to
    the same tallies."""
    return evidence_from_sums(
        sum_baselines(instances, tallies, preferences), instances, tallies, thresholds
    )


def evidence_from_sums(
    baseline_sums: BaselineSums,
    instances: Instances,
    tallies: Tallies,
    thresholds: EvidenceThresholds,
) -> Evidence:
    """``compute_evidence`` where the baselines are known already: no work per instance is left."""
    relations, layers, heads = tallies["mass"].shape
    columns = [_gains(baseline_sums, tallies, index, thresholds) for index in range(relations)]

    def spread(rows: Floats) -> Floats:
        """[R, ..., N] to [..., L, H, R]."""
        return np.moveaxis(rows.reshape(*rows.shape[:-1], layers, heads), 0, -1)

    def stack(name: str) -> Floats:
        rows = [getattr(column, name) for column in columns]
        between = (len(instances.domains),) if name.startswith("domain_") else ()
        return np.array(rows, dtype=np.float64).reshape(relations, *between, layers * heads)

    n = baseline_sums.sizes[:, DOCUMENTS].sum(1)
    tested = np.where((n >= thresholds.min_n)[:, None], stack("p"), np.nan)
    q = false_discovery(tested, [relation.family for relation in instances.relations])
    means = {
        name: divide(floats(tallies, name), n[:, None, None]).reshape(relations, layers * heads)
        for name in ("mass", "kept", "share", "share_norm")
    }
    baselines = {
        name: divide(sums[:, DOCUMENTS].sum(1), n[:, None])
        for name, sums in baseline_sums.baselines.items()
    }
    return Evidence(
        relations=instances.relations,
        n=n.astype(np.int64),
        forms=baseline_sums.forms,
        shared_forms=baseline_sums.shared_forms,
        document_folds=np.array(
            [effective_folds(sizes[DOCUMENTS]) for sizes in baseline_sums.sizes]
        ),
        form_folds=np.array([effective_folds(sizes[FORMS]) for sizes in baseline_sums.sizes]),
        **{name: spread(values) for name, values in means.items()},
        habit_share=spread(baseline_sums.habit_share),
        habit_expected=spread(baseline_sums.habit_expected),
        baselines={
            name: values[:, 0] if values.shape[1] == 1 else spread(values)
            for name, values in baselines.items()
        },
        best_offset=np.array(
            [int(text or 0) for text in baseline_sums.choices["offset"]], dtype=np.int64
        ),
        best_start=baseline_sums.choices["start"],
        baseline=spread(stack("baseline")).astype(np.int64),
        beats=spread(stack("beats")).astype(np.int64),
        **{name: spread(stack(name)) for name in _GAIN_COLUMNS},
        q=spread(q),
        strength=spread(divide(stack("gain"), 1 - stack("baseline_top1"))),
        reliability=_correlations(stack("gain_a"), stack("gain_b")),
        domains=instances.domains,
        domain_n=baseline_sums.sizes[:, DOMAINS].T.astype(np.int64),
    )


def _gains(
    baseline_sums: BaselineSums, tallies: Tallies, index: int, thresholds: EvidenceThresholds
) -> Gains:
    """One relation's, ``baseline`` as an index into the names of all baselines."""
    hits = np.concatenate(
        [
            tallies[name][index].astype(np.float64).reshape(len(tallies[name][index]), -1)
            for name in ("hits_by_document", "hits_by_form", "hits_by_domain")
        ]
    )
    sizes = baseline_sums.sizes[index]
    if not sizes.any():
        return empty_gains(hits.shape[1], len(sizes[DOMAINS]))
    rivals = [sums[index] for sums in baseline_sums.baselines.values()]
    computed = [number for number, sums in enumerate(rivals) if not np.isnan(sums).any()]
    return gains_over(
        hits,
        {number: rivals[number] for number in computed},
        baseline_sums.category[:, index],
        sizes,
        thresholds,
    )


def _correlations(one: Floats, other: Floats) -> Floats:
    """[R]: correlation over heads of two arrays [R, N]; NaN for fewer than three heads that have
    both, and where one does not vary."""
    correlations = np.full(len(one), np.nan)
    for index, pair in enumerate(zip(one, other, strict=True)):
        both = np.array(pair)
        both = both[:, ~np.isnan(both).any(0)]
        if both.shape[1] >= 3 and (np.ptp(both, axis=1) > 0).all():
            correlations[index] = np.corrcoef(both)[0, 1]
    return correlations
