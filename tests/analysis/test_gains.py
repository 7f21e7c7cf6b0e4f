"""Evidence end to end: from hits per instance to gains, p and q."""

from dataclasses import dataclass

import numpy as np
import pytest

from headprobe.analysis.baselines import BASELINES, baseline_input, nearest_mention
from headprobe.analysis.evidence import BEATS, Evidence
from headprobe.analysis.gains import compute_evidence as weigh_with
from headprobe.analysis.gains import gains_over
from headprobe.analysis.groups import Cells
from headprobe.analysis.pos_control import category_hits, fit_preferences, pair_counts
from headprobe.runs.instances import Instances
from headprobe.runs.sums import Tallies, unpack_heads
from headprobe.vocabulary import CATEGORIES
from tests.helpers.evidence import (
    MARKS,
    OBJ,
    PRONOUN,
    PRONOUN_STRICT,
    RELATIONS,
    candidates_by_hand,
    instances_by_hand,
    links_of,
    random_instances,
    tallies_of,
)


@dataclass(frozen=True)
class Demands:
    confidence: float = 0.95
    min_n: int = 20
    min_form_folds: float = 5
    min_forms: int = 3


def weigh(instances: Instances, tallies: Tallies, demands: Demands) -> Evidence:
    return weigh_with(instances, tallies, fit_preferences(instances, tallies), demands)


@pytest.fixture(scope="module")
def instances() -> Instances:
    return random_instances(np.random.default_rng(0), [30] * 30)


def noise(rng: np.random.Generator, instances: Instances, relation: int, heads: int) -> np.ndarray:
    """Hits [I, N] of heads that choose a candidate blindly."""
    rows = []
    for query, targets in instances_by_hand(instances, relation):
        candidates = candidates_by_hand(instances, instances.relations[relation], query)
        rows.append(rng.random(heads) < len(targets) / len(candidates))
    return np.array(rows)


def test_numbers_are_means_over_instances(instances: Instances) -> None:
    rng = np.random.default_rng(1)
    hits = {index: noise(rng, instances, index, 6) for index in range(len(RELATIONS))}
    evidence = weigh(instances, tallies_of(instances, hits, 2, 3, mass=0.3), Demands())
    names = list(evidence.baselines)
    compared = 0
    assert names == [
        *("offset", "start", "chance", "uniform", "habit", "habit_length"),
        *("nearest_mention", "same_form", "last_subject"),
    ]
    for index, hit in hits.items():
        assert evidence.n[index] == len(hit)
        np.testing.assert_allclose(evidence.top1[..., index].ravel(), hit.mean(0))
        np.testing.assert_allclose(evidence.mass[..., index], 0.3)
        folds = instances.document_fold[instances.passage[instances.of(index).query]]
        rivals = np.stack(
            [np.broadcast_to(each, (2, 3, 5))[..., index] for each in evidence.baselines.values()]
        )
        np.testing.assert_allclose(evidence.baseline_top1[..., index], np.nanmax(rivals, 0))
        np.testing.assert_array_equal(evidence.baseline[..., index], np.nanargmax(rivals, 0))
        asked = baseline_input(instances, instances.of(index))
        for head, named in enumerate(evidence.baseline[..., index].ravel()):
            if names[named] in BASELINES:
                gains = hit[:, head] - BASELINES[names[named]](asked).hits
                for half, parity in ((evidence.gain_a, 0), (evidence.gain_b, 1)):
                    expected = gains[folds % 2 == parity].mean()
                    assert half[..., index].flat[head] == pytest.approx(expected)
                compared += 1
    assert compared > 6
    np.testing.assert_allclose(evidence.gain, evidence.top1 - evidence.baseline_top1, atol=1e-12)
    np.testing.assert_allclose(evidence.strength, evidence.gain / (1 - evidence.baseline_top1))
    assert (evidence.gain_low <= evidence.gain).all() and (
        evidence.gain <= evidence.gain_high
    ).all()


def test_blind_heads_are_not_discovered(instances: Instances) -> None:
    rng = np.random.default_rng(2)
    hits = {index: noise(rng, instances, index, 400) for index in range(len(RELATIONS))}
    evidence = weigh(instances, tallies_of(instances, hits, 20, 20), Demands())
    for level in (0.01, 0.05, 0.2):
        error = np.sqrt(level * (1 - level) / 400)
        assert ((evidence.p <= level).mean((0, 1)) <= level + 3 * error).all()
    assert (evidence.q > 0.05).all()


