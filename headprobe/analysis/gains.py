"""From sums to evidence: gains over the baselines, their intervals, and p and q.

``compute_evidence`` takes three steps. ``sum_baselines`` sums the hits of every baseline and of the
control by distance and parts of speech, by fold and domain, from the instances and the profiles
alone; ``gains_over`` compares one relation's heads with them; ``false_discovery`` corrects the
p-values for the number of heads and relations. Sums are divided only at the end. See
``docs/method.md``, "Baselines" and "Intervals and multiple testing".
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
from headprobe.analysis.evidence import (
    BEATS,
    Bools,
    Evidence,
    Floats,
    Ints,
    divide,
    floats,
    mean_profile,
)
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
from headprobe.vocabulary import WORD_CLASS


@dataclass(frozen=True)
class Gains:
    """One relation's columns of ``Evidence``, by the same names: [N], or [G, N] for domains."""

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
    """Return the gains of a relation without instances."""
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
    """Compare the heads of one relation with its baselines and with the category control.

    All sums lie on the axis S of ``analysis.candidates``. ``hits`` are the heads', [S, N].
    ``baselines`` maps the number of each baseline to its hits, [S, 1] or [S, N]; ``category``
    [C, S, N] are the hits of the control's rules; ``sizes`` [S] count instances.

    ``gain_low`` is the smallest of the lower ends, ``p`` the largest p and ``gain_without_form``
    the smallest over all baselines, so choosing the largest baseline costs nothing (an
    intersection-union test). ``gain_high`` and ``gain_error`` are those of the largest baseline,
    so ``gain`` always lies between the two ends. For the control, the larger ``top1`` of its rules
    and the smaller lower end count.
    """
    total = sizes[DOCUMENTS].sum()
    rivals = list(baselines.values())
    over_baselines = [_interval(hits - rival, sizes, thresholds) for rival in rivals]
    over_category = [_interval(hits - rule, sizes, thresholds) for rule in category]
    top1s = np.array(np.broadcast_arrays(*[_mean(rival, sizes) for rival in rivals]))
    largest = top1s.argmax(0)

    def of_largest(arrays: Sequence[Floats]) -> Floats:
        """The value of each head's largest baseline."""
        return np.asarray(np.choose(largest, arrays))

    def half(folds: slice) -> Floats:
        """The gain on half of the document folds."""
        rival_hits = of_largest([rival[folds].sum(0) for rival in rivals])
        return divide(hits[folds].sum(0) - rival_hits, sizes[folds].sum())

    least_t = np.min([each.mean / each.error for each in over_baselines], axis=0)
    beats_baselines = np.logical_and.reduce(
        [_clear(each, sizes, thresholds) for each in over_baselines]
    )
    beats_category = np.logical_and.reduce(
        [_clear(each, sizes, thresholds) for each in over_category]
    )
    in_domains = of_largest([rival[DOMAINS] for rival in rivals])
    domain_sizes = sizes[DOMAINS, None]
    return Gains(
        top1=hits[DOCUMENTS].sum(0) / total,
        baseline=np.array(list(baselines), dtype=np.float64)[largest],
        baseline_top1=of_largest(list(top1s)),
        gain=of_largest([each.mean for each in over_baselines]),
        gain_error=of_largest([each.error for each in over_baselines]),
        gain_low=np.min([each.low for each in over_baselines], axis=0),
        gain_high=of_largest([each.high for each in over_baselines]),
        gain_a=half(HALVES[0]),
        gain_b=half(HALVES[1]),
        gain_without_form=np.min([each.without_form for each in over_baselines], axis=0),
        p=one_sided_p(over_baselines[0].degrees, least_t),
        category_top1=np.max([_mean(rule, sizes) for rule in category], axis=0),
        category_gain=np.min([each.mean for each in over_category], axis=0),
        category_gain_low=np.min([each.low for each in over_category], axis=0),
        beats=np.where(beats_baselines, 1.0 + beats_category, 0.0),
        domain_top1=divide(hits[DOMAINS], domain_sizes),
        domain_baseline_top1=divide(in_domains, domain_sizes),
        domain_gain=divide(hits[DOMAINS] - in_domains, domain_sizes),
    )


def _interval(gains: Floats, sizes: Floats, thresholds: EvidenceThresholds) -> Interval:
    """The interval of the mean of ``gains`` [S, N]."""
    return interval(
        gains[DOCUMENTS],
        sizes[DOCUMENTS],
        gains[FORMS],
        sizes[FORMS],
        confidence=thresholds.confidence,
        min_form_folds=thresholds.min_form_folds,
    )


def _clear(gain: Interval, sizes: Floats, thresholds: EvidenceThresholds) -> Bools:
    """[N]: whether the interval is above zero and, with few forms, stays so without any one."""
    clear = gain.low > 0
    if few_forms(sizes[FORMS], thresholds.min_form_folds):
        clear &= gain.without_form > 0
    return np.asarray(clear)


def _mean(hits: Floats, sizes: Floats) -> Floats:
    """[N]: mean hits over all instances."""
    return np.asarray(hits[DOCUMENTS].sum(0) / sizes[DOCUMENTS].sum())


@dataclass(frozen=True)
class BaselineSums:
    """Sums over the instances of every relation, by fold and domain.

    S is the axis of ``analysis.candidates``. NaN means that a baseline does not apply to a relation
    or cannot be computed.
    """

    sizes: Floats
    """[R, S]: number of instances."""
    forms: Ints
    """[R]: number of different forms among the nearest targets."""
    shared_forms: Ints
    """[R]: how many of these forms share their fold with another one."""
    baselines: Mapping[str, Floats]
    """Hits of each baseline: [R, S, 1] where it is the same for all heads, else [R, S, N]."""
    category: Floats
    """[2, R, S, N]: hits of the two rules of the control by distance and parts of speech."""
    choices: Mapping[str, tuple[str, ...]]
    """For each rule that needs no model what it chose on each relation, in words, [R]."""
    habit_expected: Floats
    """[R, N]: as in ``Evidence``."""
    habit_share: Floats
    """[R, N]: as in ``Evidence``."""


