"""What each head would score by word distance alone: the baselines of a head's own habits.

A head's profile is its mean stripped attention at each word distance. Two rules choose a candidate
from it (``docs/method.md``, "Baselines"):

- ``habit``: the candidate with the largest value of the profile at its distance;
- ``habit_length``: the candidate with the largest value times its number of tokens. Attention to a
  word is a sum over its tokens, so a head that ignores content and decays with distance in tokens
  prefers long words nearby.

The nearer of two equally good words counts, also among the words that share the profile's last bin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from headprobe.analysis.candidates import (
    Candidates,
    RelationRows,
    shared_rows,
    slices,
    target_table,
)
from headprobe.analysis.evidence import Bools, Floats, Ints
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.runs.sums import pack_heads, packed_bytes
from headprobe.vocabulary import FOLDS, MAX_DISTANCE

DISTANCE_RULES = ("habit", "habit_length")
"""Names of the two rules, as in ``Evidence.baselines``."""

SHARE_RULES = ("profile", "profile times tokens")
"""The two profiles whose share on the targets a head's ``share`` is compared with (axis of
``DistanceControl.share_by_document``)."""

CACHED = 1 << 15
"""Entries of a block of rows by words; blocks of this size stay in the processor's cache."""


@dataclass(frozen=True)
class DistanceControl:
    """What each head's distance profile predicts on the relations of a run.

    All but the hits are sums over instances.
    """

    hits: Mapping[str, NDArray[np.uint8]]
    """For each of ``DISTANCE_RULES`` its hits, one packed row per instance of the run, [I, Z]."""
    expected: Floats
    """[R, N]: share of the targets in the profile over the candidates."""
    share_norm: Floats
    """[R, N]: share of the targets in the norm-weighted profile over all usable earlier words of
    the passage."""
    share_by_document: Floats
    """[2, R, F, N]: the same share in the unweighted profile by document fold; first in the profile
    as it is, then in the profile times each word's number of tokens."""
    share_by_form: Floats
    """[2, R, F, N]: the same by form fold of the nearest target."""


def distance_control(
    instances: Instances, relations: Sequence[RelationInstances], profile: Floats, norm: Floats
) -> DistanceControl:
    """Return what every head would score by its mean attention per distance alone.

    ``profile`` [N, D] holds the mean stripped attention, ``norm`` [N, D] the mean norm-weighted
    attention at each distance. The chosen candidate depends on the head, the query word and the
    candidates only, so relations with the same candidates share the work.
    """
    heads, count = len(profile), int(instances.first_instance[-1])
    by_fold = (len(SHARE_RULES), len(relations), FOLDS, heads)
    result = DistanceControl(
        hits={rule: np.zeros((count, packed_bytes(heads)), np.uint8) for rule in DISTANCE_RULES},
        expected=np.zeros((len(relations), heads)),
        share_norm=np.zeros((len(relations), heads)),
        share_by_document=np.zeros(by_fold),
        share_by_form=np.zeros(by_fold),
    )
    profiles = _Profiles(profile, norm, _leaders(profile))
    for rows, relation_rows in shared_rows(instances, relations, heads):
        scored = _score_rows(rows, profiles)
        for some in relation_rows:
            _add(result, instances, some, scored)
    return result


class _Profiles(NamedTuple):
    """The distance profiles of all heads."""

    mass: Floats
    """[N, D]: mean stripped attention."""
    norm: Floats
    """[N, D]: mean norm-weighted attention."""
    leaders: NDArray[np.intp]
    """[D, N]: ``_leaders(mass)``."""


@dataclass(frozen=True)
class _ScoredRows:
    """What the profiles predict for a block of query words."""

    rows: Candidates
    """The query words [Q] and their candidates."""
    profiles: _Profiles
    """The profiles of all heads."""
    distance: Mapping[str, Ints]
    """For each of ``DISTANCE_RULES`` the distance of the candidate chosen for each head, [Q, N]."""
    per_mass: Floats
    """[Q, N]: 1 / (sum of ``mass`` over the candidates); 0 where the sum is 0."""
    per_norm: Floats
    """[Q, N]: 1 / (sum of ``norm`` over all usable earlier words of the passage), or 0."""
    per_share: tuple[Floats, Floats]
    """[Q, N] each: the same of ``mass``, and of ``mass`` times each word's number of tokens."""


def _leaders(profile: Floats) -> NDArray[np.intp]:
    """[D, N]: index of the largest value among the first d + 1; the nearest of equal ones."""
    highest = np.maximum.accumulate(profile, axis=1)
    rises = profile[:, 1:] > highest[:, :-1]
    indices = np.where(rises, np.arange(1, profile.shape[1]), 0)
    padded = np.pad(indices, ((0, 0), (1, 0)))
    return np.ascontiguousarray(np.maximum.accumulate(padded, axis=1).T)


def _score_rows(rows: Candidates, profiles: _Profiles) -> _ScoredRows:
    """Apply the two rules to a block of rows and sum the profiles over each row."""
    counts = rows.by_distance()
    passage, everything = rows, counts
    if rows.rule != "any" or rows.scope == "sentence":
        passage = Candidates(rows.instances, rows.query, "passage", "any")
        everything = passage.by_distance()
    per_mass = _per_mass(counts, profiles.mass)
    per_word = per_mass if everything is counts else _per_mass(everything, profiles.mass)
    return _ScoredRows(
        rows,
        profiles,
        _choices(rows, counts, profiles),
        per_mass,
        _per_mass(everything, profiles.norm),
        (per_word, _per_mass(passage.tokens_by_distance(), profiles.mass)),
    )


