"""What a head would score by distance alone (METHOD section 3, ``habit``).

A head's profile is its mean stripped attention at each word distance. ``habit`` chooses the
candidate with the largest value; ``habit_length`` the one with the largest value times its number
of tokens, for attention to a word is a sum over its tokens, and a head that decays with distance in
tokens, blind to all content, leans to long words near by. Of equally large ones, and among the
words that share the last bin of the profile, it is the nearer word.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headprobe.axes import FOLDS, LONGEST
from headprobe.evidence.arrays import Bools, Floats, Ints
from headprobe.evidence.candidates import Candidates, target_table
from headprobe.store.instances import Instances, RelationInstances

HABITS = ("habit", "habit_length")
"""The two rules."""

ROOM = 1_000_000
"""Entries of the largest temporary array: rows by distances, or rows by heads."""


@dataclass(frozen=True)
class Habit:
    """``by_document`` and ``by_form`` map each of HABITS to its sums of hits [R, F, N];
    ``expected`` and ``share`` [R, N] are the profile's mass on the targets: among the candidates,
    and (norm-weighted) among all usable earlier words of the passage. NaN where a relation has no
    instance."""

    by_document: Mapping[str, Floats]
    by_form: Mapping[str, Floats]
    expected: Floats
    share: Floats


@dataclass(frozen=True)
class FoldedInstances:
    """A relation's instances with the document fold and the form fold [I] of each."""

    asked: RelationInstances
    document: Ints
    form: Ints


def habit(
    instances: Instances, relations: Sequence[FoldedInstances], profile: Floats, norm: Floats
) -> Habit:
    """Judge every head by its mean attention and mean norm-weighted attention per distance alone.

    ``profile`` and ``norm`` are [N, D]. What wins depends on the head, the query word and the
    candidates' rule only, so relations that share the rule share the work.
    """
    heads = len(profile)
    folded = (len(relations), FOLDS, heads)
    plain = (len(relations), heads)
    result = Habit(
        {rule: np.zeros(folded) for rule in HABITS},
        {rule: np.zeros(folded) for rule in HABITS},
        np.zeros(plain),
        np.zeros(plain),
    )
    profiles = _Profiles(profile, norm, _leaders(profile))
    alike = defaultdict(list)
    for index, relation in enumerate(relations):
        if len(relation.asked):
            alike[relation.asked.relation.scope, relation.asked.relation.strict].append(index)
    for (scope, strict), members in alike.items():
        queries = np.unique(np.concatenate([relations[index].asked.query for index in members]))
        every = Candidates(instances, queries.astype(np.int64), scope, strict)
        by_extent = np.argsort(every.extent, kind="stable")
        every = Candidates(instances, every.query[by_extent], scope, strict)
        rank = np.empty_like(by_extent)
        rank[by_extent] = np.arange(len(by_extent))
        asking = []
        for index in members:
            row = rank[np.searchsorted(queries, relations[index].asked.query)]
            order = np.argsort(row, kind="stable")
            asking.append((index, order, row[order]))
        for first, rows in _chunks(every, heads):
            judged = _judge_rows(rows, profiles)
            for index, order, row in asking:
                low, high = np.searchsorted(row, [first, first + len(rows.query)])
                if high > low:
                    some = _Some(relations[index], order[low:high], row[low:high] - first)
                    _add(result, index, some, judged)
    sizes = np.array([len(relation.asked) for relation in relations], dtype=np.float64)[:, None]
    sizes[sizes == 0] = np.nan
    return Habit(result.by_document, result.by_form, result.expected / sizes, result.share / sizes)


class _Profiles(NamedTuple):
    """Mean attention, norm-weighted attention [N, D], and the first one's ``_leaders``."""

    mass: Floats
    norm: Floats
    leaders: NDArray[np.intp]


@dataclass(frozen=True)
class _Judged:
    """Rows of query words: by each of HABITS the ``distance`` [Q, N] of the word that it chooses
    for each head, and the reciprocals [Q, N] of the profile's mass on all candidates (0 where it
    has none)."""

    rows: Candidates
    profiles: _Profiles
    distance: Mapping[str, Ints]
    per_mass: Floats
    per_norm: Floats