def sum_baselines(
    instances: Instances, tallies: Tallies, preferences: PosPreferences
) -> BaselineSums:
    """Sum the baselines and the category control on all relations of a run."""
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
    """For each rule that needs no model its hits [R, S, 1] and its choices [R]."""
    shape = (len(relations), count_groups(instances), 1)
    sums = {name: np.zeros(shape) for name in BASELINES}
    for rules in BASELINES_OF_FAMILY.values():
        sums |= {name: np.full(shape, np.nan) for name in rules}
    choices = {name: [""] * len(relations) for name in sums}
    for index, relation in enumerate(relations):
        if not len(relation.links):
            continue
        inputs = baseline_input(instances, relation.links)
        family_rules = BASELINES_OF_FAMILY.get(relation.links.relation.family, {})
        for name, rule in (*BASELINES.items(), *family_rules.items()):
            baseline = rule(inputs)
            if baseline is not None:
                sums[name][index, :, 0] = relation.sums(baseline.hits)
                choices[name][index] = baseline.choice
    return sums, choices


def _count_forms(instances: Instances, relations: Sequence[GroupedInstances]) -> tuple[Ints, Ints]:
    """[R] forms of the nearest targets, and [R] how many of them share their fold with another."""
    counts = np.zeros((2, len(relations)), dtype=np.int64)
    for index, relation in enumerate(relations):
        nearest = relation.links.nearest
        fold = np.full(len(instances.forms), -1)
        fold[instances.folded_form[nearest]] = instances.form_fold[nearest]
        forms = np.bincount(fold[fold >= 0])
        counts[:, index] = forms.sum(), forms[forms > 1].sum()
    return counts[0], counts[1]


def simes(p: Floats) -> Floats:
    """Return Simes' p of each row of ``p`` [N, R]: ``min_k R p_(k) / k`` (Simes 1986)."""
    count = p.shape[1]
    return np.asarray((np.sort(p, axis=1) * count / np.arange(1, count + 1)).min(1))


def benjamini_hochberg(p: Floats) -> Floats:
    """Return adjusted p-values of all tests in an array of any shape.

    The step-up procedure of Benjamini and Hochberg 1995.
    """
    flat = p.ravel()
    order = np.argsort(flat)[::-1]
    scaled = flat[order] * flat.size / np.arange(flat.size, 0, -1)
    adjusted = np.empty_like(flat)
    adjusted[order] = np.minimum.accumulate(scaled)
    return np.minimum(adjusted, 1).reshape(p.shape)


def false_discovery(p: Floats, families: Sequence[str]) -> Floats:
    """Return q [R, N] of ``p`` [R, N], given the family of each relation.

    The p-values of one head in one family are combined by Simes' method; Benjamini-Hochberg then
    runs over all heads and families. All relations of a family share the q of their head. Relations
    whose p is NaN for every head are left out and get NaN.
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
"""Fields of ``Gains`` that become fields of ``Evidence`` unchanged."""


def compute_evidence(
    instances: Instances,
    tallies: Tallies,
    preferences: PosPreferences,
    thresholds: EvidenceThresholds,
) -> Evidence:
    """Compare every head with the baselines of every relation.

    ``preferences`` must be fitted to the same ``tallies``.
    """
    return evidence_from_sums(
        sum_baselines(instances, tallies, preferences), instances, tallies, thresholds
    )


def evidence_from_sums(
    baseline_sums: BaselineSums,
    instances: Instances,
    tallies: Tallies,
    thresholds: EvidenceThresholds,
) -> Evidence:
    """``compute_evidence`` for known ``baseline_sums``: nothing is computed per instance."""
    relations, layers, heads = tallies["mass"].shape
    columns = [_gains(baseline_sums, tallies, index, thresholds) for index in range(relations)]

    def spread(rows: Floats) -> Floats:
        """Reshape [R, ..., N] to [..., L, H, R]."""
        return np.moveaxis(rows.reshape(*rows.shape[:-1], layers, heads), 0, -1)

    def stack(name: str) -> Floats:
        """One field of ``Gains`` over all relations, [R, N] or [R, G, N]."""
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
        beats=np.minimum(spread(stack("beats")).astype(np.int64), _most_beaten(instances)),
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
    """The gains of one relation; ``baseline`` is an index into the names of all baselines."""
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


def _most_beaten(instances: Instances) -> Ints:
    """[R]: the largest index into ``BEATS`` that a relation can have.

    The category control knows parts of speech, and a word-class relation asks for nothing else.
    """
    return np.array(
        [
            BEATS.index("distance" if relation.family == WORD_CLASS else "category")
            for relation in instances.relations
        ],
        dtype=np.int64,
    )


def _correlations(a: Floats, b: Floats) -> Floats:
    """[R]: correlation over heads of two arrays [R, N].

    NaN where fewer than three heads have both values, or where one array does not vary.
    """
    correlations = np.full(len(a), np.nan)
    for index, pair in enumerate(zip(a, b, strict=True)):
        both = np.array(pair)
        both = both[:, ~np.isnan(both).any(0)]
        if both.shape[1] >= 3 and (np.ptp(both, axis=1) > 0).all():
            correlations[index] = np.corrcoef(both)[0, 1]
    return correlations