def test_heads_that_attend_to_the_first_words_have_no_gain(instances: Instances) -> None:
    """What leaks from the sink falls on the first candidates, and stories begin with their hero."""
    hits = {
        index: np.array(
            [
                [candidates_by_hand(instances, relation, query)[0] in targets]
                for query, targets in instances_by_hand(instances, index)
            ]
        )
        for index, relation in enumerate(RELATIONS)
    }
    evidence = weigh(instances, tallies_of(instances, hits, 1, 1), Demands())
    assert (evidence.q > 0.05).all()


def test_perfect_head_is_discovered(instances: Instances) -> None:
    relation = RELATIONS.index(PRONOUN_STRICT)
    hits = {relation: np.ones((len(instances.of(relation)), 1))}
    evidence = weigh(instances, tallies_of(instances, hits, 1, 1), Demands())
    assert evidence.gain_low[0, 0, relation] > 0.3 and evidence.q[0, 0, relation] < 1e-5
    strictless = RELATIONS.index(PRONOUN)
    assert evidence.q[0, 0, strictless] == evidence.q[0, 0, relation]
    assert evidence.q[0, 0, RELATIONS.index(OBJ)] > 0.5


def test_lower_bound_holds_against_every_baseline(instances: Instances) -> None:
    """The interval holds against every baseline, not only against the one named."""
    relation = RELATIONS.index(MARKS)
    hits = {relation: noise(np.random.default_rng(3), instances, relation, 1)}
    tallies = tallies_of(instances, hits, 1, 1)
    evidence = weigh(instances, tallies, Demands())
    others = [
        float(np.broadcast_to(each, (1, 1, 5))[0, 0, relation])
        for each in evidence.baselines.values()
    ]
    at = (0, 0, relation)
    half = (evidence.gain_high[at] - evidence.gain[at]) * 0.5
    assert evidence.gain_low[at] < evidence.top1[at] - np.nanmax(others) - half
    assert evidence.p[at] > 0.5


def test_one_document_gives_gains_without_intervals() -> None:
    rng = np.random.default_rng(4)
    alone = random_instances(rng, [40, 40], documents=["same", "same"])
    hits = {index: noise(rng, alone, index, 1) for index in range(len(RELATIONS))}
    evidence = weigh(alone, tallies_of(alone, hits, 1, 1), Demands())
    assert not np.isnan(evidence.gain).any()
    assert np.isnan(evidence.gain_low).all() and np.isnan(evidence.q).all()


def test_few_instances_are_not_tested(instances: Instances) -> None:
    hits = {0: np.ones((len(instances.of(0)), 1))}
    evidence = weigh(instances, tallies_of(instances, hits, 1, 1), Demands(min_n=10**6))
    assert not np.isnan(evidence.p).any()
    assert np.isnan(evidence.q).all()


def test_relations_without_instances_have_no_evidence() -> None:
    empty = random_instances(np.random.default_rng(5), [9, 9], (OBJ, MARKS), asked=0.0)
    evidence = weigh(empty, tallies_of(empty, {}, 2, 2), Demands())
    assert evidence.n[0] == 0 and np.isnan(evidence.gain[..., 0]).all()
    assert (evidence.baseline[..., 0] == -1).all() and evidence.best_start[0] == ""


def test_evidence_of_text_without_relations_is_empty() -> None:
    plain = random_instances(np.random.default_rng(6), [9, 9], ())
    evidence = weigh(plain, tallies_of(plain, {}, 2, 3), Demands())
    assert evidence.gain.shape == (2, 3, 0)


def test_coreference_baselines_reduce_the_gain_of_coreference(instances: Instances) -> None:
    """A head that always looks at the nearest mention gains nothing but over the other rules."""
    index = RELATIONS.index(PRONOUN)
    follows = nearest_mention(baseline_input(instances, instances.of(index)))
    assert follows is not None
    hits = {index: follows.hits[:, None]}
    evidence = weigh(instances, tallies_of(instances, hits, 1, 1), Demands())
    at = (0, 0, index)
    rule = evidence.baselines["nearest_mention"]
    assert evidence.top1[at] == pytest.approx(rule[index])
    assert evidence.gain[at] <= 0 and evidence.p[at] >= 0.5 and evidence.beats[at] == 0
    assert np.isnan(rule[RELATIONS.index(OBJ)]) and not np.isnan(evidence.gain).any()


