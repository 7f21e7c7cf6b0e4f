"""p, q and intervals are calibrated on simulated heads that look for nothing."""

import numpy as np
import pytest
from scipy import stats

from tests.helpers.simulation import Simulation


def spread_of(share: float, heads: int) -> float:
    return float(np.sqrt(share * (1 - share) / heads))


@pytest.mark.parametrize("rivals", [1, 4])
@pytest.mark.parametrize("liking", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.1, 0.1)])
def test_p_of_noise_is_not_small_too_often(rivals: int, liking: tuple[float, float]) -> None:
    heads = 2500
    found = Simulation(heads, rivals=rivals, liking=liking).weigh(np.random.default_rng(1))
    for level in (0.005, 0.01, 0.05, 0.1, 0.3):
        assert (found.p <= level).mean() <= level + 3 * spread_of(level, heads), level
    assert (found.gain_low > 0).mean() <= 0.025 + 3 * spread_of(0.025, heads)


@pytest.mark.parametrize("liking", [(0.0, 0.0), (0.1, 0.0)])
def test_p_against_one_baseline_is_uniform_with_few_forms(
    liking: tuple[float, float],
) -> None:
    """Clustered by document alone; few forms are no part of the interval."""
    simulated = Simulation(2500, documents=40, forms=2, liking=liking)
    p = simulated.weigh(np.random.default_rng(2)).p.ravel()
    assert stats.kstest(p, "uniform").statistic < 0.04


def test_p_is_uniform_if_documents_and_forms_cause_the_variance() -> None:
    """Both variances hold a share of the instances' own noise, which therefore counts twice: p is
    uniform as far as that is small beside the rest."""
    simulated = Simulation(1000, n=6000, documents=40, forms=40)
    p = simulated.weigh(np.random.default_rng(3)).p.ravel()
    assert stats.kstest(p, "uniform").statistic < 0.045


@pytest.mark.parametrize(
    ("simulated", "least", "most"),
    [
        (Simulation(2500, documents=40, forms=2, liking=(0.1, 0.0)), 0.937, 0.963),
        (Simulation(1000, n=6000, documents=40, forms=40), 0.937, 0.975),
        (Simulation(2500), 0.94, 1.0),  # the instances' own noise counts twice
    ],
    ids=["documents", "documents and forms", "mostly noise"],
)
def test_intervals_cover_the_true_gain(simulated: Simulation, least: float, most: float) -> None:
    simulated.gains = {(0, head): 0.12 for head in range(0, simulated.heads, 2)}
    found = simulated.weigh(np.random.default_rng(4))
    truth = np.where(np.arange(simulated.heads) % 2 == 0, 0.12, 0.0)[None, :, None]
    covered = (found.gain_low <= truth) & (truth <= found.gain_high)
    assert least < covered.mean() < most


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
        false.append((discovered & ~is_true).sum() / max(discovered.sum(), 1))
        true.append((discovered & is_true).sum() / is_true.sum())
    assert np.mean(false) <= 0.05
    assert np.mean(true) > 0.9


def test_noise_rarely_beats_a_baseline_and_its_halves_do_not_agree() -> None:
    found = Simulation(2500, rivals=3).weigh(np.random.default_rng(6))
    assert (found.beats > 0).mean() < 0.025
    assert abs(found.reliability[0]) < 4 / np.sqrt(2500)
