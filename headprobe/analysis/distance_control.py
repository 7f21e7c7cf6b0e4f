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

from headprobe.analysis.candidates import (
    Candidates,
    GroupedInstances,
    RelationRows,
    count_groups,
    shared_rows,
    target_table,
)
from headprobe.analysis.evidence import Floats, Ints
from headprobe.analysis.kernels import HEADS, add_target_shares, choose_by_distance, head_blocks
from headprobe.compiled import in_threads
from headprobe.runs.instances import Instances

DISTANCE_RULES = ("habit", "habit_length")
"""Names of the two rules, as in ``Evidence.baselines``."""


@dataclass(frozen=True)
class DistanceControl:
    """What each head's distance profile predicts on each relation.

    NaN where a relation has no instance.
    """

    sums: Mapping[str, Floats]
    """For each of ``DISTANCE_RULES`` its hits, [R, S, N] (axis S: ``analysis.candidates``)."""
    expected: Floats
    """[R, N]: mean share of the targets in the profile over the candidates."""
    share: Floats
    """[R, N]: mean share of the targets in the norm-weighted profile over all usable earlier words
    of the passage."""


def distance_control(
    instances: Instances, relations: Sequence[GroupedInstances], profile: Floats, norm: Floats
) -> DistanceControl:
    """Return what every head would score by its mean attention per distance alone.

    ``profile`` [N, D] holds the mean stripped attention, ``norm`` [N, D] the mean norm-weighted
    attention at each distance. The chosen candidate depends on the head, the query word and the
    candidates only, so relations with the same candidates share the work.
    """
    heads = len(profile)
    grouped = (len(relations), count_groups(instances), heads)
    plain = (len(relations), heads)
    sums = {rule: np.zeros(grouped) for rule in DISTANCE_RULES}
    result = DistanceControl(sums, np.zeros(plain), np.zeros(plain))
    profiles = _in_blocks(profile, norm)
    for rows, relation_rows in shared_rows(instances, relations, heads):
        scored = _score_rows(rows, profiles)
        for some in relation_rows:
            _add(result, some, scored)
    sizes = np.array([len(relation.links) for relation in relations], dtype=np.float64)[:, None]
    sizes[sizes == 0] = np.nan
    return DistanceControl(sums, result.expected / sizes, result.share / sizes)


class _Block(NamedTuple):
    """The profiles of a block of heads."""

    heads: slice
    """The heads."""
    profile: Floats
    """[D, B]: mean stripped attention."""
    norm: Floats
    """[D, B]: mean norm-weighted attention."""


@dataclass(frozen=True)
class _ScoredRows:
    """What the profiles predict for a block of query words."""

    rows: Candidates
    """The query words [Q] and their candidates."""
    profiles: Sequence[_Block]
    """The profiles of all heads."""
    distance: Mapping[str, Ints]
    """For each of ``DISTANCE_RULES`` the distance of the candidate chosen for each head, [Q, N]."""
    per_mass: Floats
    """[Q, N]: 1 / (sum of ``mass`` over the candidates); 0 where the sum is 0."""
    per_norm: Floats
    """[Q, N]: 1 / (sum of ``norm`` over all usable earlier words); 0 where the sum is 0."""


def _score_rows(rows: Candidates, profiles: Sequence[_Block]) -> _ScoredRows:
    """Apply the two rules to a block of rows and sum the profiles over each row."""
    counts = rows.by_distance()
    distance = _choices(rows, profiles)
    everything = counts
    if rows.strict or rows.scope == "sentence":
        everything = Candidates(rows.instances, rows.query, "passage", strict=False).by_distance()
    per_mass, per_norm = np.empty((2, len(counts), _count_heads(profiles)))

    def sum_rows(block: _Block) -> None:
        per_mass[:, block.heads] = _per_mass(counts, block.profile)
        per_norm[:, block.heads] = _per_mass(everything, block.norm)

    in_threads(profiles, sum_rows)
    return _ScoredRows(rows, profiles, distance, per_mass, per_norm)


def _count_heads(profiles: Sequence[_Block]) -> int:
    return profiles[-1].heads.stop if profiles else 0


def _per_mass(counts: Floats, profile: Floats) -> Floats:
    """[Q, B]: 1 / (sum of the profile [D, B] over the counted words [Q, D']); 0 if the sum is 0."""
    mass = counts @ profile[: counts.shape[1]]
    return np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)


def _add(result: DistanceControl, some: RelationRows, scored: _ScoredRows) -> None:
    """Add the hits and shares of a relation's instances in a block of rows to ``result``."""
    number, relation, chosen, row = some
    width = int(scored.rows.words_before.max(initial=1))
    targets = target_table(relation.links, chosen, width)
    for rule, distance in scored.distance.items():
        hits = np.take_along_axis(targets, distance[row] - 1, axis=1)
        result.sums[rule][number] += relation.sums_of_some(chosen, hits)
    links, profiles = relation.links, scored.profiles
    ends = (each[chosen].astype(np.int64) for each in (links.query, links.first, links.stop))
    instances = *ends, links.targets.astype(np.int64, copy=False), row

    def add_shares(block: _Block) -> None:
        for per_mass, profile, sums in (
            (scored.per_mass, block.profile, result.expected),
            (scored.per_norm, block.norm, result.share),
        ):
            inverse, heads = np.ascontiguousarray(per_mass[:, block.heads]), profile.shape[1]
            total = np.zeros(heads)
            add_target_shares(*instances, profile.reshape(-1), inverse.reshape(-1), heads, total)
            sums[number, block.heads] += total

    in_threads(profiles, add_shares)


def distance_choices(rows: Candidates, profile: Floats) -> Mapping[str, Ints]:
    """Return for each of ``DISTANCE_RULES`` the distance of the candidate chosen for each head.

    ``profile`` [N, D] is the mean attention per distance; the results are [Q, N]. They have no
    meaning in rows without a candidate.
    """
    return _choices(rows, _in_blocks(profile, profile))


def _in_blocks(profile: Floats, norm: Floats) -> list[_Block]:
    """``profile`` and ``norm`` [N, D], cut into blocks of heads."""
    return [
        _Block(some, *(np.ascontiguousarray(each[some].T) for each in (profile, norm)))
        for some in head_blocks(len(profile), HEADS)
    ]


def _choices(rows: Candidates, profiles: Sequence[_Block]) -> Mapping[str, Ints]:
    """``distance_choices`` for profiles in blocks."""
    instances, query = rows.instances, rows.query
    form, tokens = (each.astype(np.int64) for each in (instances.folded_form, instances.tokens))
    shape = len(query), _count_heads(profiles)
    distance = {rule: np.empty(shape, dtype=np.int64) for rule in DISTANCE_RULES}

    def choose(block: _Block) -> None:
        heads = block.profile.shape[1]
        chosen = np.empty((len(DISTANCE_RULES), len(query), heads), dtype=np.int64)
        words = query, rows.scope_first, instances.usable, tokens, form
        into = chosen.reshape(len(chosen), -1)
        choose_by_distance(*words, rows.strict, block.profile.reshape(-1), heads, *into)
        for rule, of_rule in zip(DISTANCE_RULES, chosen, strict=True):
            distance[rule][:, block.heads] = of_rule

    in_threads(profiles, choose)
    return distance
