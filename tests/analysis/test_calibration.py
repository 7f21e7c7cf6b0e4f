"""Heads that look for nothing, simulated hit by hit: what is promised of p, q and intervals holds.

Each noise head likes some documents and some forms, at random; it hits at the baselines' rate on
average, and each head has baselines of its own, so that heads are independent draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy import stats

from headprobe.analysis.candidates import DOCUMENTS, DOMAINS, FORMS
from headprobe.analysis.evidence import Evidence
from headprobe.analysis.gains import BaselineSums, evidence_from_sums
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import FOLDS, Relation
from tests.helpers.evidence import random_instances

RATE = 0.35


@dataclass(frozen=True)
class Demands:
    confidence: float = 0.95
    min_n: int = 20
    min_form_folds: float = 10


@dataclass
class Simulation:
    """Relations of ``n`` instances in so many documents and forms, with ``rivals`` baselines.

    ``liking`` is the spread of what heads and baselines like about documents and about forms."""

    heads: int
    n: int = 300
    documents: int = 25
    forms: int = 25
    rivals: int = 1
    liking: tuple[float, float] = (0.1, 0.1)
    families: Sequence[str] = ("syntax",)
    gains: dict[tuple[int, int], float] = field(default_factory=dict)
    """True gains by (relation, head); all others are 0."""

    def weigh(self, rng: np.random.Generator) -> Evidence:
        relations = tuple(Relation(name, f"r{i}", "x") for i, name in enumerate(self.families))
        drawn = [self._relation(rng, index) for index in range(len(relations))]
        sizes = np.array([each[0] for each in drawn])
        hits = np.array([each[1][0] for each in drawn])
        none = np.zeros((len(relations), self.heads))
        baseline_sums = BaselineSums(
            sizes=sizes,
            forms=np.full(len(relations), self.forms),
            shared_forms=np.zeros(len(relations), dtype=np.int64),
            baselines={
                f"rule {number}": np.array([each[1][number] for each in drawn])
                for number in range(1, self.rivals + 1)
            },
            category=np.array([[each[1][-1] for each in drawn]]),
            choices={"offset": ("1",) * len(relations), "start": ("",) * len(relations)},
            habit_expected=none,
            habit_share=none,
        )
        tallies = dict.fromkeys(("mass", "kept", "share", "share_norm"), none[:, None])
        parts = {"document": DOCUMENTS, "form": FORMS, "domain": DOMAINS}
        tallies |= {f"hits_by_{name}": hits[:, part][:, :, None] for name, part in parts.items()}
        instances = random_instances(np.random.default_rng(0), [1], relations)
        return evidence_from_sums(baseline_sums, instances, Tallies(tallies), Demands())

    def _relation(self, rng: np.random.Generator, relation: int) -> tuple[np.ndarray, np.ndarray]:
        """Sizes [S], and hits [1 + rivals + 1, S, N]: of the heads, the baselines, the control."""
        of = [rng.integers(kinds, size=self.n) for kinds in (self.documents, self.forms)]
        members = np.zeros((2 * FOLDS + 1, self.n))
        for row in (of[0], FOLDS + of[1], 2 * FOLDS):
            members[row, np.arange(self.n)] = 1
        sums = []
        for choosing in range(self.rivals + 2):
            rate = np.full((self.n, self.heads), RATE)
            for kinds, spread in zip(of, self.liking, strict=True):
                rate += rng.uniform(-1, 1, (FOLDS, self.heads))[kinds] * spread * np.sqrt(3)
            if choosing == 0:
                for (planted, head), gain in self.gains.items():
                    rate[:, head] += gain * (planted == relation)
            assert (rate >= 0).all() and (rate <= 1).all()
            sums.append(members @ (rng.random(rate.shape) < rate))
        return members.sum(1), np.array(sums)


def spread_of(share: float, heads: int) -> float:
    return float(np.sqrt(share * (1 - share) / heads))


@pytest.mark.parametrize("rivals", [1, 4])
@pytest.mark.parametrize("liking", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.1, 0.1)])
def test_p_of_noise_is_small_no_oftener_than_it_says(
    rivals: int, liking: tuple[float, float]
) -> None:
    heads = 2500
    found = Simulation(heads, rivals=rivals, liking=liking).weigh(np.random.default_rng(1))
    for level in (0.005, 0.01, 0.05, 0.1, 0.3):
        assert (found.p <= level).mean() <= level + 3 * spread_of(level, heads), level
    assert (found.gain_low > 0).mean() <= 0.025 + 3 * spread_of(0.025, heads)


@pytest.mark.parametrize("liking", [(0.0, 0.0), (0.1, 0.0)])
def test_p_against_one_baseline_is_uniform_where_forms_are_few(
    liking: tuple[float, float],
) -> None:
    """Clustered by document alone; few forms are no part of the interval."""
    simulated = Simulation(2500, documents=40, forms=2, liking=liking)
    p = simulated.weigh(np.random.default_rng(2)).p.ravel()
    assert stats.kstest(p, "uniform").statistic < 0.04


def test_p_is_uniform_where_documents_and_forms_are_what_varies() -> None:
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


def test_q_bounds_the_share_of_false_discoveries_and_finds_the_true_ones() -> None:
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


def test_noise_hardly_ever_beats_anything_and_its_halves_do_not_agree() -> None:
    found = Simulation(2500, rivals=3).weigh(np.random.default_rng(6))
    assert (found.beats > 0).mean() < 0.025
    assert abs(found.reliability[0]) < 4 / np.sqrt(2500)
