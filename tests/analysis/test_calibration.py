"""p, q and intervals are calibrated on simulated heads that look for nothing."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

from headprobe.analysis.groups import Cells, GroupSums
from headprobe.analysis.intervals import (
    delete_one_variance,
    interval,
    one_sided_p,
)
from tests.helpers.simulation import Simulation

HEADS = 2000

NOISE = {
    "neither": (),
    "documents": (0.12, 0.0),
    "forms": (0.0, 0.12),
    "both": (0.1, 0.1),
    "pairs": (0.0, 0.0, 0.12),
    "all": (0.07, 0.07, 0.05),
}
"""What heads and baselines like: documents, forms, and pairs of both."""

DESIGNS = {
    "even": {"n": 600, "documents": 40, "forms": 40},
    "few": {"n": 600, "documents": 40, "forms": 60, "zipf": 1.0},
    "large": {"n": 1200, "documents": 25, "forms": 40, "zipf": 0.7},
    "colliding": {"n": 600, "documents": 120, "forms": 200, "zipf": 0.7, "collide": True},
}
"""Sizes of 40 and fewer even folds; few, uneven forms (12 effective folds); and names that share
folds."""


@cache
def simulated(noise: str, design: str, seed: int = 1) -> tuple[GroupSums, Cells]:
    """Sums of gains without a true one, of many heads."""
    plan = Simulation(HEADS, liking=NOISE[noise], **DESIGNS[design])
    grouped, gains = plan.group(np.random.default_rng(seed))
    return grouped.sums(gains), grouped.cells


def upper(level: float, heads: int = HEADS) -> float:
    """The largest share of p at most ``level`` that sampling error explains."""
    return level + 3 * float(np.sqrt(level * (1 - level) / heads))


def coverage(sums: GroupSums, cells: Cells, variance: np.ndarray) -> float:
    """How often an interval of this variance holds the true gain of 0."""
    p = one_sided_p(cells.degrees, sums.total / cells.total / np.sqrt(variance))
    return float(((p > 0.025) & (p < 0.975)).mean())


def one_way(sums: GroupSums, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    return (
        delete_one_variance(sums.documents, cells.documents.sizes),
        delete_one_variance(sums.forms, cells.forms.sizes),
    )


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("design", DESIGNS)
def test_p_of_noise_is_small_no_oftener_than_it_says(noise: str, design: str) -> None:
    sums, cells = simulated(noise, design)
    assert not cells.few_forms
    found = interval(sums, cells, 0.95)
    for level in (0.005, 0.01, 0.05, 0.1, 0.2):
        assert (found.p <= level).mean() <= upper(level), level
    covered = ((found.low <= 0) & (found.high >= 0)).mean()
    assert 0.935 <= covered <= 0.985


def test_adding_both_variances_is_too_wide() -> None:
    """Noise of the instances themselves counts twice without the third term."""
    for noise in ("neither", "pairs"):
        sums, cells = simulated(noise, "even")
        found = interval(sums, cells, 0.95)
        covered = ((found.low <= 0) & (found.high >= 0)).mean()
        assert covered < 0.98 < coverage(sums, cells, np.sum(one_way(sums, cells), axis=0))


def test_the_larger_variance_alone_is_too_narrow() -> None:
    design = {"n": 2400, "documents": 40, "forms": 40}
    plan = Simulation(HEADS, liking=NOISE["both"], **design)
    grouped, gains = plan.group(np.random.default_rng(2))
    sums, cells = grouped.sums(gains), grouped.cells
    larger = np.max(one_way(sums, cells), axis=0)
    t = sums.total / cells.total / np.sqrt(larger)
    assert (one_sided_p(cells.degrees, t) <= 0.05).mean() > upper(0.05)
    assert (interval(sums, cells, 0.95).p <= 0.05).mean() <= upper(0.05)


def test_documents_alone_cluster_where_forms_are_few() -> None:
    for liking in ((), (0.12, 0.0)):
        plan = Simulation(HEADS, n=600, documents=40, forms=4, liking=liking)
        grouped, gains = plan.group(np.random.default_rng(3))
        assert grouped.cells.few_forms
        found = interval(grouped.sums(gains), grouped.cells, 0.95)
        assert stats.kstest(found.p, "uniform").statistic < 0.045


@pytest.mark.parametrize("rivals", [1, 4])
def test_p_over_several_baselines_is_no_smaller(rivals: int) -> None:
    found = Simulation(HEADS, rivals=rivals).weigh(np.random.default_rng(1))
    for level in (0.01, 0.05, 0.1, 0.3):
        assert (found.p <= level).mean() <= upper(level), level
    assert (found.gain_low > 0).mean() <= upper(0.025)


def test_intervals_cover_the_true_gain() -> None:
    heads = 1000
    plan = Simulation(heads, n=2000, documents=40, forms=40)
    plan.gains = {(0, head): 0.12 for head in range(0, heads, 2)}
    found = plan.weigh(np.random.default_rng(4))
    truth = np.where(np.arange(heads) % 2 == 0, 0.12, 0.0)[None, :, None]
    covered = (found.gain_low <= truth) & (truth <= found.gain_high)
    assert 0.93 < covered.mean() < 0.97


def test_q_controls_false_discoveries_and_true_heads_are_discovered() -> None:
    rng = np.random.default_rng(5)
    families = ("syntax", "syntax", "syntax", "coreference", "coreference", "punctuation")
    planted = {(relation, head): 0.35 for relation in (0, 3) for head in range(8)}
    false, true = [], []
    for _ in range(12):
        found = Simulation(
            150, n=500, rivals=2, liking=(0.08, 0.08), families=families, gains=planted
        ).weigh(rng)
        first = [families.index(name) for name in ("syntax", "coreference", "punctuation")]
        discovered = found.q[0][:, first] <= 0.05
        is_true = np.zeros_like(discovered)
        is_true[:8, :2] = True
        # within each family by itself
        false.append((discovered & ~is_true).sum(0) / np.maximum(discovered.sum(0), 1))
        true.append((discovered & is_true).sum() / is_true.sum())
    assert (np.mean(false, axis=0) <= 0.05).all()
    assert np.mean(true) > 0.9


def test_noise_rarely_beats_a_baseline_and_its_halves_do_not_agree() -> None:
    found = Simulation(HEADS, rivals=3).weigh(np.random.default_rng(6))
    assert (found.beats > 0).mean() < 0.025
    assert abs(found.reliability[0]) < 4 / np.sqrt(HEADS)
