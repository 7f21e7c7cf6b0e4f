"""Intervals against textbook jackknives; whether they keep what they promise: test_calibration."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from headprobe.analysis.groups import Cells
from headprobe.analysis.intervals import delete_one_variance, interval, leave_one_out

sizes_of_groups = arrays(np.float64, 8, elements=st.integers(0, 30).map(float)).filter(
    lambda sizes: (sizes > 0).sum() >= 2
)


def group_sums(rng: np.random.Generator, sizes: np.ndarray, heads: int) -> np.ndarray:
    return rng.binomial(sizes.astype(int)[:, None], 0.4, (len(sizes), heads)).astype(float)


def cells_of(document: np.ndarray, form: np.ndarray, sizes: np.ndarray, few: bool) -> Cells:
    by_form = np.bincount(form, weights=sizes)
    folds = float(by_form.sum() ** 2 / (by_form**2).sum())
    return Cells(sizes, document, form, 0 * form, 1, form_folds=folds, few_forms=few)


@settings(deadline=None)  # the first call may compile a loop
@given(sizes=sizes_of_groups, seed=st.integers(0, 100))
def test_variance_equals_the_documented_formula(sizes: np.ndarray, seed: int) -> None:
    sums = group_sums(np.random.default_rng(seed), sizes, 2)
    filled = sizes > 0
    g, w = filled.sum(), sizes[filled, None] / sizes.sum()
    theta_j, theta = sums[filled] / sizes[filled, None], sums.sum(0) / sizes.sum()
    expected = (g - 1) / g * ((w * (theta_j - theta) / (1 - w)) ** 2).sum(0)
    np.testing.assert_allclose(delete_one_variance(sums, sizes), expected, atol=1e-15)


def test_terms_are_the_changes_when_a_group_is_left_out() -> None:
    """Unlike linearised terms, whatever the sizes."""
    rng = np.random.default_rng(0)
    sizes = np.array([3.0, 40, 7, 200, 12])
    sums = group_sums(rng, sizes, 3)
    left = [np.delete(sums, j, 0).sum(0) / np.delete(sizes, j).sum() for j in range(5)]
    expected = 4 / 5 * ((np.array(left) - sums.sum(0) / sizes.sum()) ** 2).sum(0)
    np.testing.assert_allclose(delete_one_variance(sums, sizes), expected, rtol=1e-12)


def test_variance_of_single_instances_equals_that_of_the_mean() -> None:
    values = np.random.default_rng(1).random((40, 1))
    expected = values.var(ddof=1) / 40
    np.testing.assert_allclose(delete_one_variance(values, np.ones(40)), expected)


def test_two_ways_are_added_and_pairs_subtracted_once() -> None:
    rng = np.random.default_rng(2)
    document, form = np.divmod(np.arange(240), 12)
    sizes = rng.integers(1, 9, 240).astype(float)
    cells = cells_of(document, form, sizes, few=False)
    rate = 0.4 + rng.normal(0, 0.1, 20)[document] + rng.normal(0, 0.1, 12)[form]
    values = rng.binomial(sizes.astype(int), np.clip(rate, 0, 1)).astype(float)[:, None]
    found = interval(cells.sums(values), cells, 0.95)
    parts = [
        delete_one_variance(
            np.bincount(group, weights=values[:, 0])[:, None], np.bincount(group, weights=sizes)
        )
        for group in (document, form, np.arange(240))
    ]
    variance = parts[0] + parts[1] - parts[2]
    assert variance > max(parts[:2])
    np.testing.assert_allclose(found.error, np.sqrt(variance))
    assert found.degrees == min(cells.document_folds, cells.form_folds) - 1
    reach = stats.t.ppf(0.975, found.degrees) * found.error
    np.testing.assert_allclose([found.low, found.high], [found.mean - reach, found.mean + reach])
    np.testing.assert_allclose(found.p, stats.t.sf(found.mean / found.error, found.degrees))
    assert np.isnan(found.without_form).all()


def test_variance_is_not_below_that_of_one_grouping() -> None:
    """Pairs that vary more than documents and forms: the difference would be too small."""
    document, form = np.divmod(np.arange(240), 12)
    cells = cells_of(document, form, np.full(240, 2.0), few=False)
    values = ((document + form) % 2 * 2.0)[:, None]
    found = interval(cells.sums(values), cells, 0.95)
    by_document, by_form = (
        delete_one_variance(sums, sizes.sizes)
        for sums, sizes in (
            (cells.documents.sums(values), cells.documents),
            (cells.forms.sums(values), cells.forms),
        )
    )
    expected = max(by_document[0], by_form[0], 1 / 480**2)
    np.testing.assert_allclose(found.error, np.sqrt(expected))


def test_few_forms_are_left_out_one_by_one() -> None:
    document, form = np.divmod(np.arange(30), 3)
    sizes = np.tile([80.0, 15, 5], 10)
    cells = cells_of(document, form, sizes, few=True)
    values = np.tile([41.0, 3, 1], 10)[:, None] + (document % 2)[:, None]
    found = interval(cells.sums(values), cells, 0.95)
    sums, folds = cells.documents.sums(values), cells.documents.sizes
    error = np.sqrt(delete_one_variance(sums, folds))
    np.testing.assert_allclose(found.high - found.low, 2 * stats.t.ppf(0.975, 9) * error)
    np.testing.assert_allclose(found.without_form, (40 + 10) / 200)


def test_one_fold_gives_no_interval() -> None:
    none = np.zeros(1, dtype=np.int64)
    for few in (False, True):
        cells = cells_of(none, none, np.array([500.0]), few)
        found = interval(cells.sums(np.array([[500.0]])), cells, 0.95)
        assert found.mean == 1
        assert np.isnan([found.low, found.high, found.p, found.without_form]).all()
    sums, sizes = np.array([[0.0], [500]]), np.array([0.0, 500])
    assert np.isnan(delete_one_variance(sums, sizes)).all()
    assert np.isnan(leave_one_out(sums, sizes)).all()


def test_nearly_one_effective_fold_gives_no_interval() -> None:
    both = np.array([0, 1])
    cells = cells_of(both, both, np.array([1.0, 499]), few=False)
    assert np.isnan(interval(cells.sums(cells.sizes[:, None]), cells, 0.95).p).all()


def test_variance_is_positive_if_all_folds_agree() -> None:
    """A perfect head in few documents, and one that does exactly what the baseline does."""
    three = np.arange(3)
    cells = cells_of(three, three, np.full(3, 20.0), few=False)
    found = interval(cells.sums(cells.sizes[:, None] * np.array([1.0, 0.0])), cells, 0.95)
    assert 0.9 < found.low[0] < 0.95 and found.p[0] < 1e-3
    assert found.p[1] == 0.5 and found.low[1] < 0 < found.high[1]
