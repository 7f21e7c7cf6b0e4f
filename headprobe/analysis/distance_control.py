"""What a head would score by distance alone (METHOD section 3, ``distance_control``).

A head's profile is its mean stripped attention at each word distance. ``distance_control`` chooses
the candidate with the largest value; ``habit_length`` the one with the largest value times its
number of tokens, for attention to a word is a sum over its tokens, and a head that decays with
distance in tokens, blind to all content, leans to long words near by. Of equally large ones, and
among the words that share the last bin of the profile, it is the nearer word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.candidates import (
    Candidates,
    GroupedInstances,
    RelationRows,
    count_groups,
    shared_rows,
    slices,
    target_table,
)
from headprobe.analysis.evidence import Bools, Floats, Ints
from headprobe.runs.instances import Instances
from headprobe.vocabulary import LONGEST

DISTANCE_RULES = ("habit", "habit_length")
"""The two rules."""

CACHED = 1 << 15
"""Words of rows at a time, few enough for the processor's cache."""


@dataclass(frozen=True)
class DistanceControl:
    """``sums`` map each of HABITS to its hits [R, S, N] (``analysis.candidates``); ``expected`` and
    ``share`` [R, N] are the profile's mass on the targets: among the candidates, and
    (norm-weighted) among all usable earlier words of the passage. NaN where a relation has no
    instance."""

    sums: Mapping[str, Floats]
    expected: Floats
    share: Floats


def distance_control(
    instances: Instances, relations: Sequence[GroupedInstances], profile: Floats, norm: Floats
) -> DistanceControl:
    """Judge every head by its mean attention and mean norm-weighted attention per distance alone.

    ``profile`` and ``norm`` are [N, D]. What wins depends on the head, the query word and the
    candidates' rule only, so relations that share the rule share the work.
    """
    heads = len(profile)
    grouped = (len(relations), count_groups(instances), heads)
    plain = (len(relations), heads)
    sums = {rule: np.zeros(grouped) for rule in DISTANCE_RULES}
    result = DistanceControl(sums, np.zeros(plain), np.zeros(plain))
    profiles = _Profiles(profile, norm, _leaders(profile))
    for rows, asking in shared_rows(instances, relations, heads):
        scored = _score_rows(rows, profiles)
        for some in asking:
            _add(result, some, scored)
    sizes = np.array([len(relation.links) for relation in relations], dtype=np.float64)[:, None]
    sizes[sizes == 0] = np.nan
    return DistanceControl(sums, result.expected / sizes, result.share / sizes)


class _Profiles(NamedTuple):
    """Mean attention, norm-weighted attention [N, D], and the first one's ``_leaders``."""

    mass: Floats
    norm: Floats
    leaders: NDArray[np.intp]


@dataclass(frozen=True)
class _ScoredRows:
    """Rows of query words: by each of HABITS the ``distance`` [Q, N] of the word that it chooses
    for each head, and the reciprocals [Q, N] of the profile's mass on all candidates (0 where it
    has none)."""

    rows: Candidates
    profiles: _Profiles
    distance: Mapping[str, Ints]
    per_mass: Floats
    per_norm: Floats


def _leaders(profile: Floats) -> NDArray[np.intp]:
    """[D, N]: the index of the largest value among the first d + 1; of equal ones, the nearest."""
    highest = np.maximum.accumulate(profile, axis=1)
    rises = profile[:, 1:] > highest[:, :-1]
    indices = np.where(rises, np.arange(1, profile.shape[1]), 0)
    padded = np.pad(indices, ((0, 0), (1, 0)))
    return np.ascontiguousarray(np.maximum.accumulate(padded, axis=1).T)


def _score_rows(rows: Candidates, profiles: _Profiles) -> _ScoredRows:
    counts = rows.by_distance()
    distance = _choices(rows, counts, profiles)
    everything = counts
    if rows.strict or rows.scope == "sentence":
        everything = Candidates(rows.instances, rows.query, "passage", strict=False).by_distance()
    per_mass, per_norm = _per_mass(counts, profiles.mass), _per_mass(everything, profiles.norm)
    return _ScoredRows(rows, profiles, distance, per_mass, per_norm)


