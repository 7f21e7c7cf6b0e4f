"""Simulated heads, hit by hit, for tests of p, q, intervals and power.

Each noise head likes some documents and some forms, at random; it hits at the baselines' rate on
average, and each head has baselines of its own, so that heads are independent draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

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
