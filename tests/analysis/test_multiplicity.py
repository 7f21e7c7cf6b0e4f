"""Simes and Benjamini-Hochberg, compared with scipy and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats

from headprobe.analysis.gains import benjamini_hochberg, false_discovery, simes

levels = arrays(np.float64, array_shapes(min_dims=2, max_dims=2), elements=st.floats(0, 1))


@given(levels)
def test_benjamini_hochberg_equals_scipy(p: np.ndarray) -> None:
    adjusted = benjamini_hochberg(p)
    assert adjusted.shape == p.shape
    np.testing.assert_allclose(adjusted.ravel(), stats.false_discovery_control(p.ravel()))


@given(levels)
def test_simes_equals_the_smallest_adjusted_p(p: np.ndarray) -> None:
    np.testing.assert_allclose(simes(p), stats.false_discovery_control(p, axis=1).min(1))


def test_relations_of_a_family_have_the_q_of_their_head() -> None:
    p = np.array([[0.01, 0.5], [0.04, 0.9], [0.2, 0.03], [np.nan, np.nan]])
    q = false_discovery(p, ["syntax", "syntax", "marks", "marks"])
    # Simes: syntax min(2 * .01, .04) = .02 and min(2 * .5, .9) = .9; marks .2 and .03.
    np.testing.assert_allclose(q[0], [0.02 * 2, 0.9])
    np.testing.assert_array_equal(q[0], q[1])
    np.testing.assert_allclose(q[2], [0.2, 0.03 * 2])
    assert np.isnan(q[3]).all()


def test_other_families_change_no_q() -> None:
    rng = np.random.default_rng(0)
    own, easy = rng.random((3, 40)), np.full((5, 40), 1e-9)
    alone = false_discovery(own, ["coreference"] * 3)
    beside = false_discovery(np.concatenate([own, easy]), ["coreference"] * 3 + ["marks"] * 5)
    np.testing.assert_array_equal(beside[:3], alone)


def test_q_is_empty_if_nothing_was_tested() -> None:
    assert np.isnan(false_discovery(np.full((2, 3), np.nan), ["a", "b"])).all()
    assert false_discovery(np.zeros((0, 3)), []).shape == (0, 3)


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_rarely_discovered(seed: int) -> None:
    p = np.random.default_rng(seed).random((12, 1024))
    q = false_discovery(p, ["a"] * 6 + ["b"] * 6)
    assert (q <= 0.05).mean() < 0.001
