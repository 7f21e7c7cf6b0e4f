"""How much heads changed between two runs of one model, with intervals (docs/compare.md).

On the same text the hits of both runs are paired, instance by instance. On other texts the gains
are independent, and their variances add.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from headprobe.analysis.groups import group_instances
from headprobe.analysis.intervals import interval, quantile
from headprobe.arrays import Floats, Ints
from headprobe.runs.instances import Instances, Keys, RelationInstances, mix_keys
from headprobe.runs.sums import unpack_heads


@dataclass(frozen=True)
class Change:
    """Changes of N heads; NaN means not computed."""

    mean: Floats
    """[N]: the second run's value minus the first run's."""

    low: Floats
    """[N]: lower end of the interval."""

    high: Floats
    """[N]: upper end of the interval."""

    p: Floats
    """[N]: two-sided p of the null hypothesis that nothing changed."""


def two_sided_p(t: Floats, degrees: Floats) -> Floats:
    """Return the probability of Student's t as far from zero as ``t`` [N]."""
    return np.asarray(2 * stdtr(degrees, -np.abs(t)))


@dataclass(frozen=True)
class MeasuredHits:
    """The instances of a run and the hits of its heads."""

    instances: Instances
    hits: NDArray[np.uint8]
    """[I, Z]: packed hits (``runs.sums.AXES``)."""
    heads: int
    """The number N of heads."""


def instance_keys(instances: Instances, links: RelationInstances) -> Keys:
    """[I]: a name of each instance that does not depend on tokens or passages: a hash of the query,
    the nearest target and the farthest one."""
    words = instances.word_keys(0)
    keys = mix_keys(words[links.query], words[links.nearest])
    return mix_keys(keys, words[links.targets[links.first]])


def paired_change(
    a: MeasuredHits,
    b: MeasuredHits,
    relations: tuple[int, int],
    heads: Ints,
    confidence: float,
    min_form_folds: float,
) -> tuple[Change, int]:
    """Return the change of ``top1`` of some ``heads`` on the instances that both runs have of one
    relation, and the number of these instances.

    ``relations`` are the indices of the relation in both runs. The intervals are those of a gain,
    clustered by documents and by forms (``analysis.intervals``).
    """
    links_a, links_b = (
        run.instances.of(index) for run, index in zip((a, b), relations, strict=True)
    )
    _, place_a, place_b = np.intersect1d(
        instance_keys(a.instances, links_a),
        instance_keys(b.instances, links_b),
        return_indices=True,
    )
    if not len(place_a):
        nothing = np.full(len(heads), np.nan)
        return Change(nothing, nothing, nothing, nothing), 0
    hits_a, hits_b = (
        unpack_heads(run.hits[run.instances.numbers(index)[place]], run.heads)[:, heads].astype(
            np.int32
        )
        for run, index, place in zip((a, b), relations, (place_a, place_b), strict=True)
    )
    grouped = group_instances(a.instances, links_a.take(place_a), min_form_folds)
    change = interval(grouped.sums(hits_b - hits_a), grouped.cells, confidence)
    p = two_sided_p(change.mean / change.error, np.asarray(change.degrees))
    return Change(change.mean, change.low, change.high, p), len(place_a)


@dataclass(frozen=True)
class Gain:
    """The gains of N heads, each on a relation of its own, as tables give them.

    NaN where a table has no number.
    """

    gain: Floats
    """[N]"""

    high: Floats
    """[N]: upper end of the interval of ``gain``, which is symmetric."""

    degrees: Floats
    """[N]: Student's degrees of freedom of that interval."""

    def error(self, confidence: float) -> Floats:
        """[N]: the standard error of the gain."""
        with np.errstate(invalid="ignore"):
            return np.asarray(
                (self.high - self.gain) / quantile(self.degrees, (1 + confidence) / 2)
            )


def independent_change(a: Gain, b: Gain, confidence: float) -> Change:
    """Return the difference of gains on two texts, with the degrees of freedom of Welch 1947."""
    variance_a, variance_b = a.error(confidence) ** 2, b.error(confidence) ** 2
    variance = variance_a + variance_b
    with np.errstate(invalid="ignore", divide="ignore"):
        degrees = variance**2 / (variance_a**2 / a.degrees + variance_b**2 / b.degrees)
        mean, error = b.gain - a.gain, np.sqrt(variance)
        reach = quantile(degrees, (1 + confidence) / 2) * error
        p = two_sided_p(mean / error, degrees)
    return Change(mean, mean - reach, mean + reach, p)
