"""Do other heads take over? Interactions of pairs, and responses of later heads.

See ``docs/causal.md``. An engine that already *runs*: without both heads the loss is higher than
the two effects together. An engine that *starts*: a later head's role score or direct effect rises
when the other head is ablated. Both are compared with matched control heads, and both must be a
material part of a harm whose lower end is above 0: in a large text any two heads interact, with
random weights, too, and where nothing is lost nothing can be taken over.

The direct effect of a copy that always runs rises as well, since each of two equal terms is worth
little beside the other. A head starts only if its own *reaction*, the change of its term, saves
loss.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.effects import (
    CausalThresholds,
    Effects,
    adjust,
    cluster_ratio,
    cluster_sums,
    mean_effects,
    min_sets,
)
from headprobe.analysis.intervals import one_sided_p
from headprobe.arrays import Bools, Floats


def clustered(values: Floats, cluster: NDArray[np.int64], confidence: float) -> Effects:
    """Return the means of ``values`` [S, U] with intervals over clusters."""
    return mean_effects(*cluster_sums(values, cluster), confidence)


def interaction(loss: Floats, loss_a: Floats, loss_b: Floats, loss_ab: Floats) -> Floats:
    """Return I = loss(AB) - loss(A) - loss(B) + loss() of each unit."""
    return loss_ab - loss_a - loss_b + loss


@dataclass(frozen=True)
class Running:
    """The interaction of a pair of heads."""

    value: float
    low: float
    control_q95: float
    """95th percentile of the interactions with controls; NaN where there are too few."""
    controls: int
    runs: bool
    """Whether the second head already does the work of the first."""


def is_material(effect: Effects, joint: Effects, min_share: float) -> bool:
    """Return whether an interaction is a material part of the ``joint`` harm of both heads, which
    must be above 0 itself; others need no controls."""
    low = float(effect.low[0])
    return bool(joint.low[0] > 0 and low > max(0.0, min_share * float(joint.mean[0])))


def judge_interaction(
    effect: Effects, joint: Effects, controls: Floats, thresholds: CausalThresholds
) -> Running:
    """Judge one interaction by its lower end and by the interactions of its controls [C].

    ``joint`` is the harm of ablating both heads.
    """
    value, low = float(effect.mean[0]), float(effect.low[0])
    enough = len(controls) >= min_sets(thresholds.max_p)
    q95 = float(np.quantile(controls, 0.95)) if enough else float("nan")
    runs = enough and is_material(effect, joint, thresholds.min_share) and value > q95
    return Running(value, low, q95, len(controls), bool(runs))


@dataclass(frozen=True)
class Responders:
    """How K later heads respond to the ablation of one head; NaN where nothing was measured."""

    direct: Floats
    """[K]: the change of the direct effect."""
    direct_low: Floats
    top1_before: Floats
    """[K]: the role score with the intact model."""
    top1_after: Floats
    change_low: Floats
    """[K]: lower end of the change of the role score."""
    reaction: Floats
    """[K]: what the change of the head's own term saves, in nats."""
    reaction_low: Floats
    carried: Floats
    """[K]: the harm of the ablation without this reaction."""
    carried_low: Floats
    by_role: Bools
    """[K]: whether the role score is the stronger evidence."""
    q: Floats
    """[K]: Benjamini-Hochberg over the responders, of twice the smaller of both one-sided p."""
    thresholds: CausalThresholds

    @property
    def rises(self) -> Bools:
        """[K]: whether a head's score or direct effect rises materially."""
        share = self.thresholds.min_share
        role = self.change_low > share
        saved = (self.carried_low > 0) & (self.reaction_low > share * self.carried)
        direct = (self.direct > 0) & (self.reaction_low > 0) & saved
        return np.asarray((self.q <= self.thresholds.max_p) & (role | direct))

    @property
    def statistic(self) -> Floats:
        """[K]: the change that is compared with controls: that with the stronger evidence."""
        return np.where(self.by_role, self.top1_after - self.top1_before, self.direct)


