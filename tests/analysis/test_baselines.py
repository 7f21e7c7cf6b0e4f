"""Every baseline compared with a slow loop over words."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from headprobe.analysis.baselines import (
    Rule,
    baseline_input,
    chance,
    last_subject,
    nearest_mention,
    offset,
    same_form,
    start,
    uniform,
)
from headprobe.runs.instances import Instances
from headprobe.vocabulary import DEPRELS, Relation
from tests.helpers.evidence import (
    PRONOUN,
    PRONOUN_STRICT,
    RELATIONS,
    baselines_of,
    candidates_by_hand,
    instances_by_hand,
    random_instances,
)


@pytest.fixture(params=range(6))
def instances(request: pytest.FixtureRequest) -> Instances:
    rng = np.random.default_rng(request.param)
    return random_instances(rng, rng.integers(1, 40, size=6).tolist())


@pytest.mark.parametrize("relation", range(len(RELATIONS)))
def test_chance_equals_a_loop(instances: Instances, relation: int) -> None:
    expected = [
        len(targets) / len(candidates_by_hand(instances, RELATIONS[relation], query))
        for query, targets in instances_by_hand(instances, relation)
    ]
    found = chance(baseline_input(instances, instances.of(relation))).hits
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("relation", range(len(RELATIONS)))
def test_uniform_equals_a_loop(instances: Instances, relation: int) -> None:
    expected = []
    for query, targets in instances_by_hand(instances, relation):
        candidates = candidates_by_hand(instances, RELATIONS[relation], query)
        most = max(instances.tokens[word] for word in candidates)
        longest = [word for word in candidates if instances.tokens[word] == most]
        expected.append(sum(word in targets for word in longest) / len(longest))
    found = uniform(baseline_input(instances, instances.of(relation))).hits
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("relation", range(len(RELATIONS)))
def test_offset_equals_a_loop(instances: Instances, relation: int) -> None:
    asked = instances_by_hand(instances, relation)
    hits = {
        distance: [query - distance in targets for query, targets in asked]
        for distance in range(1, 41)
    }
    best = max(hits, key=lambda distance: sum(hits[distance]))
    found = offset(baseline_input(instances, instances.of(relation)))
    assert found.choice == str(best)
    np.testing.assert_array_equal(found.hits, hits[best])


@pytest.mark.parametrize("relation", range(len(RELATIONS)))
def test_start_equals_a_loop(instances: Instances, relation: int) -> None:
    asked = instances_by_hand(instances, relation)
    place, sentence = instances.place, instances.sentence_first
    hits = {
        f"word {place_ + 1} of the {what}": [
            query - from_[query] + place_ in targets for query, targets in asked
        ]
        for what, from_ in (("passage", place), ("sentence", np.arange(len(place)) - sentence))
        for place_ in range(40)
    }
    best = max(hits, key=lambda choice: sum(hits[choice]))
    found = start(baseline_input(instances, instances.of(relation)))
    assert found.choice == best
    np.testing.assert_array_equal(found.hits, hits[best])


def by_rule(
    instances: Instances, relation: int, suits: Callable[[int, int], bool]
) -> tuple[list[float], bool]:
    """Hits of choosing the nearest candidate that suits a query, and whether any ever did."""
    hits, any_at_all = [], False
    for query, targets in instances_by_hand(instances, relation):
        candidates = candidates_by_hand(instances, RELATIONS[relation], query)
        chosen = [word for word in candidates if suits(word, query)]
        hits.append(float(bool(chosen) and chosen[-1] in targets))
        any_at_all |= bool(chosen)
    return hits, any_at_all


@pytest.mark.parametrize("relation", range(len(RELATIONS)))
@pytest.mark.parametrize("rule", [nearest_mention, same_form, last_subject])
def test_coreference_baselines_equal_a_loop(
    instances: Instances, relation: int, rule: Rule
) -> None:
    lowered = [str(instances.forms[index]).lower() for index in instances.form]
    suits: dict[Rule, Callable[[int, int], bool]] = {
        nearest_mention: lambda word, query: 0 <= instances.mention_end[word] < query,
        same_form: lambda word, query: lowered[word] == lowered[query],
        last_subject: lambda word, _: DEPRELS[instances.deprel[word]] == "nsubj",
    }
    hits, any_at_all = by_rule(instances, relation, suits[rule])
    found = rule(baseline_input(instances, instances.of(relation)))
    if found is None:
        assert not any_at_all and rule is not same_form
    else:
        np.testing.assert_array_equal(found.hits, hits)
        if RELATIONS[relation].strict and rule is same_form:
            assert not found.hits.any()


def test_coreference_baselines_need_mentions_and_syntax(instances: Instances) -> None:
    bare = replace(
        instances,
        mention_end=np.full_like(instances.mention_end, -1),
        deprel=np.zeros_like(instances.deprel),
    )
    question = baseline_input(bare, bare.of(RELATIONS.index(PRONOUN)))
    assert nearest_mention(question) is None and last_subject(question) is None


def test_coreference_baselines_apply_to_coreference_relations_only(instances: Instances) -> None:
    rules = baselines_of(instances, 2).rules
    for relation, of_relation in zip(RELATIONS, rules, strict=True):
        names = list(of_relation.baselines)
        assert names[:4] == ["offset", "start", "chance", "uniform"]
        own = ["nearest_mention", "same_form", "last_subject"]
        assert names[4:] == (own if relation.family == "coreference" else [])


def test_pooled_anaphors_follow_the_best_rule_of_each_type() -> None:
    """``by_type`` hits where the rule that is best on all instances of the type does."""
    nominal = Relation("coreference", "nominal", "antecedent")
    relations = (nominal, PRONOUN, PRONOUN_STRICT)
    instances = random_instances(np.random.default_rng(5), [30] * 12, relations)
    assert list(instances.pooled) == [replace(nominal, name="anaphor")]  # one strict type only
    assert instances.members(3) == (0, 1)
    pooled, links = instances.of(3), [instances.of(0), instances.of(1)]
    np.testing.assert_array_equal(pooled.query, [*links[0].query, *links[1].query])
    by_hand = [query for index in (0, 1) for query in instances_by_hand(instances, index)]
    assert by_hand == [
        (int(query), set(pooled.targets[pooled.first[i] : pooled.stop[i]].tolist()))
        for i, query in enumerate(pooled.query)
    ]
    rules = baselines_of(instances, 2).rules
    expected = []
    for of_type in rules[:2]:
        best = max(of_type.baselines, key=lambda name: of_type.baselines[name].hits.mean())
        expected += of_type.baselines[best].hits.tolist()
    np.testing.assert_array_equal(rules[3].baselines["by_type"].hits, expected)
    others = [each.hits.mean() for name, each in rules[3].baselines.items() if name != "by_type"]
    assert np.mean(expected) >= max(others[2:])  # the best offset of the union may be better
    assert all("by_type" not in each.baselines for each in rules[:3])
