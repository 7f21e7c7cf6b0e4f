"""The habit baseline compared with a loop over heads, instances and candidates."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from headprobe.analysis import candidates as module
from headprobe.analysis.distance_control import DISTANCE_RULES, distance_control
from headprobe.runs.instances import Instances
from headprobe.vocabulary import MAX_DISTANCE
from tests.helpers.evidence import (
    OBJ,
    PRONOUN,
    DrawnInstances,
    candidates_by_hand,
    grouped,
    instances_by_hand,
    random_instances,
    to_loop_over,
)

PROFILES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "smooth": lambda rng: rng.random((4, MAX_DISTANCE)),
    "tied": lambda rng: rng.integers(0, 3, size=(4, MAX_DISTANCE)).astype(float),
    "far": lambda rng: np.sort(rng.random((4, MAX_DISTANCE)), axis=1),
    "silent": lambda rng: np.zeros((4, MAX_DISTANCE)),
}


def by_hand(instances: Instances, relation: int, profile: np.ndarray, norm: np.ndarray):
    """hits [I, N], expected [N], share [N]."""
    rule = instances.relations[relation]
    hits, by_length, expected, share = [], [], [], []
    for query, targets in instances_by_hand(instances, relation):
        words = candidates_by_hand(instances, rule, query)[::-1]
        anywhere = candidates_by_hand(instances, PRONOUN, query)
        bins = [min(query - word, MAX_DISTANCE) - 1 for word in words]
        hits.append([words[int(np.argmax(head[bins]))] in targets for head in profile])
        tokens = instances.tokens[words]
        scored = [lone_bins(head[bins] * tokens, bins) for head in profile]
        by_length.append([words[int(np.argmax(values))] in targets for values in scored])
        expected.append([mass_on(head, query, targets, words) for head in profile])
        share.append([mass_on(head, query, targets, anywhere) for head in norm])
    both = {"habit": np.array(hits), "habit_length": np.array(by_length)}
    return both, np.mean(expected, axis=0), np.mean(share, axis=0)


def lone_bins(values: np.ndarray, bins: list[int]) -> np.ndarray:
    """Of the words in one bin of the profile the nearest stands for all."""
    first = np.array([place == 0 or bins[place - 1] != bin_ for place, bin_ in enumerate(bins)])
    return np.where(first, values, -1.0)


def mass_on(head: np.ndarray, query: int, targets: set[int], words: list[int]) -> float:
    total = sum(head[min(query - word, MAX_DISTANCE) - 1] for word in words)
    on_targets = sum(head[min(query - word, MAX_DISTANCE) - 1] for word in targets)
    return on_targets / total if total else 0.0


@pytest.mark.parametrize("kind", PROFILES)
@to_loop_over
def test_habit_equals_a_loop_over_candidates(
    kind: str, drawn: DrawnInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, instances = drawn()
    profile, norm = PROFILES[kind](rng), rng.random((4, MAX_DISTANCE))
    monkeypatch.setattr(module, "MAX_ENTRIES", 20_000)
    found = distance_control(instances, grouped(instances), profile, norm)
    for index, each in enumerate(grouped(instances)):
        hits, expected, share = by_hand(instances, index, profile, norm)
        for rule, place in itertools.product(DISTANCE_RULES, range(each.n_groups)):
            of_place = (each.groups == place).any(0)
            np.testing.assert_array_equal(
                found.sums[rule][index, place], hits[rule][of_place].sum(0)
            )
        np.testing.assert_allclose(found.expected[index], expected)
        np.testing.assert_allclose(found.share[index], share)


def test_relation_without_instances_has_no_habit() -> None:
    instances = random_instances(np.random.default_rng(0), [5], (OBJ,), asked=0.0)
    found = distance_control(
        instances, grouped(instances), np.ones((2, MAX_DISTANCE)), np.ones((2, MAX_DISTANCE))
    )
    assert not any(sums.any() for sums in found.sums.values())
    assert np.isnan(found.expected).all() and np.isnan(found.share).all()