def judge_responders(
    direct: Floats | None,
    reaction: Floats | None,
    harm: Floats,
    cluster: NDArray[np.int64],
    before: Floats | None,
    after: Floats | None,
    instance_cluster: NDArray[np.int64],
    count: int,
    thresholds: CausalThresholds,
) -> Responders:
    """Judge the K = ``count`` responders of one ablation.

    ``direct`` [K, N] are the changes of direct effects at N rows, ``reaction`` [K, N] what the
    changes of the heads' terms save there, ``harm`` [N] what the ablation costs there, ``before``
    and ``after`` [K, I] the hits on the relation; None where they were not measured.
    """
    nothing = np.full(count, np.nan)
    change_low, p_role, top1_before, top1_after = nothing, nothing, nothing, nothing
    direct_mean, direct_low, p_direct = nothing, nothing, nothing
    reaction_mean, reaction_low, carried, carried_low = nothing, nothing, nothing, nothing
    if reaction is not None and reaction.shape[1]:
        effect = clustered(reaction, cluster, thresholds.confidence)
        reaction_mean, reaction_low = effect.mean, effect.low
        effect = clustered(reaction + harm, cluster, thresholds.confidence)
        carried, carried_low = effect.mean, effect.low
    if direct is not None and direct.shape[1]:
        effect = clustered(direct, cluster, thresholds.confidence)
        direct_mean, direct_low, p_direct = effect.mean, effect.low, _p_of(effect, direct)
    if before is not None and after is not None and before.shape[1]:
        effect = clustered(after - before, instance_cluster, thresholds.confidence)
        change_low, p_role = effect.low, _p_of(effect, after - before)
        top1_before, top1_after = before.mean(1), after.mean(1)
    p = np.stack([p_direct, p_role])
    known = (~np.isnan(p)).sum(0)
    smallest = np.where(np.isnan(p), 2.0, p).min(0)
    both = np.where(known > 0, np.minimum(1.0, smallest * known), np.nan)
    by_role = np.where(np.isnan(p_role), 2.0, p_role) < np.where(np.isnan(p_direct), 2.0, p_direct)
    return Responders(
        direct_mean,
        direct_low,
        top1_before,
        top1_after,
        change_low,
        reaction_mean,
        reaction_low,
        carried,
        carried_low,
        by_role,
        adjust(both),
        thresholds,
    )


def _p_of(effect: Effects, values: Floats) -> Floats:
    """The p of each row; 1 where nothing changes at all, for which t is not defined."""
    return np.where((values == 0).all(1), np.where(np.isnan(effect.p), np.nan, 1.0), effect.p)


@dataclass(frozen=True)
class Started:
    """Which of K responders start, and their comparison with controls."""

    starts: Bools
    """[K]."""
    control_q95: Floats
    """[K]: 95th percentile of the controls; NaN where there are too few."""
    control_q: Floats
    """[K]: Benjamini-Hochberg over the responders, of the p of the comparison with controls."""


def starts(responders: Responders, controls: Floats) -> Started:
    """Judge which responders start.

    ``controls`` [C, K] are the same statistic of the responders when control heads are ablated; NaN
    where a control is not in an earlier layer than the responder. With fewer than ``min_sets``
    there is no verdict. A responder that rises is the best of many, so a percentile is not enough:
    its p is that of one more value from the controls' distribution (Student's t of a prediction
    interval), adjusted over all responders.
    """
    count = (~np.isnan(controls)).sum(0)
    q95, p = np.full(controls.shape[1], np.nan), np.ones(controls.shape[1])
    for place in np.flatnonzero(count >= min_sets(responders.thresholds.max_p)):
        known = controls[~np.isnan(controls[:, place]), place]
        q95[place] = np.quantile(known, 0.95)
        spread = known.std(ddof=1) * np.sqrt(1 + 1 / len(known))
        above = float(responders.statistic[place] - known.mean())
        if above > 0:
            p[place] = one_sided_p(len(known) - 1, np.array([above / spread]))[0] if spread else 0
    q = adjust(p)
    above_controls = (responders.statistic > q95) & (q <= responders.thresholds.max_p)
    return Started(np.asarray(responders.rises & above_controls), q95, q)


def norm_share(
    change: Floats, frozen: Floats, cluster: NDArray[np.int64], confidence: float
) -> float:
    """Return which share of the harm [N] the final norm repairs by its own scale.

    ``change`` is the change of the loss, ``frozen`` that with the norm's scale as in the intact
    run: (frozen - change) / frozen. NaN unless the lower end of ``frozen`` is above 0.
    """
    if not len(frozen) or not clustered(frozen[None], cluster, confidence).low[0] > 0:
        return float("nan")
    return cluster_ratio(frozen - change, frozen, cluster, confidence).value
