"""From hits and sums to evidence: gains over the baselines, their intervals, and p and q.

``compute_evidence`` takes three steps. ``compute_baselines`` computes the hits of every baseline
and of the control by distance and parts of speech, instance by instance, from the instances and the
profiles alone; ``gains_over`` compares one relation's heads with them, in groups of instances
(``analysis.groups``); ``false_discovery`` corrects the p-values for the number of heads and
relations. See ``docs/method.md``, "Baselines" and "Intervals and multiple testing".
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.baselines import (
    BASELINES,
    BASELINES_OF_FAMILY,
    Baseline,
    baseline_input,
)
from headprobe.analysis.distance_control import DistanceControl, distance_control
from headprobe.analysis.evidence import BEATS, Evidence, FormRule, divide, floats, mean_profile
from headprobe.analysis.groups import Cells, GroupSums, group_instances
from headprobe.analysis.intervals import EvidenceThresholds, Interval, interval, one_sided_p
from headprobe.analysis.lift import Lift, ShareSums, lift_of
from headprobe.analysis.pos_control import PosPreferences, category_hits
from headprobe.arrays import Bools, Floats, Ints
from headprobe.compiled import map_in_threads
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import ANY_MARK, FOLDS, WORD_CLASS, Relation


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
    hits: GroupSums,
    baselines: Mapping[int, GroupSums],
    category: Sequence[GroupSums],
    cells: Cells,
    confidence: float,
    form_rule: FormRule,
) -> Gains:
    """Compare the heads of one relation with its baselines and with the category control.

    ``hits`` are the heads'. ``baselines`` maps the number of each baseline to its hits, of one
    column where they are the same for all heads; ``category`` are the hits of the control's rules.

    ``gain_low`` is the smallest of the lower ends, ``p`` the largest p and ``gain_without_form``
    the smallest over all baselines, so choosing the largest baseline costs nothing (an
    intersection-union test). ``gain_high`` and ``gain_error`` are those of the largest baseline,
    so ``gain`` always lies between the two ends. For the control, the larger ``top1`` of its rules
    and the smaller lower end count.
    """
    rivals = list(baselines.values())
    intervals = map_in_threads(
        [*rivals, *category], lambda rival: interval(hits - rival, cells, confidence)
    )
    over_baselines, over_category = intervals[: len(rivals)], intervals[len(rivals) :]
    top1s = np.array(np.broadcast_arrays(*[rival.total / cells.total for rival in rivals]))
    largest = top1s.argmax(0)
    one_by_one = form_rule == "leave one out"

    def of_largest(arrays: Sequence[Floats]) -> Floats:
        """The value of each head's largest baseline."""
        return np.asarray(np.choose(largest, arrays))

    def half(parity: int) -> Floats:
        """The gain on the even or on the odd document folds."""
        rival_hits = of_largest([rival.half(parity) for rival in rivals])
        size = cells.documents.sizes[parity::2].sum()
        return divide(hits.half(parity) - rival_hits, size)

    def clear(gains: Sequence[Interval]) -> Bools:
        """[N]: whether all gains are above 0, also without any one form where forms are few."""
        above = [each.low > 0 for each in gains]
        if one_by_one:
            above += [each.without_form > 0 for each in gains]
        return np.asarray(np.logical_and.reduce(above))

    least_t = np.min([each.mean / each.error for each in over_baselines], axis=0)
    without_form = np.min([each.without_form for each in over_baselines], axis=0)
    in_domains = of_largest([rival.domains for rival in rivals])
    domain_sizes = cells.domains.sizes[:, None]
    return Gains(
        top1=hits.total / cells.total,
        baseline=np.array(list(baselines), dtype=np.float64)[largest],
        baseline_top1=of_largest(list(top1s)),
        gain=of_largest([each.mean for each in over_baselines]),
        gain_error=of_largest([each.error for each in over_baselines]),
        gain_low=np.min([each.low for each in over_baselines], axis=0),
        gain_high=of_largest([each.high for each in over_baselines]),
        gain_a=half(0),
        gain_b=half(1),
        gain_without_form=without_form if one_by_one else np.full_like(without_form, np.nan),
        p=one_sided_p(cells.degrees, least_t),
        category_top1=np.max([rule.total / cells.total for rule in category], axis=0),
        category_gain=np.min([each.mean for each in over_category], axis=0),
        category_gain_low=np.min([each.low for each in over_category], axis=0),
        beats=np.where(clear(over_baselines), 1.0 + clear(over_category), 0.0),
        domain_top1=divide(hits.domains, domain_sizes),
        domain_baseline_top1=divide(in_domains, domain_sizes),
        domain_gain=divide(hits.domains - in_domains, domain_sizes),
    )


