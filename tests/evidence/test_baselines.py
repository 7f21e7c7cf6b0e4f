"""Every baseline against a slow loop over words."""

import numpy as np
import pytest

from headprobe.evidence.baselines import chance, offset, question_of, start, uniform
from headprobe.store.instances import Instances

from .factory import RELATIONS, candidates_by_hand, instances_by_hand, random_instances


@pytest.fixture(params=range(6))
def instances(request: pytest.FixtureRequest) -> Instances:
    rng = np.random.default_rng(request.param)
    return random_instances(rng, rng.integers(1, 40, size=6).tolist())


@pytest.mark.parametrize("relation", range(len(RELATIONS)))
def test_chance(instances: Instances, relation: int) -> None:
    expected = [
        len(targets) / len(candidates_by_hand(instances, RELATIONS[relation], query))
        for query, targets in instances_by_hand(instances, relation)
    ]
    found = chance(question_of(instances, instances.of(relation))).hits
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("relation", range(len(RELATIONS)))
def test_uniform(instances: Instances, relation: int) -> None:
    expected = []
    for query, targets in instances_by_hand(instances, relation):
        candidates = candidates_by_hand(instances, RELATIONS[relation], query)
        most = max(instances.tokens[word] for word in candidates)
        longest = [word for word in candidates if instances.tokens[word] == most]
        expected.append(sum(word in targets for word in longest) / len(longest))
    found = uniform(question_of(instances, instances.of(relation))).hits
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("relation", range(len(RELATIONS)))
def test_offset(instances: Instances, relation: int) -> None:
    asked = instances_by_hand(instances, relation)
    hits = {
        distance: [query - distance in targets for query, targets in asked]
        for distance in range(1, 41)
    }
    best = max(hits, key=lambda distance: sum(hits[distance]))
    found = offset(question_of(instances, instances.of(relation)))
    assert found.choice == str(best)
    np.testing.assert_array_equal(found.hits, hits[best])


@pytest.mark.parametrize("relation", range(len(RELATIONS)))
def test_start(instances: Instances, relation: int) -> None:
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
    found = start(question_of(instances, instances.of(relation)))
    assert found.choice == best
    np.testing.assert_array_equal(found.hits, hits[best])
