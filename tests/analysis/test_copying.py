"""Evidence of copying: perfect heads, heads bound to a distance, and lucky ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headprobe.analysis.behaviour import copying_evidence
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import LAGS

ROWS = np.array(LAGS)


def tallies_of(hits: np.ndarray, rows: np.ndarray = ROWS) -> Tallies:
    """Hits [E, N]; what duplicates get goes to induction as well."""
    each = hits[:, None]
    sums = {"copy_rows": rows}
    for kind in ("duplicate", "induction"):
        sums |= {f"{kind}_hits": each, f"{kind}_mass": 0.5 * each}
    return Tallies(sums)


def test_evidence_of_planted_copying_heads() -> None:
    perfect, none, half = ROWS, 0 * ROWS, ROWS // 2
    fixed = np.where(np.array(LAGS) == 20, ROWS, 0)
    longest = np.where(np.array(LAGS) == max(LAGS), ROWS, 0)
    hits = np.stack([perfect, none, half, fixed, longest], 1)
    copies = copying_evidence(tallies_of(hits), "duplicate", 0.95)
    assert copies.rows == ROWS.sum() and copies.baseline == max(LAGS) / ROWS.sum()
    top1, gain, low = copies.top1[0], copies.gain[0], copies.gain_low[0]
    assert top1[:2].tolist() == [1, 0]
    assert top1[2] == pytest.approx(half.sum() / ROWS.sum())
    np.testing.assert_allclose(copies.mass[0], 0.5 * top1)
    assert low[0] > 0.8 and low[2] > 0.29 and copies.strength[0, 0] == pytest.approx(1)
    assert gain[1] < 0 and gain[3] < 0 and gain[4] == pytest.approx(0)
    assert (low[[1, 3, 4]] < 0).all()


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=24, max_size=24))
def test_heads_of_a_fixed_distance_have_a_low_lower_bound(drawn: list[tuple[int, int]]) -> None:
    rows = np.array([max(pair) for pair in drawn])
    hits = np.array([[min(pair)] for pair in drawn])
    copies = copying_evidence(tallies_of(hits, rows), "induction", 0.95)
    if not rows.sum():
        assert copies.rows == 0 and np.isnan(copies.top1).all() and np.isnan(copies.gain_low).all()
        return
    assert 0 <= copies.top1[0, 0] <= 1
    assert np.isnan(copies.gain_low[0, 0]) or copies.gain_low[0, 0] <= copies.gain[0, 0]
    assert copies.gain[0, 0] == pytest.approx((hits.sum() - rows.max()) / rows.sum())


def test_few_lucky_sequences_are_not_sufficient_evidence() -> None:
    """Two of 24 sequences are copied completely, and the others not at all."""
    hits = np.where(np.isin(np.array(LAGS), (30, 31)), ROWS, 0)[:, None]
    assert copying_evidence(tallies_of(hits), "duplicate", 0.95).gain_low[0, 0] < 0