@dataclass(frozen=True)
class RuleHits:
    """The rules that need no model, on the instances of one relation."""

    baselines: Mapping[str, Baseline]
    """The result of each rule that applies, by name; empty without instances."""

    def choice(self, name: str) -> str:
        """What a rule chose, in words; empty if it does not apply or has nothing to choose."""
        return self.baselines[name].choice if name in self.baselines else ""


@dataclass(frozen=True)
class BaselineHits:
    """Hits of every baseline on every instance of a run, and sums of predicted shares.

    Packed hits have one row per instance of the run, [I, Z], as the array ``hits`` of the tallies.
    """

    rules: tuple[RuleHits, ...]
    """[R]: the rules that need no model, on each of ``Instances.judged_relations``."""
    by_head: Mapping[str, NDArray[np.uint8]]
    """Packed hits of the baselines computed from the head itself."""
    category: NDArray[np.uint8]
    """[2, I, Z]: packed hits of the two rules of the control by distance and parts of speech."""
    distance: DistanceControl
    """Sums of shares that the distance profiles predict."""
    swap: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Packed hits in twins, by relation (``twins.TextSums``)."""


def compute_baselines(
    instances: Instances,
    tallies: Tallies,
    preferences: PosPreferences,
    swap: Mapping[int, NDArray[np.uint8]] = MappingProxyType({}),
) -> BaselineHits:
    """Compute the baselines and the category control on all relations of a run.

    ``swap`` are the hits in twins of passages (``twins.TextSums``).
    """
    relations = [instances.of(index) for index in range(len(instances.relations))]
    profiles = (mean_profile(tallies, name) for name in ("profile", "profile_norm"))
    distance = distance_control(instances, relations, *profiles)
    return BaselineHits(
        rules=tuple(_rules(instances, tallies)),
        by_head=distance.hits,
        swap=swap,
        category=category_hits(instances, relations, preferences),
        distance=distance,
    )


def _rules(instances: Instances, tallies: Tallies) -> list[RuleHits]:
    """[R]: the rules that need no model, on each of ``Instances.judged_relations``."""
    results: list[RuleHits] = []
    for index, relation in enumerate(instances.judged_relations):
        links, baselines = instances.of(index), dict[str, Baseline]()
        if len(links):
            inputs = baseline_input(instances, links)
            rules = {**BASELINES, **BASELINES_OF_FAMILY.get(relation.family, {})}
            applied = {name: rule(inputs) for name, rule in rules.items()}
            baselines = {name: each for name, each in applied.items() if each is not None}
            members = instances.members(index)
            if relation.family == "semantic":
                hits = tallies["embedding_hits"][instances.numbers(index)]
                baselines["embedding"] = Baseline(np.asarray(hits, dtype=np.float64))
            if len(members) > 1:
                baselines["by_type"] = _by_type([results[member] for member in members])
        results.append(RuleHits(baselines))
    return results


def _by_type(members: Sequence[RuleHits]) -> Baseline:
    """Each instance of a pooled relation follows the rule that is best on its type.

    There is one fixed rule a type, chosen on all instances of the type.
    """
    best = [
        max(member.baselines.values(), key=lambda baseline: float(baseline.hits.mean()))
        for member in members
        if member.baselines
    ]
    return Baseline(np.concatenate([baseline.hits for baseline in best]))


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
    runs over the heads within each family, so that other relations of the scan change no label. All
    relations of a family share the q of their head. Relations whose p is NaN for every head are
    left out and get NaN.
    """
    q = np.full_like(p, np.nan)
    tested = [index for index in range(len(p)) if not np.isnan(p[index]).all()]
    for family in {families[index] for index in tested}:
        rows = [index for index in tested if families[index] == family]
        q[rows] = benjamini_hochberg(simes(np.nan_to_num(p[rows].T, nan=1.0)))
    return q