class _Some(NamedTuple):
    """Instances ``chosen`` [I'] of a relation, and their places [I'] among the rows at hand."""

    relation: FoldedInstances
    chosen: NDArray[np.intp]
    row: NDArray[np.intp]


def _chunks(every: Candidates, heads: int) -> Iterator[tuple[int, Candidates]]:
    """Rows, so many at a time that no temporary array outgrows ROOM, and the first one's number."""
    widest = max(int(every.extent.max(initial=1)), LONGEST)
    size = max(1, ROOM // max(widest, heads))
    for first in range(0, len(every.query), size):
        some = every.query[first : first + size]
        yield first, Candidates(every.instances, some, every.scope, every.strict)


def _leaders(profile: Floats) -> NDArray[np.intp]:
    """[D, N]: the index of the largest value among the first d + 1; of equal ones, the nearest."""
    highest = np.maximum.accumulate(profile, axis=1)
    rises = profile[:, 1:] > highest[:, :-1]
    indices = np.where(rises, np.arange(1, profile.shape[1]), 0)
    padded = np.pad(indices, ((0, 0), (1, 0)))
    return np.ascontiguousarray(np.maximum.accumulate(padded, axis=1).T)


def _judge_rows(rows: Candidates, profiles: _Profiles) -> _Judged:
    counts = rows.by_distance()
    distance = {
        "habit": _favourites(rows, counts, profiles),
        "habit_length": _favourites_by_length(rows, counts, profiles),
    }
    everything = counts
    if rows.strict or rows.scope == "sentence":
        everything = Candidates(rows.instances, rows.query, "passage", strict=False).by_distance()
    per_mass, per_norm = _per_mass(counts, profiles.mass), _per_mass(everything, profiles.norm)
    return _Judged(rows, profiles, distance, per_mass, per_norm)


def _favourites(rows: Candidates, counts: Floats, profiles: _Profiles) -> Ints:
    """[Q, N]: the distance of the candidate that each head's profile prefers.

    Most rows take the largest value of all distances within their extent; only where that word is
    no candidate are the others looked at.
    """
    width = counts.shape[1]
    bins = profiles.leaders[np.clip(rows.extent, 1, width) - 1]
    wrong_row, wrong_head = np.nonzero(np.take_along_axis(counts, bins, axis=1) == 0)
    for first in range(0, len(wrong_row), max(1, ROOM // width)):
        some = slice(first, first + max(1, ROOM // width))
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
    tokens, rivals = rows.instances.tokens[words].astype(np.float64), counts > 0
    bins = np.empty((len(words), len(profiles.mass)), dtype=np.intp)
    for head, profile in enumerate(profiles.mass[:, :width]):
        bins[:, head] = np.where(rivals, tokens * profile, -1.0).argmax(1)
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


def _add(result: Habit, index: int, some: _Some, judged: _Judged) -> None:
    """Add what some instances of relation ``index`` give."""
    folded, chosen, row = some
    width = int(judged.rows.extent.max(initial=1))
    targets = target_table(folded.asked, chosen, width)
    by_document, by_form = _one_hot(folded.document[chosen]), _one_hot(folded.form[chosen])
    for rule, distance in judged.distance.items():
        hits = np.take_along_axis(targets, distance[row] - 1, axis=1).astype(np.float32)
        result.by_document[rule][index] += by_document @ hits
        result.by_form[rule][index] += by_form @ hits
    binned = _binned(targets)
    for per_mass, values, sums in (
        (judged.per_mass, judged.profiles.mass, result.expected),
        (judged.per_norm, judged.profiles.norm, result.share),
    ):
        by_distance = binned.T @ per_mass[row]
        sums[index] += (by_distance * values[:, : len(by_distance)].T).sum(0)


def _one_hot(fold: Ints) -> NDArray[np.float32]:
    """[F, I]: 1 where the instance is of the fold."""
    members = np.zeros((FOLDS, len(fold)), dtype=np.float32)
    members[fold, np.arange(len(fold))] = 1
    return members


def _binned(targets: Bools) -> Floats:
    """[I, D']: targets by profile bin, the last of LONGEST counting all from there on."""
    binned = targets[:, :LONGEST].astype(np.float64)
    if targets.shape[1] > LONGEST:
        binned[:, -1] += targets[:, LONGEST:].sum(1)
    return binned
