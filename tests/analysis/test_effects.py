"""Effects of ablations: intervals, null sets and multiplicity."""

import numpy as np
import pytest

from headprobe.analysis.effects import (
    TOO_FEW,
    adjust,
    cluster_ratio,
    cluster_sums,
    compare_with_null,
    mean_effects,
    min_sets,
    selectivity,
)


def test_interval_is_the_delete_one_jackknife() -> None:
    rng = np.random.default_rng(0)
    values, cluster = rng.normal(0.3, 1, (2, 60)), rng.integers(0, 7, 60)
    sums, sizes = cluster_sums(values, cluster)
    effects = mean_effects(sums, sizes, 0.95)
    left = np.stack([values[:, cluster != each].mean(1) for each in range(7)])
    error = np.sqrt(6 / 7 * ((left - values.mean(1)) ** 2).sum(0))
    np.testing.assert_allclose(effects.mean, values.mean(1))
    ratio = (effects.high - effects.mean) / error
    assert ratio[0] == pytest.approx(ratio[1])
    assert ratio[0] > 1.96


def test_no_effect_has_p_one_half_and_one_cluster_has_no_interval() -> None:
    sums, sizes = cluster_sums(np.zeros((1, 6)), np.array([0, 0, 1, 1, 2, 2]))
    assert mean_effects(sums, sizes, 0.95).p[0] == pytest.approx(0.5)
    sums, sizes = cluster_sums(np.ones((1, 3)), np.zeros(3, dtype=np.int64))
    assert np.isnan(mean_effects(sums, sizes, 0.95).low[0])


def test_p_of_null_sets_counts_ties_as_harm() -> None:
    null = np.arange(19.0)
    assert compare_with_null(100.0, null, exact=True, fewest=19).p == pytest.approx(1 / 20)
    assert compare_with_null(18.0, null, exact=True, fewest=19).p == pytest.approx(2 / 20)
    few = compare_with_null(100.0, null[:18], exact=True, fewest=19)
    assert few.kind == TOO_FEW
    assert np.isnan(few.p)


def test_so_many_null_sets_that_p_can_be_small_enough() -> None:
    assert [min_sets(p) for p in (0.05, 0.01, 0.5, 0.03)] == [19, 99, 1, 33]
    assert all(1 / (min_sets(p) + 1) <= p < 1 / min_sets(p) for p in (0.05, 0.01, 0.03, 0.2))


def test_selectivity_needs_rows_on_both_sides() -> None:
    change, is_query = np.array([[1.0, 1.0, 0.0, 0.0]]), np.array([True, True, False, False])
    assert selectivity(change, is_query, 2)[0] == 1
    assert np.isnan(selectivity(change, is_query, 3)[0])


def test_adjusted_p() -> None:
    q = adjust(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(q[[0, 2]], [0.02, 0.04])
    assert np.isnan(q[1])


def test_ratio_has_the_interval_of_its_jackknife() -> None:
    rng = np.random.default_rng(1)
    cluster = np.repeat(np.arange(8), 10)
    below = rng.normal(1, 0.3, 80)
    above = 0.6 * below + rng.normal(0, 0.05, 80)
    ratio = cluster_ratio(above, below, cluster, 0.95)
    left = [above[cluster != c].sum() / below[cluster != c].sum() for c in range(8)]
    error = np.sqrt(7 / 8 * np.sum((np.array(left) - ratio.value) ** 2))
    assert ratio.value == pytest.approx(above.sum() / below.sum())
    assert (ratio.high - ratio.low) / (2 * error) == pytest.approx(2.3646, rel=1e-3)
    assert ratio.low < 0.6 < ratio.high