_GAIN_COLUMNS = (
    *("top1", "baseline_top1", "gain", "gain_error", "gain_low", "gain_high", "gain_a", "gain_b"),
    *("gain_without_form", "p", "category_top1", "category_gain", "category_gain_low"),
    *("domain_top1", "domain_baseline_top1", "domain_gain"),
)
"""Fields of ``Gains`` that become fields of ``Evidence`` unchanged."""

BARRED_FAMILIES = ("coreference", "semantic")
"""Families whose claims are not about single forms: few forms prove nothing."""


def compute_evidence(
    instances: Instances,
    tallies: Tallies,
    preferences: PosPreferences,
    thresholds: EvidenceThresholds,
    swap: Mapping[int, NDArray[np.uint8]] = MappingProxyType({}),
) -> Evidence:
    """Compare every head with the baselines of every relation.

    ``preferences`` must be fitted to the same ``tallies``; ``swap`` are the hits in twins of
    passages (``twins.TextSums``).
    """
    baselines = compute_baselines(instances, tallies, preferences, swap)
    return compare_with_baselines(instances, tallies, baselines, thresholds)


def compare_with_baselines(
    instances: Instances,
    tallies: Tallies,
    baselines: BaselineHits,
    thresholds: EvidenceThresholds,
) -> Evidence:
    """``compute_evidence`` for known baselines."""
    layers, heads = tallies["mass"].shape[1:]
    relations = instances.judged_relations
    names = _baseline_names(baselines)
    by_index = [
        _compare_relation(instances, tallies, baselines, names, index, thresholds)
        for index in range(len(relations))
    ]

    def spread(rows: Floats) -> Floats:
        """Reshape [R, ..., N] to [..., L, H, R]."""
        return np.moveaxis(rows.reshape(*rows.shape[:-1], layers, heads), 0, -1)

    def stack(name: str) -> Floats:
        """One field of ``Gains`` over all relations, [R, N] or [R, G, N]."""
        rows = [getattr(each.gains, name) for each in by_index]
        between = (len(instances.domains),) if name.startswith("domain_") else ()
        return np.array(rows, dtype=np.float64).reshape(len(relations), *between, layers * heads)

    def means(sums: Floats) -> Floats:
        """[L, H, R]: means over instances from the sums [R', N] of the measured relations."""
        pooled = [sums[list(instances.members(index))].sum(0) for index in range(len(relations))]
        by_relation = np.array(pooled).reshape(len(relations), layers * heads)
        return spread(divide(by_relation, n[:, None].astype(np.float64)))

    def by_relation(name: str) -> list[Any]:
        return [getattr(each, name) for each in by_index]

    def shares(name: str) -> Floats:
        """One field of ``Lift`` over all relations, [L, H, R]."""
        rows = [getattr(each.lift, name) for each in by_index]
        return spread(np.array(rows, dtype=np.float64).reshape(len(relations), layers * heads))

    def columns(at: int) -> Floats:
        """``top1`` of one baseline, [R, N] or [R, 1]."""
        width = layers * heads if _is_by_head(names[at], baselines) else 1
        return np.array([each.top1s[at] for each in by_index]).reshape(len(relations), width)

    n = np.array(by_relation("n"), dtype=np.int64)
    tested = np.where((n >= thresholds.min_n)[:, None], stack("p"), np.nan)
    pooled = range(len(instances.relations), len(relations))
    q = false_discovery(
        tested,
        ["pooled" if at in pooled else each.family for at, each in enumerate(relations)],
    )
    return Evidence(
        relations=relations,
        n=n,
        n_all=np.array(
            [instances.n_all[list(instances.members(at))].sum() for at in range(len(relations))],
            dtype=np.int64,
        ),
        forms=np.array(by_relation("forms"), dtype=np.int64),
        few_forms=tuple(by_relation("few_forms")),
        form_rule=tuple(by_relation("form_rule")),
        document_folds=np.array(by_relation("document_folds"), dtype=np.float64),
        form_folds=np.array(by_relation("form_folds"), dtype=np.float64),
        **{
            name: means(floats(tallies, name).reshape(-1, layers * heads))
            for name in ("mass", "kept", "share_norm")
        },
        share=shares("share"),
        distance_share=shares("distance_share"),
        lift=shares("lift"),
        lift_low=shares("low"),
        lift_without_form=shares("without_form"),
        habit_share=means(baselines.distance.share_norm),
        habit_expected=means(baselines.distance.expected),
        baselines={
            name: spread(columns(at)) if _is_by_head(name, baselines) else columns(at)[:, 0]
            for at, name in enumerate(names)
        },
        best_offset=np.array(
            [int(rules.choice("offset") or 0) for rules in baselines.rules], dtype=np.int64
        ),
        best_start=tuple(rules.choice("start") for rules in baselines.rules),
        baseline=spread(stack("baseline")).astype(np.int64),
        beats=np.minimum(spread(stack("beats")).astype(np.int64), _most_beaten(relations)),
        **{name: spread(stack(name)) for name in _GAIN_COLUMNS},
        q=spread(q),
        strength=spread(divide(stack("gain"), 1 - stack("baseline_top1"))),
        reliability=_correlations(stack("gain_a"), stack("gain_b")),
        domains=instances.domains,
        domain_n=np.array(by_relation("domain_n"), dtype=np.int64)
        .reshape(len(relations), len(instances.domains))
        .T,
    )


