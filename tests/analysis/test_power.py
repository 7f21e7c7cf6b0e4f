"""The detectable gain of a relation, and its calibration."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats

from headprobe.analysis.intervals import NO_ROOM, OUT_OF_REACH, find_power
from tests.helpers.simulation import Demands as Weighing
from tests.helpers.simulation import Simulation


@dataclass(frozen=True)
class Demands(Weighing):
    margin: float = 0.1
    min_forms: int = 3
    power: float = 0.8


def test_detectable_gain_equals_the_documented_formula() -> None:
    evidence = Simulation(30).weigh(np.random.default_rng(0))
    relation_power = find_power(evidence, Demands())
    degrees = min(evidence.document_folds[0], evidence.form_folds[0]) - 1
    error = np.median((evidence.gain_high - evidence.gain) / stats.t.ppf(0.975, degrees))
    assert relation_power.error[0] == pytest.approx(error)
    reach = stats.t.ppf(0.975, degrees) + stats.t.ppf(0.8, degrees)
    assert relation_power.detectable[0] == pytest.approx(0.1 + reach * error)
    assert (
        relation_power.can_say[0]
        and not relation_power.impossible[0]
        and relation_power.why == ("",)
    )


def test_heads_with_the_detectable_gain_are_discovered_at_the_stated_rate() -> None:
    demands = Demands(margin=0.05)
    heads, n = 1500, 1000
    plain = Simulation(heads, n=n, documents=40, forms=40, liking=(0.05, 0.05))
    detectable = find_power(plain.weigh(np.random.default_rng(1)), demands).detectable[0]
    able = replace(plain, gains={(0, head): float(detectable) for head in range(heads)})
    evidence = able.weigh(np.random.default_rng(2))
    assert (evidence.gain_low > demands.margin).mean() == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize(
    ("changes", "asked", "why"),
    [
        ({"n": 40}, {"min_n": 50}, "too few instances"),
        ({"documents": 1}, {}, "fewer than two effective document folds"),
        ({"forms": 2}, {}, "too few target forms"),
        ({"forms": 1}, {"min_forms": 1}, "too few target forms"),
        ({"forms": 4}, {}, ""),
        ({"n": 60, "documents": 3}, {"margin": 0.3}, OUT_OF_REACH),
    ],
)
def test_missing_power_has_a_reason(changes: dict, asked: dict, why: str) -> None:
    evidence = Simulation(20, **changes).weigh(np.random.default_rng(3))
    relation_power = find_power(evidence, Demands(**asked))
    assert relation_power.why[0] == why
    assert relation_power.can_say[0] == (why in ("", OUT_OF_REACH))
    assert relation_power.impossible[0] == (why == OUT_OF_REACH)


def test_a_baseline_that_is_almost_always_right_leaves_nothing_to_gain() -> None:
    evidence = Simulation(20).weigh(np.random.default_rng(3))
    sure = replace(evidence, baseline_top1=np.full_like(evidence.baseline_top1, 0.95))
    assert find_power(sure, Demands()).why[0] == NO_ROOM


def test_best_head_is_chosen_on_one_half_and_reported_on_the_other() -> None:
    families = ("syntax", "coreference")
    evidence = Simulation(50, families=families, gains={(1, 7): 0.3}).weigh(
        np.random.default_rng(4)
    )
    relation_power = find_power(evidence, Demands())
    assert relation_power.best[1] == 7
    for relation in range(2):
        best = evidence.gain_a[0, :, relation].argmax()
        assert relation_power.best[relation] == best
        assert relation_power.best_gain[relation] == evidence.gain_b[0, best, relation]


def test_one_document_gives_no_best_head() -> None:
    evidence = Simulation(5, documents=1).weigh(np.random.default_rng(5))
    lone = replace(evidence, gain_a=np.full_like(evidence.gain_a, np.nan))
    relation_power = find_power(lone, Demands())
    assert relation_power.best.tolist() == [-1] and np.isnan(relation_power.best_gain).all()
    assert np.isnan(relation_power.detectable).all()
