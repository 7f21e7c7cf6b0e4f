"""Lift against its formula, instance by instance."""

import numpy as np
import pytest
from scipy import stats

from headprobe.analysis.groups import Cells
from headprobe.analysis.intervals import delete_one_variance
from headprobe.analysis.lift import Lift, ShareSums, lift_of
from headprobe.vocabulary import FOLDS


def summed(values: np.ndarray, document: np.ndarray, form: np.ndarray) -> ShareSums:
    return ShareSums(
        *(
            np.array([values[group == fold].sum(0) for fold in range(FOLDS)])
            for group in (document, form)
        )
    )


def lifted(share, one, other, document, form, few: bool) -> Lift:
    """The lift of shares [n, N] over two predicted shares [n, N]."""
    sizes = np.bincount(form, minlength=FOLDS).astype(float)
    folds = float(sizes.sum() ** 2 / (sizes**2).sum())
    cells = Cells(np.ones(len(form)), document, form, 0 * form, 1, form_folds=folds, few_forms=few)
    sums = [summed(each, document, form) for each in (share, one, other)]
    return lift_of(sums[0], (sums[1], sums[2]), cells, sizes, 0.95)


@pytest.fixture
def drawn() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    n, heads = 500, 3
    share, one, other = (
        rng.beta(2, 3, (n, heads)),
        rng.beta(2, 6, (n, heads)),
        rng.beta(2, 7, (n, heads)),
    )
    other[:, 1] += 0.2  # larger for one head
    return share, one, other, rng.integers(20, size=n), rng.integers(15, size=n)


def test_lift_and_its_lower_end_are_the_formulas_of_the_method(drawn) -> None:
    share, one, other, document, form = drawn
    found = lifted(*drawn, few=False)
    predicted = np.where([False, True, False], other, one)
    s, d = share.mean(0), predicted.mean(0)
    np.testing.assert_allclose(found.share, s)
    np.testing.assert_allclose(found.distance_share, d)
    np.testing.assert_allclose(found.lift, s / (1 - s) / (d / (1 - d)))
    u = (share - s) / (s * (1 - s)) - (predicted - d) / (d * (1 - d))
    variance = sum(
        delete_one_variance(
            np.array([u[group == fold].sum(0) for fold in range(FOLDS)]),
            np.bincount(group, minlength=FOLDS).astype(float),
        )
        for group in (document, form)
    )
    folds = [500**2 / (np.bincount(group) ** 2).sum() for group in (document, form)]
    reach = stats.t.ppf(0.975, min(folds) - 1) * np.sqrt(variance)
    np.testing.assert_allclose(found.low, found.lift * np.exp(-reach))
    assert np.isnan(found.without_form).all()


def test_lift_without_any_one_form(drawn) -> None:
    share, one, other, document, form = drawn
    form = form % 3
    found = lifted(share, one, other, document, form, few=True)
    predicted = np.where([False, True, False], other, one)
    left = []
    for each in range(3):
        s, d = (values[form != each].mean(0) for values in (share, predicted))
        left.append(s / (1 - s) / (d / (1 - d)))
    np.testing.assert_allclose(found.without_form, np.min(left, axis=0))


@pytest.mark.parametrize(("share", "predicted"), [(0.0, 0.3), (1.0, 0.3), (0.4, 0.0), (0.4, 1.0)])
def test_shares_of_nothing_or_all_have_no_lift(share: float, predicted: float) -> None:
    n = 60
    document, form = np.arange(n) % 20, np.arange(n) % 15
    values = (np.full((n, 1), each) for each in (share, predicted, predicted))
    found = lifted(*values, document, form, few=False)
    assert np.isnan(found.lift).all() and np.isnan(found.low).all()


def test_even_attention_has_a_lift_of_one() -> None:
    """A row's evenly spread attention is what its flat profile predicts."""
    rng = np.random.default_rng(1)
    share = 1 / rng.integers(3, 40, (400, 1))
    found = lifted(
        share, share, share, rng.integers(20, size=400), rng.integers(15, size=400), few=False
    )
    np.testing.assert_allclose([found.lift, found.low], 1)
