"""Matching heads of two models: each step against a slow computation."""

import itertools

import numpy as np
import pytest

from headprobe.analysis.matching import (
    equal_seats,
    head_vectors,
    kappa,
    match_heads,
    self_assigned,
    similarity,
)

RNG = np.random.default_rng(5)


def test_similarity_is_the_mean_affinity_over_shared_words() -> None:
    sketches = RNG.random((2, 6, 1, 3, 8)).astype(np.float16)
    rows = np.array([4, 0, 5])
    words = RNG.random((3, 8)) < 0.6
    words[:, :2] = True
    sketches[0, 4, 0, 1, words[0]] = 0  # a head that gives a row nothing
    vectors = [head_vectors(each, rows, words) for each in sketches]
    found = similarity(*vectors, len(rows))
    for one, other in itertools.product(range(3), range(3)):
        total = 0.0
        for row, shared in zip(rows, words, strict=True):
            p, q = (
                s[row, 0, h][shared].astype(float)
                for s, h in zip(sketches, (one, other), strict=True)
            )
            if p.sum() and q.sum():
                total += np.sqrt(p / p.sum() * q / q.sum()).sum()
        assert found[one, other] == pytest.approx(total / 3)


def test_heads_are_assigned_so_that_similarities_add_up_to_most() -> None:
    similarities = RNG.random((4, 5))
    found = match_heads(similarities, None, None)
    best = max(
        itertools.permutations(range(5), 4),
        key=lambda order: sum(similarities[i, j] for i, j in enumerate(order)),
    )
    assert found.assigned.tolist() == list(best)
    for head, (other, nearest) in enumerate(zip(best, found.nearest, strict=True)):
        row, column = similarities[head], similarities[:, other]
        assert nearest == (row.argmax() == other and column.argmax() == head)
    assert np.isnan(found.floor).all() and not found.matched.any()


def test_a_match_exceeds_the_floors_of_both_heads() -> None:
    similarities = np.array([[0.9, 0.1], [0.2, 0.8]])
    for floor_a, floor_b, matched in (
        ([0.5, 0.5], [0.5, 0.5], [True, True]),
        ([0.5, 0.85], [0.5, 0.5], [True, False]),
        ([0.5, 0.5], [0.95, 0.5], [False, True]),
    ):
        found = match_heads(similarities, np.array(floor_a), np.array(floor_b))
        assert found.matched.tolist() == matched


def test_more_heads_than_there_are_counterparts() -> None:
    found = match_heads(RNG.random((5, 3)), np.zeros(5), np.zeros(3))
    assert sorted(found.assigned.tolist()) == [-1, -1, 0, 1, 2]
    assert np.isnan(found.affinity[found.assigned < 0]).all()
    assert not found.matched[found.assigned < 0].any()


def test_ceiling() -> None:
    gains = RNG.normal(size=(9, 20))
    gains[:, 3] = np.nan
    assert self_assigned(gains, gains + RNG.normal(scale=0.01, size=gains.shape)) == 1
    assert self_assigned(gains, RNG.normal(size=gains.shape)) < 0.6
    assert np.isnan(self_assigned(gains[:, 3:4], gains[:, 3:4]))


def test_equal_seats_against_every_permutation() -> None:
    a = np.array([["x", "x", "none", "y"], ["none", "y", "none", "none"]])
    b = np.array([["x", "none", "none", "y"], ["none", "y", "x", "none"]])
    counts = [
        sum(
            role == other != "none"
            for layer, order in enumerate(orders)
            for role, other in zip(a[layer], b[layer][list(order)], strict=True)
        )
        for orders in itertools.product(itertools.permutations(range(4)), repeat=2)
    ]
    found = equal_seats(a, b, "none")
    assert found.observed == 3
    assert found.expected == pytest.approx(np.mean(counts))
    assert found.p == pytest.approx(np.mean(np.array(counts) >= 3), abs=0.02)


def test_kappa() -> None:
    assert kappa({("a", "a"): 20, ("a", "b"): 5, ("b", "a"): 10, ("b", "b"): 15}) == pytest.approx(
        0.4
    )
    assert kappa({("a", "a"): 3, ("b", "b"): 4}) == 1
    assert np.isnan(kappa({("a", "a"): 3}))
