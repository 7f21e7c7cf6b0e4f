"""Intervals compared with textbook jackknives, and their calibration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from headprobe.analysis.intervals import effective_folds, fold_variance, interval, leave_one_out

RULES = {"confidence": 0.95, "min_form_folds": 10}
sizes_of_folds = arrays(np.float64, 8, elements=st.integers(0, 30).map(float)).filter(
    lambda sizes: (sizes > 0).sum() >= 2
)


def fold_sums(rng: np.random.Generator, sizes: np.ndarray, heads: int) -> np.ndarray:
    return rng.binomial(sizes.astype(int)[:, None], 0.4, (len(sizes), heads)).astype(float)


@given(sizes=sizes_of_folds, seed=st.integers(0, 100))
def test_variance_equals_the_documented_formula(sizes: np.ndarray, seed: int) -> None:
    sums = fold_sums(np.random.default_rng(seed), sizes, 2)
    filled = sizes > 0
    g, w = filled.sum(), sizes[filled] / sizes.sum()
    theta_j, theta = sums[filled] / sizes[filled, None], sums.sum(0) / sizes.sum()
    expected = g / (g - 1) * (w[:, None] ** 2 * (theta_j - theta) ** 2).sum(0)
    np.testing.assert_allclose(fold_variance(sums, sizes), expected, atol=1e-15)


def test_variance_equals_delete_one_jackknife_of_a_ratio_for_equal_folds() -> None:
    rng = np.random.default_rng(0)
    sizes = np.full(12, 20.0)
    sums = fold_sums(rng, sizes, 3)
    without = np.array(
        [np.delete(sums, j, 0).sum(0) / np.delete(sizes, j).sum() for j in range(12)]
    )
    textbook = 11 / 12 * ((without - without.mean(0)) ** 2).sum(0)
    # With equal folds deletion shrinks a mean's shift by exactly (g - 1) / g.
    np.testing.assert_allclose(fold_variance(sums, sizes), textbook, rtol=1e-12)


def test_variance_of_single_instances_equals_that_of_the_mean() -> None:
    values = np.random.default_rng(1).random((40, 1))
    expected = values.var(ddof=1) / 40
    np.testing.assert_allclose(fold_variance(values, np.ones(40)), expected)


def test_effective_number_of_folds() -> None:
    assert effective_folds(np.array([5.0, 5, 0, 5])) == pytest.approx(3)
    assert effective_folds(np.array([98.0, 1, 1])) == pytest.approx(1.04, abs=0.01)
    assert effective_folds(np.zeros(4)) == 0


def test_variances_add_and_the_smaller_degrees_of_freedom_are_used() -> None:
    rng = np.random.default_rng(2)
    document_sizes, form_sizes = np.full(20, 15.0), np.full(12, 25.0)
    by_document, by_form = (fold_sums(rng, sizes, 1) for sizes in (document_sizes, form_sizes))
    by_form[0] += by_document.sum() - by_form.sum()
    found = interval(by_document, document_sizes, by_form, form_sizes, **RULES)
    variance = fold_variance(by_document, document_sizes) + fold_variance(by_form, form_sizes)
    reach = stats.t.ppf(0.975, 11) * np.sqrt(variance)
    np.testing.assert_allclose([found.low, found.high], [found.mean - reach, found.mean + reach])
    np.testing.assert_allclose(found.p, stats.t.sf(found.mean / np.sqrt(variance), 11))
    assert np.isnan(found.without_form).all()


def test_with_few_forms_each_is_left_out_once() -> None:
    document_sizes, form_sizes = np.full(10, 10.0), np.array([80.0, 15, 5])
    by_document = np.arange(10.0)[:, None]
    by_form = np.array([[41.0], [3], [1]])
    found = interval(by_document, document_sizes, by_form, form_sizes, **RULES)
    error = np.sqrt(fold_variance(by_document, document_sizes))
    np.testing.assert_allclose(found.high - found.low, 2 * stats.t.ppf(0.975, 9) * error)
    np.testing.assert_allclose(found.without_form, 4 / 20)


def test_one_fold_gives_no_interval() -> None:
    sizes, sums = np.array([0.0, 500]), np.array([[0.0], [500]])
    found = interval(sums, sizes, sums, sizes, **RULES)
    assert found.mean == 1
    assert np.isnan([found.low, found.high, found.p, found.without_form]).all()
    assert np.isnan(fold_variance(sums, sizes)).all() and np.isnan(leave_one_out(sums, sizes)).all()


def test_nearly_one_effective_fold_gives_no_interval() -> None:
    sizes = np.array([1.0, 499])
    found = interval(sizes[:, None], sizes, sizes[:, None], sizes, **RULES)
    assert np.isnan(found.p).all()


def test_variance_is_positive_if_all_folds_agree() -> None:
    """A perfect head in few documents, and one that does exactly what the baseline does."""
    sizes = np.full(3, 20.0)
    sums = sizes[:, None] * np.array([1.0, 0.0])
    found = interval(sums, sizes, sums, sizes, **RULES)
    assert 0.9 < found.low[0] < 0.95 and found.p[0] < 1e-3
    assert found.p[1] == 0.5 and found.low[1] < 0 < found.high[1]


def test_interval_covers_a_gain_that_varies_between_documents() -> None:
    rng = np.random.default_rng(3)
    runs, folds = 4000, 16
    sizes = rng.integers(5, 40, size=folds).astype(float)
    rates = np.clip(rng.normal(0.5, 0.15, (folds, runs)), 0, 1)
    sums = rng.binomial(sizes.astype(int)[:, None], rates).astype(float) - 0.3 * sizes[:, None]
    one_form = sizes.sum(keepdims=True)
    found = interval(sums, sizes, sums.sum(0, keepdims=True), one_form, **RULES)
    covered = np.mean((found.low <= 0.2) & (found.high >= 0.2))
    assert 0.93 < covered < 0.98


def test_p_is_uniform_for_noise_against_one_known_baseline() -> None:
    rng = np.random.default_rng(4)
    heads, sizes = 6000, np.full(40, 12.0)
    sums = rng.binomial(12, 0.3, (40, heads)) - 12 * 0.3
    one_form = np.array([480.0])
    found = interval(sums, sizes, sums.sum(0, keepdims=True), one_form, **RULES)
    assert stats.kstest(found.p, "uniform").statistic < 0.03


def test_p_of_noise_clustered_by_document_and_form_is_calibrated() -> None:
    """Heads that like some forms, or some documents, at random: no gain on average."""
    rng = np.random.default_rng(5)
    heads, n, folds = 3000, 600, 20
    document, form = rng.integers(folds, size=n), rng.integers(folds, size=n)
    liking = 0.3 + rng.normal(0, 0.12, (folds, heads))[document]
    liking += rng.normal(0, 0.12, (folds, heads))[form]
    gains = (rng.random((n, heads)) < np.clip(liking, 0, 1)) - 0.3
    one_hot = [np.equal.outer(np.arange(folds), fold).astype(float) for fold in (document, form)]
    sums = [members @ gains for members in one_hot]
    found = interval(sums[0], one_hot[0].sum(1), sums[1], one_hot[1].sum(1), **RULES)
    for level in (0.01, 0.05, 0.2):
        error = np.sqrt(level * (1 - level) / heads)
        assert np.mean(found.p <= level) <= level + 3 * error