def test_head_can_beat_distance_without_beating_parts_of_speech(instances: Instances) -> None:
    """Three heads: blind, as good as its own category profile, and better than that."""
    index = RELATIONS.index(PRONOUN)
    links = instances.of(index)
    pairs = pair_counts(instances)
    profile = np.random.default_rng(7).random(CATEGORIES)
    category = np.repeat((profile * pairs)[:, None], 3, axis=1).reshape(CATEGORIES, 1, 3)
    plain = tallies_of(instances, {}, 1, 3, category=category)
    relations = links_of(instances)
    both = category_hits(instances, relations, fit_preferences(instances, plain))
    theirs = unpack_heads(both[:, instances.numbers(index)].reshape(-1, 1), 1)
    theirs = theirs.reshape(2, -1).sum(1).max()
    hits = np.zeros((len(links), 3))
    hits[:, 0] = noise(np.random.default_rng(8), instances, index, 1)[:, 0]
    hits[:, 2] = 1
    evidence = weigh(
        instances, tallies_of(instances, {index: hits}, 1, 3, category=category), Demands()
    )
    np.testing.assert_allclose(evidence.category_top1[0, :, index], theirs / len(links))
    np.testing.assert_allclose(
        evidence.category_gain[0, :, index], hits.mean(0) - theirs / len(links)
    )
    assert BEATS[evidence.beats[0, 2, index]] == "category"
    assert evidence.beats[0, :2, index].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("over_all", "over_category", "without", "expected"),
    [
        (0.2, 0.2, 0.1, "category"),
        (0.2, 0.0, 0.1, "distance"),
        (0.0, 0.2, 0.0, ""),
        (0.2, 0.2, -0.1, ""),
    ],
)
def test_beats_follows_from_both_controls(
    over_all: float, over_category: float, without: float, expected: str
) -> None:
    """Sums of 20 documents of 20 instances and of two forms, one of which may do it alone."""
    document, form = np.divmod(np.arange(40), 2)
    cells = Cells(np.full(40, 10.0), document, form, 0 * form, 1, form_folds=2.0, few_forms=True)
    rate = np.where(form == 0, 0.5 - over_all + without, 0.5 + over_all - without)
    hits = 10 * rate + np.random.default_rng(9).normal(0, 0.25, 40)
    evenly = np.full((40, 1), 10.0)
    found = gains_over(
        cells.sums(hits[:, None]),
        {4: cells.sums(evenly * (0.5 - over_all))},
        [cells.sums(evenly * (0.5 - over_category)), cells.sums(evenly * 0.1)],
        cells,
        0.95,
        "leave one out",
    )
    assert BEATS[int(found.beats[0])] == expected and found.baseline[0] == 4
    assert found.gain_without_form[0] == pytest.approx(without, abs=0.01)


def test_reliability_equals_the_correlation_of_the_halves(instances: Instances) -> None:
    rng = np.random.default_rng(10)
    able = rng.random(40)
    hits = {0: (rng.random((len(instances.of(0)), 40)) < able).astype(float)}
    evidence = weigh(instances, tallies_of(instances, hits, 4, 10), Demands())
    pair = evidence.gain_a[..., 0].ravel(), evidence.gain_b[..., 0].ravel()
    assert evidence.reliability[0] == pytest.approx(np.corrcoef(*pair)[0, 1])
    assert evidence.reliability[0] > 0.9
    assert np.isnan(evidence.reliability[1])  # none of these heads ever hit


def test_two_heads_have_no_reliability(instances: Instances) -> None:
    hits = {0: noise(np.random.default_rng(11), instances, 0, 2)}
    evidence = weigh(instances, tallies_of(instances, hits, 1, 2), Demands())
    assert np.isnan(evidence.reliability).all()


def test_domains_partition_the_instances() -> None:
    rng = np.random.default_rng(12)
    instances = random_instances(rng, [25] * 24, domains=["talk", "prose", "letter"] * 8)
    hits = {index: noise(rng, instances, index, 4) for index in range(len(RELATIONS))}
    evidence = weigh(instances, tallies_of(instances, hits, 2, 2), Demands())
    assert evidence.domains == ("letter", "prose", "talk")
    np.testing.assert_array_equal(evidence.domain_n.sum(0), evidence.n)
    weights = (evidence.domain_n / evidence.n)[:, None, None]
    for name in ("top1", "baseline_top1", "gain"):
        parts = getattr(evidence, f"domain_{name}")
        np.testing.assert_allclose((weights * parts).sum(0), getattr(evidence, name), atol=1e-12)
    passages = instances.passage[instances.of(0).query]
    there = instances.passage_domains[passages] == "prose"
    np.testing.assert_allclose(
        evidence.domain_top1[1, ..., 0].ravel(), np.array(hits[0])[there].mean(0)
    )
