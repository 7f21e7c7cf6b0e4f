"""Idle heads, pairs of similar heads, and clusters of repeaters."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from headprobe.roles.redundancy import find_clusters, find_idle, find_pairs, find_similarity
from headprobe.roles.rules import RepeaterRule, load_rules
from headprobe.runs.sums import Tallies
from tests.helpers.verdicts import pairs_of, shape_of

RULE = load_rules().repeater
ALIKE = (0.96, 0.94)


def clusters(tallies: Tallies, idle: tuple[int, ...] = (), per_group: int = 1) -> list:
    heads = len(tallies["affinity"])
    sleeping = np.isin(np.arange(heads), idle).reshape(1, heads)
    return find_clusters(find_similarity(tallies, sleeping, per_group, RULE))


@pytest.mark.parametrize(
    ("high", "residual", "idle"),
    [
        ([[0.29], [0.1]], 0.04, True),
        ([[0.29], [0.31]], 0.04, False),
        ([[0.29], [np.nan]], 0.04, False),
        ([[0.29], [0.1]], [[[0.04]], [[0.06]]], False),
    ],
)
def test_an_idle_head_has_small_outputs_in_every_domain(
    high: list, residual: object, idle: bool
) -> None:
    bounds = np.ones((2, 2, 2))
    bounds[:, 0, :1] = high
    found = find_idle(shape_of(bounds, residual), load_rules().idle)
    assert found.tolist() == [[idle, False], [False, False]]


@pytest.mark.parametrize(
    ("likeness", "found"),
    [
        ((0.90, 0.90), [(0, 1)]),
        ((0.89, 0.99), []),
        ((0.99, 0.89), []),
        ((0.99, -0.99), []),
    ],
)
def test_repeaters_are_similar_in_attention_and_output(likeness: tuple, found: list) -> None:
    assert clusters(pairs_of(3, {(0, 1): likeness}, rows=128)) == found


def test_pairs_with_few_common_rows_or_idle_heads_do_not_count() -> None:
    assert clusters(pairs_of(3, {(0, 1): ALIKE}, rows=99)) == []
    assert clusters(pairs_of(3, {(0, 1): ALIKE}), idle=(1,)) == []
    unseen = pairs_of(2, {(0, 1): ALIKE}, rows=0)
    assert clusters(unseen) == []


def test_a_chain_is_not_a_cluster() -> None:
    """0 is like 1, 1 like 2, but 0 not like 2: the closer pair is a cluster."""
    chain = pairs_of(4, {(0, 1): (0.92, 0.92), (1, 2): (0.98, 0.98)})
    assert clusters(chain) == [(1, 2)]
    closed = pairs_of(4, {(0, 1): (0.92, 0.92), (1, 2): (0.98, 0.98), (0, 2): (0.91, 0.95)})
    assert clusters(closed) == [(0, 1, 2)]


def test_clusters_are_complete_link() -> None:
    rng = np.random.default_rng(0)
    heads = 40
    centre = rng.integers(8, size=heads)
    near = np.equal.outer(centre, centre)
    values = np.where(
        near, rng.uniform(0.86, 1, (heads, heads)), rng.uniform(0, 0.9, (heads, heads))
    )
    values = np.triu(values, 1) + np.triu(values, 1).T
    rows = np.full((heads, heads), 100)
    tallies = Tallies({"affinity": values * 100, "cosine": values * 100, "both_active": rows})
    labels = fcluster(linkage(squareform(1 - values, checks=False), "complete"), 0.1, "distance")
    expected = [tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
    assert clusters(tallies) == sorted(each for each in expected if len(each) > 1)


def test_thresholds_rise_within_key_value_groups() -> None:
    """Twenty groups of two: all within-group pairs are somewhat alike by construction."""
    alike = {(head, head + 1): (0.93, 0.93) for head in range(0, 40, 2)}
    alike[6, 7] = (0.99, 0.99)
    alike[1, 39] = (0.92, 0.92)
    assert clusters(pairs_of(40, alike), per_group=2) == [(1, 39), (6, 7)]
    assert len(clusters(pairs_of(40, alike), per_group=1)) == 20
    few = {pair: likeness for pair, likeness in alike.items() if pair[1] < 14}
    assert len(clusters(pairs_of(14, few), per_group=2)) == 7


def test_exact_repeaters_within_groups_all_count() -> None:
    """Each is a rounding error better in one space, so that none is above both quantiles."""
    exact = {(0, 1): (1.0, 1 - 1e-7), (2, 3): (1 - 1e-7, 1.0), (4, 5): (0.999, 0.999)}
    usual = {(head, head + 1): (0.93, 0.5) for head in range(6, 16, 2)}
    assert clusters(pairs_of(16, exact | usual), per_group=2) == [(0, 1), (2, 3), (4, 5)]


def test_heads_with_opposing_outputs_are_reported() -> None:
    tallies = pairs_of(4, {(0, 1): (0.4, -0.93), (1, 3): ALIKE})
    similarity = find_similarity(tallies, np.zeros((2, 2), dtype=bool), 2, RULE)
    first, second = find_pairs(similarity, 2, RULE)
    assert (first.name_a, first.name_b, first.relation) == ("L0H1", "L1H1", "repeats")
    assert (second.name_a, second.name_b, second.relation) == ("L0H0", "L0H1", "opposes")
    assert second.same_kv_group and not first.same_kv_group
    assert second.output_cosine == pytest.approx(-0.93)


def test_every_threshold_is_a_rule() -> None:
    lax = RepeaterRule(
        affinity=0.4, cosine=0.05, within_group=0.95, certain=0.99, min_groups=99, min_rows=1
    )
    similarity = find_similarity(pairs_of(3, {}), np.zeros((1, 3), dtype=bool), 1, lax)
    assert find_clusters(similarity) == [(0, 1, 2)]