def _choose(rows: Candidates, counts: Floats, profiles: _Profiles) -> Ints:
    """[Q, N]: distance of the candidate with the largest value of each head's profile.

    For most rows, the largest value over all distances in the scope belongs to a candidate and is
    known in advance (``leaders``). Only the other (row, head) pairs are searched one by one.
    """
    width = counts.shape[1]
    bins = profiles.leaders[np.clip(rows.words_before, 1, width) - 1]
    wrong_row, wrong_head = np.nonzero(np.take_along_axis(counts, bins, axis=1) == 0)
    for some in slices(len(wrong_row), width):
        row, head = wrong_row[some], wrong_head[some]
        values = np.where(counts[row] > 0, profiles.mass[head, :width], -np.inf)
        bins[row, head] = values.argmax(1)
    return _distances(rows, bins, width)


def _choose_by_length(rows: Candidates, counts: Floats, profiles: _Profiles) -> Ints:
    """[Q, N]: distance of the candidate with the largest profile value times tokens.

    If all of a head's values are zero in a row, the nearest candidate counts.
    """
    width = counts.shape[1]
    distance = np.broadcast_to(np.arange(1, width + 1), counts.shape)
    if width == MAX_DISTANCE:
        distance = distance.copy()
        distance[:, -1] = np.maximum(rows.nearest_beyond(), 1)
    words = np.maximum(rows.query[:, None] - distance, 0)
    tokens = np.where(counts > 0, rows.instances.tokens[words], 0.0)
    nearest = (tokens > 0).argmax(1)
    bins = np.empty((len(words), len(profiles.mass)), dtype=np.intp)
    # A block of rows at a time, so that tokens and products stay in the cache for all heads.
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
    """Profile bins [Q, N] as distances; the last bin means the nearest candidate from there on."""
    distance = bins.astype(np.int64) + 1
    if width == MAX_DISTANCE:
        beyond = np.maximum(rows.nearest_beyond(), 1)[:, None]
        distance = np.where(distance == MAX_DISTANCE, beyond, distance)
    return distance


def _per_mass(counts: Floats, profile: Floats) -> Floats:
    """[Q, N]: 1 / (sum of the profile over the counted words [Q, D']); 0 where the sum is 0."""
    mass = counts @ profile[:, : counts.shape[1]].T
    return np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)


def _add(
    result: DistanceControl, instances: Instances, some: RelationRows, scored: _ScoredRows
) -> None:
    """Add the hits and shares of a relation's instances in a block of rows to ``result``."""
    number, links, chosen, row = some
    width = int(scored.rows.words_before.max(initial=1))
    targets = target_table(links, chosen, width)
    first = instances.first_instance[number]
    for rule, distance in scored.distance.items():
        hits = np.take_along_axis(targets, distance[row] - 1, axis=1)
        result.hits[rule][first + chosen] = pack_heads(hits)
    binned, profiles = _binned(targets), scored.profiles
    for per_mass, values, sums in (
        (scored.per_mass, profiles.mass, result.expected),
        (scored.per_norm, profiles.norm, result.share_norm),
    ):
        by_distance = binned.T @ per_mass[row]
        sums[number] += (by_distance * values[:, : len(by_distance)].T).sum(0)
    query, nearest = links.query[chosen], links.nearest[chosen]
    folds = (
        (instances.document_fold[instances.passage[query]], result.share_by_document),
        (instances.form_fold[nearest], result.share_by_form),
    )
    tokens = _binned(_target_tokens(instances, links, chosen, width))
    for form, weights in enumerate((binned, tokens)):
        share = weights @ profiles.mass[:, : weights.shape[1]].T
        share *= scored.per_share[form][row]
        for fold, by_fold in folds:
            places = (fold, np.arange(len(fold)))
            members = sparse.csr_array((np.ones(len(fold)), places), shape=(FOLDS, len(fold)))
            by_fold[form, number] += np.asarray(members @ share)


def _target_tokens(
    instances: Instances, links: RelationInstances, chosen: Ints, width: int
) -> Floats:
    """[I', width]: the number of tokens of the target at each distance, 0 where there is none."""
    index, targets = links.targets_of(chosen)
    table = np.zeros((len(chosen), width))
    table[index, links.query[chosen][index] - targets - 1] = instances.tokens[targets]
    return table


def _binned(values: Bools | Floats) -> Floats:
    """[I', D']: sums of ``values`` [I', width] in each profile bin; the last one
    takes all longer distances."""
    binned = values[:, :MAX_DISTANCE].astype(np.float64)
    if values.shape[1] > MAX_DISTANCE:
        binned[:, -1] += values[:, MAX_DISTANCE:].sum(1)
    return binned


def distance_choices(rows: Candidates, profile: Floats) -> Mapping[str, Ints]:
    """Return for each of ``DISTANCE_RULES`` the distance of the candidate chosen for each head.

    ``profile`` [N, D] is the mean attention per distance; the results are [Q, N]. They have no
    meaning in rows without a candidate.
    """
    return _choices(rows, rows.by_distance(), _Profiles(profile, profile, _leaders(profile)))


def _choices(rows: Candidates, counts: Floats, profiles: _Profiles) -> Mapping[str, Ints]:
    return {
        "habit": _choose(rows, counts, profiles),
        "habit_length": _choose_by_length(rows, counts, profiles),
    }