def _baseline_names(baselines: BaselineHits) -> list[str]:
    """The names of all baselines of a run, in the order of ``Evidence.baselines``."""
    family = [name for rules in BASELINES_OF_FAMILY.values() for name in rules]
    others = [
        name
        for name in ("by_type", "embedding")
        if any(name in each.baselines for each in baselines.rules)
    ]
    return [*BASELINES, *baselines.by_head, *family, *others, *(["swap"] if baselines.swap else [])]


def _is_by_head(name: str, baselines: BaselineHits) -> bool:
    """Whether a baseline has hits of its own for every head."""
    return name in baselines.by_head or name == "swap"


@dataclass(frozen=True)
class _RelationEvidence:
    """The evidence on one relation."""

    gains: Gains
    lift: Lift
    n: int
    forms: int
    few_forms: tuple[str, ...]
    form_rule: FormRule
    document_folds: float
    form_folds: float
    domain_n: Floats
    top1s: list[Floats]
    """``top1`` of each baseline, [N] or [1]; NaN where it does not apply."""


def _compare_relation(
    instances: Instances,
    tallies: Tallies,
    baselines: BaselineHits,
    names: Sequence[str],
    index: int,
    thresholds: EvidenceThresholds,
) -> _RelationEvidence:
    """Compare the heads with the baselines of one relation: unpack its hits, and group them."""
    heads = math.prod(tallies["mass"].shape[1:])
    links, rules = instances.of(index), baselines.rules[index].baselines
    one_column = {name for name in names if not _is_by_head(name, baselines)}
    if not len(links):
        nothing = np.full(heads, np.nan)
        return _RelationEvidence(
            gains=empty_gains(heads, len(instances.domains)),
            lift=Lift(
                share=nothing,
                distance_share=nothing,
                lift=nothing,
                low=nothing,
                without_form=nothing,
            ),
            n=0,
            forms=0,
            few_forms=(),
            form_rule="variance",
            document_folds=0.0,
            form_folds=0.0,
            domain_n=np.zeros(len(instances.domains)),
            top1s=[np.full(1 if name in one_column else heads, np.nan) for name in names],
        )
    grouped = group_instances(instances, links, thresholds.min_form_folds)
    cells, numbers = grouped.cells, instances.numbers(index)
    hits = grouped.hits(tallies["hits"][numbers], heads)
    rivals: dict[int, GroupSums] = {}
    for at, name in enumerate(names):
        if name in baselines.by_head:
            rivals[at] = grouped.hits(baselines.by_head[name][numbers], heads)
        elif name == "swap":
            if index in baselines.swap:
                rivals[at] = grouped.hits(baselines.swap[index], heads)
        elif name in rules:
            rivals[at] = grouped.sums(rules[name].hits[:, None])
    forms = np.unique(instances.folded_form[links.nearest])
    form_rule = _form_rule(links.relation, cells, len(forms), thresholds.min_forms)
    gains = gains_over(
        hits,
        rivals,
        [grouped.hits(rule[numbers], heads) for rule in baselines.category],
        cells,
        thresholds.confidence,
        form_rule,
    )
    return _RelationEvidence(
        gains=gains,
        lift=_lift(instances, tallies, baselines, index, links, cells, form_rule, thresholds),
        n=len(links),
        forms=len(forms),
        few_forms=_form_names(instances, links) if cells.few_forms else (),
        form_rule=form_rule,
        document_folds=cells.document_folds,
        form_folds=cells.form_folds,
        domain_n=cells.domains.sizes,
        top1s=[
            rivals[at].total / cells.total
            if at in rivals
            else np.full(1 if name in one_column else heads, np.nan)
            for at, name in enumerate(names)
        ],
    )


