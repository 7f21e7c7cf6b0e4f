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

from headprobe.analysis.candidates import (
    Candidates,
    RelationRows,
    shared_rows,
    target_table,
)
from headprobe.analysis.kernels import HEADS, add_target_shares, choose_by_distance, head_blocks
from headprobe.arrays import Floats, Ints
from headprobe.compiled import in_threads, map_in_threads
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.runs.sums import pack_heads, packed_bytes
from headprobe.vocabulary import FOLDS

DISTANCE_RULES = ("habit", "habit_length")
"""Names of the two rules, as in ``Evidence.baselines``."""

SHARE_RULES = ("profile", "profile times tokens")
"""The two profiles whose share on the targets a head's ``share`` is compared with (axis of
``DistanceControl.share_by_document``)."""


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
    profiles = _in_blocks(profile, norm)
    for rows, relation_rows in shared_rows(instances, relations, heads):
        scored = _score_rows(rows, profiles)
        for some in relation_rows:
            _add(result, instances, some, scored)
    return result


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
    inverses: Sequence["_Inverses"]
    """The inverse sums of each block of heads."""


class _Inverses(NamedTuple):
    """``1 / (sum of a profile over the earlier words of each row)``, 0 where the sum is 0.

    Each is [Q * B] for the heads of one block, contiguous, because every relation reads it.
    """

    mass: Floats
    """Of the mean stripped attention, over the candidates."""
    norm: Floats
    """Of the norm-weighted profile, over all usable earlier words of the passage."""
    share: tuple[Floats, Floats]
    """Of the mean stripped attention over the same words, and of this times their tokens."""


def _score_rows(rows: Candidates, profiles: Sequence[_Block]) -> _ScoredRows:
    """Apply the two rules to a block of rows and sum the profiles over each row."""
    counts = rows.by_distance()
    passage, everything = rows, counts
    if rows.rule != "any" or rows.scope == "sentence":
        passage = Candidates(rows.instances, rows.query, "passage", "any")
        everything = passage.by_distance()
    tokens = passage.tokens_by_distance()

    def sum_rows(block: _Block) -> _Inverses:
        mass = _per_mass(counts, block.profile)
        words = mass if everything is counts else _per_mass(everything, block.profile)
        norm, by_tokens = _per_mass(everything, block.norm), _per_mass(tokens, block.profile)
        return _Inverses(
            mass.reshape(-1), norm.reshape(-1), (words.reshape(-1), by_tokens.reshape(-1))
        )

    inverses = map_in_threads(profiles, sum_rows)
    return _ScoredRows(rows, profiles, _choices(rows, profiles), inverses)


def _count_heads(profiles: Sequence[_Block]) -> int:
    return profiles[-1].heads.stop if profiles else 0


def _per_mass(counts: Floats, profile: Floats) -> Floats:
    """[Q, B]: 1 / (sum of the profile [D, B] over the counted words [Q, D']); 0 if the sum is 0."""
    mass = counts @ profile[: counts.shape[1]]
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
    query, nearest = links.query[chosen], links.nearest[chosen]
    ends = (each[chosen].astype(np.int64) for each in (links.query, links.first, links.stop))
    words = *ends, links.targets.astype(np.int64, copy=False)
    once, tokens = np.ones(len(instances.tokens)), instances.tokens.astype(np.float64)
    folds = instances.document_fold[instances.passage[query]], instances.form_fold[nearest]

    def add_shares(place: int) -> None:
        block, inverses = scored.profiles[place], scored.inverses[place]
        heads = block.profile.shape[1]

        def sums(weights: Floats, profile: Floats, inverse: Floats) -> Floats:
            """[2, F, B]: shares of the targets by document fold and by form fold."""
            total = np.zeros((2, FOLDS, heads))
            by_fold = total.reshape(2, -1)
            rows = weights, row, *folds
            add_target_shares(*words, *rows, profile.reshape(-1), inverse, heads, *by_fold)
            return total

        expected = sums(once, block.profile, inverses.mass)[0].sum(0)
        share_norm = sums(once, block.norm, inverses.norm)[0].sum(0)
        result.expected[number, block.heads] += expected
        result.share_norm[number, block.heads] += share_norm
        for form, (weights, inverse) in enumerate(zip((once, tokens), inverses.share, strict=True)):
            by_document, by_form = sums(weights, block.profile, inverse)
            result.share_by_document[form, number, :, block.heads] += by_document
            result.share_by_form[form, number, :, block.heads] += by_form

    in_threads(range(len(scored.profiles)), add_shares)


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
    tokens, keys = instances.tokens.astype(np.int64), instances.candidate_keys(rows.rule)
    shape = len(query), _count_heads(profiles)
    distance = {rule: np.empty(shape, dtype=np.int64) for rule in DISTANCE_RULES}

    def choose(block: _Block) -> None:
        heads = block.profile.shape[1]
        chosen = np.empty((len(DISTANCE_RULES), len(query), heads), dtype=np.int64)
        words = query, rows.scope_first, instances.usable, tokens, *keys
        into = chosen.reshape(len(chosen), -1)
        choose_by_distance(*words, block.profile.reshape(-1), heads, *into)
        for rule, of_rule in zip(DISTANCE_RULES, chosen, strict=True):
            distance[rule][:, block.heads] = of_rule

    in_threads(profiles, choose)
    return distance
