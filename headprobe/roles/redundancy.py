"""Idle heads, and heads that repeat or oppose each other (docs/method.md, Roles)."""

from dataclasses import dataclass

import numpy as np

from headprobe.analysis.evidence import HeadStatistics, divide, floats
from headprobe.arrays import Bools, Floats, Ints
from headprobe.roles.rules import IdleRule, RepeaterRule
from headprobe.roles.verdict import Pair
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import head_name


def find_idle(statistics: HeadStatistics, rule: IdleRule) -> Bools:
    """Return which heads [L, H] are idle: their output is small in every domain.

    It must be small both against the layer's median head and against the residual stream.
    """
    if not statistics.domains:
        return np.zeros(statistics.output_norm.shape, dtype=np.bool_)
    against_layer = (statistics.output_high < rule.output_norm).all(0)
    against_residual = (statistics.residual_by_domain < rule.residual_share).all(0)
    return np.asarray(against_layer & against_residual)


@dataclass(frozen=True)
class HeadSimilarity:
    """How similar each pair of heads is, over sampled rows on which both are active."""

    affinity: Floats
    """[N, N]: mean Hellinger affinity of attention; NaN on too few common rows, and for idle
    heads."""
    cosine: Floats
    """[N, N]: mean cosine of outputs; NaN in the same places."""
    rows: Ints
    """[N, N]: number of rows on which both heads are active."""
    same_group: Bools
    """[N, N]: whether two different heads share a key/value head."""
    min_affinity: Floats
    """[N, N]: the threshold of ``affinity``."""
    min_cosine: Floats
    """[N, N]: the threshold of ``cosine``."""

    @property
    def surplus(self) -> Floats:
        """[N, N]: the smaller distance of ``affinity`` and ``cosine`` above their thresholds."""
        above = np.minimum(self.affinity - self.min_affinity, self.cosine - self.min_cosine)
        return np.nan_to_num(above, nan=-np.inf)


def find_similarity(
    tallies: Tallies, idle: Bools, heads_per_group: int, rule: RepeaterRule
) -> HeadSimilarity:
    """Return the similarity of all pairs of heads that are not idle.

    Heads that share keys are alike by construction. Within a key/value group, the thresholds
    therefore rise to a quantile of such pairs, if there are enough groups of several heads. They do
    not rise above ``rule.certain``: if more pairs are exact repeaters than exceed the quantile, the
    quantile would only break a tie among them.
    """
    layers, heads = idle.shape
    rows = floats(tallies, "both_active")
    excluded = idle.ravel()[:, None] | idle.ravel() | np.eye(layers * heads, dtype=np.bool_)
    measured = (rows >= max(rule.min_rows, 1)) & ~excluded
    counted = np.where(measured, rows, 0)
    affinity = divide(floats(tallies, "affinity"), counted)
    cosine = divide(floats(tallies, "cosine"), counted)
    group = np.arange(layers * heads) // heads_per_group
    same_group = (group[:, None] == group) & ~np.eye(layers * heads, dtype=np.bool_)
    groups = len(np.unique(group)) if heads_per_group > 1 else 0

    def thresholds(base: float, means: Floats) -> Floats:
        within_groups = means[np.triu(same_group & measured)]
        raised = base
        if groups >= rule.min_groups and len(within_groups):
            quantile = float(np.quantile(within_groups, rule.within_group))
            raised = max(base, min(quantile, rule.certain))
        return np.where(same_group, raised, base)

    return HeadSimilarity(
        affinity,
        cosine,
        rows.astype(np.int64),
        same_group,
        thresholds(rule.affinity, affinity),
        thresholds(rule.cosine, cosine),
    )


def find_pairs(similarity: HeadSimilarity, heads: int, rule: RepeaterRule) -> list[Pair]:
    """Return the pairs that repeat or oppose each other, by falling cosine.

    ``heads`` is the number of heads of a layer. Two heads oppose each other if their outputs do,
    whatever they attend to.
    """
    repeats = similarity.surplus >= 0
    opposes = similarity.cosine <= -rule.cosine
    pairs = [
        Pair(
            head_name(*divmod(int(a), heads)),
            head_name(*divmod(int(b), heads)),
            float(similarity.affinity[a, b]),
            float(similarity.cosine[a, b]),
            bool(similarity.same_group[a, b]),
            "repeats" if repeats[a, b] else "opposes",
        )
        for a, b in np.argwhere(np.triu(repeats | opposes, 1))
    ]
    return sorted(pairs, key=lambda pair: (-pair.output_cosine, -pair.affinity))


def find_clusters(similarity: HeadSimilarity) -> list[tuple[int, ...]]:
    """Return complete-link clusters of repeaters, as tuples of head numbers.

    All pairs of a cluster exceed their thresholds. Each step joins the two clusters whose worst
    pair has the largest surplus.
    """
    surplus = similarity.surplus
    members = np.flatnonzero((surplus >= 0).any(0))
    clusters: list[tuple[int, ...]] = [(int(head),) for head in members]
    linked = surplus[np.ix_(members, members)]
    while linked.max(initial=-np.inf) >= 0:
        a, b = (int(index) for index in np.unravel_index(linked.argmax(), linked.shape))
        linked[a] = linked[:, a] = np.minimum(linked[a], linked[b])
        linked[b] = linked[:, b] = linked[a, a] = -np.inf
        clusters[a], clusters[b] = clusters[a] + clusters[b], ()
    return sorted(tuple(sorted(cluster)) for cluster in clusters if len(cluster) > 1)