def _form_rule(relation: Relation, cells: Cells, forms: int, min_forms: int) -> FormRule:
    """How the variety of target forms enters a claim about a relation."""
    if not cells.few_forms:
        return "variance"
    if relation.family in BARRED_FAMILIES:
        return "barred"
    is_class = relation.family == "punctuation" and relation.name != ANY_MARK
    return "definition" if is_class and forms < min_forms else "leave one out"


def _form_names(instances: Instances, links: RelationInstances) -> tuple[str, ...]:
    """The lower-cased forms of the nearest targets, the most frequent first."""
    names = [str(instances.forms[form]).lower() for form in instances.form[links.nearest].tolist()]
    return tuple(name for name, _ in Counter(names).most_common())


def _lift(
    instances: Instances,
    tallies: Tallies,
    baselines: BaselineHits,
    index: int,
    links: RelationInstances,
    cells: Cells,
    form_rule: FormRule,
    thresholds: EvidenceThresholds,
) -> Lift:
    """The lift of the heads on one relation."""
    members = list(instances.members(index))

    def sums(by_document: NDArray[Any], by_form: NDArray[Any]) -> ShareSums:
        """The sums of the relation from those of its members, [R', F, ...]."""
        both = (
            np.asarray(of_fold[members].sum(0, dtype=np.float64)).reshape(FOLDS, -1)
            for of_fold in (by_document, by_form)
        )
        return ShareSums(*both)

    distance = baselines.distance
    first, second = (
        sums(by_document, by_form)
        for by_document, by_form in zip(
            distance.share_by_document, distance.share_by_form, strict=True
        )
    )
    form_sizes = np.bincount(instances.form_fold[links.nearest], minlength=FOLDS)
    lift = lift_of(
        sums(tallies["share_by_document"], tallies["share_by_form"]),
        (first, second),
        cells,
        form_sizes.astype(np.float64),
        thresholds.confidence,
    )
    if form_rule != "leave one out":
        lift = replace(lift, without_form=np.full_like(lift.lift, np.nan))
    return lift


def _most_beaten(relations: Sequence[Relation]) -> Ints:
    """[R]: the largest index into ``BEATS`` that a relation can have.

    The category control knows parts of speech, and a word-class relation asks for nothing else.
    """
    return np.array(
        [
            BEATS.index("distance" if relation.family == WORD_CLASS else "category")
            for relation in relations
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