def _favourites(rows: Candidates, counts: Floats, profiles: _Profiles) -> Ints:
    """[Q, N]: the distance of the candidate that each head's profile prefers.

    Most rows take the largest value of all distances within their extent; only where that word is
    no candidate are the others looked at.
    """
    width = counts.shape[1]
    bins = profiles.leaders[np.clip(rows.words_before, 1, width) - 1]
    wrong_row, wrong_head = np.nonzero(np.take_along_axis(counts, bins, axis=1) == 0)
    for some in slices(len(wrong_row), width):
        row, head = wrong_row[some], wrong_head[some]
        values = np.where(counts[row] > 0, profiles.mass[head, :width], -np.inf)
        bins[row, head] = values.argmax(1)
    return _distances(rows, bins, width)


def _favourites_by_length(rows: Candidates, counts: Floats, profiles: _Profiles) -> Ints:
    """[Q, N]: the distance of the candidate preferred where each of its tokens counts."""
    width = counts.shape[1]
    distance = np.broadcast_to(np.arange(1, width + 1), counts.shape)
    if width == LONGEST:
        distance = distance.copy()
        distance[:, -1] = np.maximum(rows.nearest_beyond(), 1)
    words = np.maximum(rows.query[:, None] - distance, 0)
    tokens = np.where(counts > 0, rows.instances.tokens[words], 0.0)
    nearest = (tokens > 0).argmax(1)
    bins = np.empty((len(words), len(profiles.mass)), dtype=np.intp)
    size = max(1, CACHED // width)
    for low in range(0, len(words), size):
        some = slice(low, low + size)
        values = np.empty_like(tokens[some])
        for head, profile in enumerate(profiles.mass[:, :width]):
            best = np.multiply(tokens[some], profile, out=values).argmax(1)
            if not profile.all():
                best = np.where(values.any(1), best, nearest[some])
            bins[some, head] = best
    return _distances(rows, bins, width)


def _distances(rows: Candidates, bins: NDArray[np.intp], width: int) -> Ints:
    """Profile bins [Q, N] as distances; the last of LONGEST is the nearest candidate from there."""
    distance = bins.astype(np.int64) + 1
    if width == LONGEST:
        beyond = np.maximum(rows.nearest_beyond(), 1)[:, None]
        distance = np.where(distance == LONGEST, beyond, distance)
    return distance


def _per_mass(counts: Floats, profile: Floats) -> Floats:
    """[Q, N]: one over the profile's sum over the counted words; 0 where that sum is zero."""
    mass = counts @ profile[:, : counts.shape[1]].T
    return np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)


def _add(result: DistanceControl, some: RelationRows, scored: _ScoredRows) -> None:
    """Add what some instances of a relation give."""
    number, relation, chosen, row = some
    width = int(scored.rows.words_before.max(initial=1))
    targets = target_table(relation.links, chosen, width)
    for rule, distance in scored.distance.items():
        hits = np.take_along_axis(targets, distance[row] - 1, axis=1)
        result.sums[rule][number] += relation.sums_of_some(chosen, hits)
    binned = _binned(targets)
    for per_mass, values, sums in (
        (scored.per_mass, scored.profiles.mass, result.expected),
        (scored.per_norm, scored.profiles.norm, result.share),
    ):
        by_distance = binned.T @ per_mass[row]
        sums[number] += (by_distance * values[:, : len(by_distance)].T).sum(0)


def _binned(targets: Bools) -> Floats:
    """[I, D']: targets by profile bin, the last of LONGEST counting all from there on."""
    binned = targets[:, :LONGEST].astype(np.float64)
    if targets.shape[1] > LONGEST:
        binned[:, -1] += targets[:, LONGEST:].sum(1)
    return binned


def distance_choices(rows: Candidates, profile: Floats) -> Mapping[str, Ints]:
    """[Q, N] for each of HABITS: the distance of the candidate that it chooses for each head, whose
    mean attention per distance is ``profile`` [N, D]; of no use where a row has no candidate."""
    return _choices(rows, rows.by_distance(), _Profiles(profile, profile, _leaders(profile)))


def _choices(rows: Candidates, counts: Floats, profiles: _Profiles) -> Mapping[str, Ints]:
    return {
        "habit": _favourites(rows, counts, profiles),
        "habit_length": _favourites_by_length(rows, counts, profiles),
    }
