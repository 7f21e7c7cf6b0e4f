"""Heads that do nothing, and heads that do what another does (docs/method.md, Roles)."""

from dataclasses import dataclass

import numpy as np

from headprobe.analysis.evidence import Bools, Floats, HeadStatistics, Ints, divide, floats
from headprobe.roles.rules import IdleRule, RepeaterRule
from headprobe.roles.verdict import Pair
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import head_name


def find_idle(statistics: HeadStatistics, rule: IdleRule) -> Bools:
    """[L, H]: quiet in every domain, against the layer's median head and the residual stream."""
    if not statistics.domains:
        return np.zeros(statistics.output_norm.shape, dtype=np.bool_)
    against_layer = (statistics.output_high < rule.output_norm).all(0)
    against_residual = (statistics.residual_by_domain < rule.residual_share).all(0)
    return np.asarray(against_layer & against_residual)


@dataclass(frozen=True)
class HeadSimilarity:
    """All pairs of heads [N, N]: mean affinity and cosine over rows where both are active (NaN on
    too few such rows), whether they share a key/value group, and the thresholds of each pair."""

    affinity: Floats
    cosine: Floats
    rows: Ints
    same_group: Bools
    min_affinity: Floats
    min_cosine: Floats

    @property
    def surplus(self) -> Floats:
        """[N, N]: how far a pair is above its thresholds in the space where it is worse."""
        above = np.minimum(self.affinity - self.min_affinity, self.cosine - self.min_cosine)
        return np.nan_to_num(above, nan=-np.inf)


def find_similarity(
    tallies: Tallies, idle: Bools, heads_per_group: int, rule: RepeaterRule
) -> HeadSimilarity:
    """Pair means, without idle heads. Within a key/value group the thresholds rise to a quantile of
    such pairs where there are enough groups of several heads, but not beyond what is certain: where
    more pairs are exact repeaters than the quantile leaves, it would be a tie among them."""
    layers, heads = idle.shape
    rows = floats(tallies, "both_active")
    left_out = idle.ravel()[:, None] | idle.ravel() | np.eye(layers * heads, dtype=np.bool_)
    measured = (rows >= max(rule.min_rows, 1)) & ~left_out
    counted = np.where(measured, rows, 0)
    affinity = divide(floats(tallies, "affinity"), counted)
    cosine = divide(floats(tallies, "cosine"), counted)
    group = np.arange(layers * heads) // heads_per_group
    same_group = (group[:, None] == group) & ~np.eye(layers * heads, dtype=np.bool_)
    groups = len(np.unique(group)) if heads_per_group > 1 else 0

    def threshold(plain: float, means: Floats) -> Floats:
        built_in = means[np.triu(same_group & measured)]
        raised = plain
        if groups >= rule.min_groups and len(built_in):
            usual = float(np.quantile(built_in, rule.within_group))
            raised = max(plain, min(usual, rule.certain))
        return np.where(same_group, raised, plain)

    return HeadSimilarity(
        affinity,
        cosine,
        rows.astype(np.int64),
        same_group,
        threshold(rule.affinity, affinity),
        threshold(rule.cosine, cosine),
    )


def find_pairs(similarity: HeadSimilarity, heads: int, rule: RepeaterRule) -> list[Pair]:
    """Pairs that repeat each other, and pairs whose outputs oppose each other, most alike first."""
    repeats = similarity.surplus >= 0
    opposes = similarity.cosine <= -rule.cosine
    found = [
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
    return sorted(found, key=lambda pair: (-pair.output_cosine, -pair.affinity))


def find_clusters(similarity: HeadSimilarity) -> list[tuple[int, ...]]:
    """Complete-link clusters of repeaters, as head numbers: of the clusters in which all pairs are
    above their thresholds, the two whose worst pair is best are joined first."""
    surplus = similarity.surplus
    alike = np.flatnonzero((surplus >= 0).any(0))
    clusters: list[tuple[int, ...]] = [(int(head),) for head in alike]
    linked = surplus[np.ix_(alike, alike)]
    while linked.max(initial=-np.inf) >= 0:
        a, b = (int(index) for index in np.unravel_index(linked.argmax(), linked.shape))
        linked[a] = linked[:, a] = np.minimum(linked[a], linked[b])
        linked[b] = linked[:, b] = linked[a, a] = -np.inf
        clusters[a], clusters[b] = clusters[a] + clusters[b], ()
    return sorted(tuple(sorted(cluster)) for cluster in clusters if len(cluster) > 1)
