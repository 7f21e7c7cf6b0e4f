"""The habit baseline compared with a loop over heads, instances and candidates."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from headprobe.analysis import candidates as module
from headprobe.analysis.distance_control import DISTANCE_RULES, distance_control
from headprobe.runs.instances import Instances
from headprobe.runs.sums import unpack_heads
from headprobe.vocabulary import FOLDS, MAX_DISTANCE
from tests.helpers.evidence import (
    OBJ,
    PRONOUN,
    DrawnInstances,
    candidates_by_hand,
    instances_by_hand,
    links_of,
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
    """hits [I, N], expected [N], share_norm [N], and shares [2, I, N] of the plain profile."""
    rule = instances.relations[relation]
    hits, by_length, expected, share, plain = [], [], [], [], []
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
        once = np.ones_like(instances.tokens)
        plain.append(
            [
                [mass_on(head, query, targets, anywhere, weights) for head in profile]
                for weights in (once, instances.tokens)
            ]
        )
    both = {"habit": np.array(hits), "habit_length": np.array(by_length)}
    shares = np.array(plain).transpose(1, 0, 2)
    return both, np.sum(expected, axis=0), np.sum(share, axis=0), shares


def lone_bins(values: np.ndarray, bins: list[int]) -> np.ndarray:
    """Of the words in one bin of the profile the nearest stands for all."""
    first = np.array([place == 0 or bins[place - 1] != bin_ for place, bin_ in enumerate(bins)])
    return np.where(first, values, -1.0)


def mass_on(
    head: np.ndarray,
    query: int,
    targets: set[int],
    words: list[int],
    weights: np.ndarray | None = None,
) -> float:
    def mass(of: Iterable[int]) -> float:
        return sum(
            head[min(query - word, MAX_DISTANCE) - 1] * (1 if weights is None else weights[word])
            for word in of
        )

    total = mass(words)
    return mass(targets) / total if total else 0.0


@pytest.mark.parametrize("kind", PROFILES)
@to_loop_over
def test_habit_equals_a_loop_over_candidates(
    kind: str, drawn: DrawnInstances, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, instances = drawn()
    profile, norm = PROFILES[kind](rng), rng.random((4, MAX_DISTANCE))
    monkeypatch.setattr(module, "MAX_ENTRIES", 20_000)
    found = distance_control(instances, links_of(instances), profile, norm)
    for index, links in enumerate(links_of(instances)):
        hits, expected, share, shares = by_hand(instances, index, profile, norm)
        for rule in DISTANCE_RULES:
            packed = found.hits[rule][instances.numbers(index)]
            np.testing.assert_array_equal(unpack_heads(packed, len(profile)), hits[rule])
        np.testing.assert_allclose(found.expected[index], expected)
        np.testing.assert_allclose(found.share_norm[index], share)
        document = instances.document_fold[instances.passage[links.query]]
        form = instances.form_fold[links.nearest]
        for folds, by_fold in (
            (document, found.share_by_document),
            (form, found.share_by_form),
        ):
            summed = [shares[:, folds == fold].sum(1) for fold in range(FOLDS)]
            expected = np.array(summed).transpose(1, 0, 2)
            np.testing.assert_allclose(by_fold[:, index], expected, atol=1e-9)


def test_relation_without_instances_has_no_habit() -> None:
    instances = random_instances(np.random.default_rng(0), [5], (OBJ,), asked=0.0)
    found = distance_control(
        instances, links_of(instances), np.ones((2, MAX_DISTANCE)), np.ones((2, MAX_DISTANCE))
    )
    assert not any(len(hits) for hits in found.hits.values())
    assert not found.expected.any() and not found.share_norm.any()
