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

CLUSTER = np.repeat(np.arange(10), 8)


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
    ],
    ids=["runs", "as controls", "too few controls", "immaterial", "less than the sum"],
)
def test_running(mean: float, joint: float, controls: np.ndarray, runs: bool) -> None:
    assert judge_interaction(clustered(noisy(mean), CLUSTER), joint, controls).runs == runs


def test_a_head_starts_by_its_reaction_or_by_its_role() -> None:
    """A higher direct effect alone is no start: that of a copy rises, too. Nor is a reaction that
    is a small part of the harm, or one that control heads cause as well."""
    direct = np.concatenate([noisy(0.5, 4), noisy(0.0, 2, seed=1)])
    reaction = np.concatenate([noisy(0.5), noisy(0.0), noisy(0.02), noisy(0.5), noisy(0.0, 2)])
    rng = np.random.default_rng(2)
    before = (rng.random((6, len(CLUSTER))) < 0.3).astype(float)
    after = before.copy()
    after[4] = 1
    found = judge_responders(direct, reaction, CLUSTER, before, after, CLUSTER, 6)
    controls = np.zeros((19, 6))
    controls[:, 3] = 0.9
    is_start, q95 = starts(found, 0.5, controls)
    assert is_start.tolist() == [True, False, False, False, True, False]
    assert q95[3] == pytest.approx(0.9)
    assert found.top1_after[4] == 1 > found.top1_before[4]
    assert starts(found, 0.5, controls[:18])[0][3]  # too few controls: q decides


def test_heads_that_do_not_change_have_no_evidence() -> None:
    nothing = np.zeros((2, len(CLUSTER)))
    found = judge_responders(nothing, nothing, CLUSTER, None, None, CLUSTER, 2)
    assert found.q.tolist() == [1, 1]
    assert np.isnan(found.top1_before).all()
    assert judge_responders(None, None, CLUSTER, None, None, CLUSTER, 0).q.shape == (0,)


def test_share_of_the_norm_needs_harm() -> None:
    frozen = noisy(1.0)[0]
    assert norm_share(frozen * 0.6, frozen, CLUSTER) == pytest.approx(0.4)
    assert np.isnan(norm_share(noisy(0.0)[0], noisy(0.0)[0], CLUSTER))
