"""Verdicts on interactions and on responders."""

import numpy as np
import pytest

from headprobe.analysis.takeover import (
    clustered,
    interaction,
    judge_interaction,
    judge_responders,
    norm_share,
    starts,
)
from headprobe.roles.rules import load_rules

CLUSTER = np.repeat(np.arange(10), 8)
RULE = load_rules().causal


def noisy(mean: float, count: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.05, (count, len(CLUSTER)))


def test_interaction_is_what_the_single_effects_leave() -> None:
    assert interaction(*np.array([[1.0], [1.2], [1.3], [2.0]]))[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("mean", "joint", "controls", "runs"),
    [
        (0.5, 0.6, np.full(19, 0.1), True),
        (0.5, 0.6, np.full(19, 0.7), False),
        (0.5, 0.6, np.full(18, 0.1), False),
        (0.5, 50.0, np.full(19, 0.0), False),
        (-0.5, 0.6, np.full(19, -0.9), False),
        (0.5, -0.2, np.full(19, 0.1), False),
    ],
    ids=["runs", "as controls", "few controls", "immaterial", "less than the sum", "no harm"],
)
def test_running(mean: float, joint: float, controls: np.ndarray, runs: bool) -> None:
    whole = clustered(noisy(joint, seed=3), CLUSTER, 0.95)
    effect = clustered(noisy(mean), CLUSTER, 0.95)
    assert judge_interaction(effect, whole, controls, RULE).runs == runs


def test_a_head_starts_by_its_reaction_or_by_its_role() -> None:
    """A higher direct effect alone is no start: that of a copy rises, too. Nor is a reaction that
    is a small part of the harm, or one that control heads cause as well."""
    direct = np.concatenate([noisy(0.5, 4), noisy(0.0, 2, seed=1)])
    reaction = np.concatenate([noisy(0.5), noisy(0.0), noisy(0.02), noisy(0.5), noisy(0.0, 2)])
    rng = np.random.default_rng(2)
    before = (rng.random((6, len(CLUSTER))) < 0.3).astype(float)
    after = before.copy()
    after[4] = 1
    found = judge_responders(
        direct, reaction, noisy(0.5)[0], CLUSTER, before, after, CLUSTER, 6, RULE
    )
    controls = np.zeros((19, 6))
    controls[:, 3] = 0.9
    started = starts(found, controls)
    assert started.starts.tolist() == [True, False, False, False, True, False]
    assert started.control_q95[3] == pytest.approx(0.9)
    assert found.top1_after[4] == 1 > found.top1_before[4]
    assert not starts(found, controls[:18]).starts.any()  # too few controls
    harmless = judge_responders(
        direct, reaction, noisy(-0.6)[0], CLUSTER, before, after, CLUSTER, 6, RULE
    )
    assert starts(harmless, controls).starts.tolist() == [False] * 4 + [True, False]


def test_the_best_of_many_responders_must_stand_out_among_controls() -> None:
    """A rise just above the 95th percentile is what the best of many has by chance."""
    many = 20
    direct = noisy(0.5, many)
    found = judge_responders(
        direct, direct, noisy(0.5)[0], CLUSTER, None, None, CLUSTER, many, RULE
    )
    controls = np.random.default_rng(4).normal(0, 0.33, (19, many))
    started = starts(found, controls)
    assert (found.statistic > started.control_q95).any()
    assert not started.starts.any()
    assert starts(found, controls / 10).starts.all()


def test_heads_that_do_not_change_have_no_evidence() -> None:
    nothing = np.zeros((2, len(CLUSTER)))
    found = judge_responders(nothing, nothing, nothing[0], CLUSTER, None, None, CLUSTER, 2, RULE)
    assert found.q.tolist() == [1, 1]
    assert np.isnan(found.top1_before).all()
    assert judge_responders(
        None, None, nothing[0], CLUSTER, None, None, CLUSTER, 0, RULE
    ).q.shape == (0,)


def test_share_of_the_norm_needs_harm() -> None:
    frozen = noisy(1.0)[0]
    assert norm_share(frozen * 0.6, frozen, CLUSTER, 0.95) == pytest.approx(0.4)
    assert np.isnan(norm_share(noisy(0.0)[0], noisy(0.0)[0], CLUSTER, 0.95))
