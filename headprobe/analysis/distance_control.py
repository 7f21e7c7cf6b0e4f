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

from headprobe.analysis.candidates import BlockInstances, Candidates, shared_rows
from headprobe.analysis.choice_kernels import (
    add_target_shares,
    choose_by_distance,
    pack_hits,
    sum_profiles,
)
from headprobe.analysis.kernels import HEADS, head_blocks
from headprobe.arrays import Floats, Ints
from headprobe.compiled import in_threads, split_over_threads, thread_count
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.runs.sums import packed_bytes
from headprobe.vocabulary import FOLDS

Distances = NDArray[np.int32]

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
    words, blocks = _Words.of(instances), _in_blocks(profile, norm)
    for rows, block_instances in shared_rows(instances, relations, heads):
        for rule, distance in _choices(rows, blocks, words).items():
            write_hits(result.hits[rule], rows, block_instances, distance)
        _add_shares(result, rows, block_instances, blocks, words)
    return result


class _Block(NamedTuple):
    """The profiles of a block of heads, each flattened from [D, B]."""

    heads: slice
    """The heads."""
    profile: Floats
    """Mean stripped attention at each distance."""
    norm: Floats
    """Mean norm-weighted attention at each distance."""
    profile_until: Floats
    """Sums of ``profile`` up to each distance."""
    norm_until: Floats
    """Sums of ``norm`` up to each distance."""
    tail: Floats
    """The largest value of ``profile`` from each distance on."""

    @classmethod
    def of(cls, heads: slice, profile: Floats, norm: Floats) -> "_Block":
        """The block of some ``heads`` of the profiles [N, D]."""
        plain, moved = (np.ascontiguousarray(each[heads].T) for each in (profile, norm))
        return cls(
            heads,
            profile=plain.reshape(-1),
            norm=moved.reshape(-1),
            profile_until=np.cumsum(plain, axis=0).reshape(-1),
            norm_until=np.cumsum(moved, axis=0).reshape(-1),
            tail=np.maximum.accumulate(plain[::-1], axis=0)[::-1].reshape(-1),
        )

    @property
    def size(self) -> int:
        """B: the number of heads."""
        return int(self.heads.stop - self.heads.start)


class _Words(NamedTuple):
    """What compiled loops read of the words of a run."""

    tokens: Ints
    """[W]: number of tokens."""
    most_tokens: Ints
    """[W]: the largest number of tokens of a word of its passage up to this one."""
    odd: Ints
    """The words that are unusable or have several tokens."""

    @classmethod
    def of(cls, instances: Instances) -> "_Words":
        """Those of a run."""
        tokens = instances.tokens.astype(np.int64)
        # A base that grows with each passage lets one running maximum serve all of them
        base = instances.passage * (tokens.max(initial=0) + 1)
        most_tokens = np.maximum.accumulate(base + tokens) - base
        return cls(tokens, most_tokens, np.flatnonzero(~instances.usable | (tokens != 1)))


def _add_shares(
    result: DistanceControl,
    rows: Candidates,
    instances: BlockInstances,
    blocks: Sequence[_Block],
    words: _Words,
) -> None:
    """Add the shares of the targets of a block's instances to ``result``."""
    run, query = rows.instances, rows.query
    passage_first = run.passage_first[run.passage[query]].astype(np.int64)
    is_whole = rows.scope == "passage" and rows.rule == "any"
    odd = words.odd, np.searchsorted(words.odd, passage_first), np.searchsorted(words.odd, query)
    keys = run.candidate_keys(rows.rule)
    query_word = query[instances.row]
    folds = run.document_fold[run.passage[query_word]], run.form_fold[instances.nearest]
    heads = blocks[-1].heads.stop
    sums = (
        *(each.reshape(-1) for each in (result.expected, result.share_norm)),
        *(each.reshape(2, -1) for each in (result.share_by_document, result.share_by_form)),
    )

    def add(block: _Block) -> None:
        profiles = block.profile, block.norm
        inverses = np.empty((4, len(query) * block.size))
        sum_profiles(
            *(query, rows.scope_first, passage_first, run.usable, words.tokens, *keys, *odd),
            *(is_whole, *profiles, block.profile_until, block.norm_until, block.size, inverses),
        )
        add_target_shares(
            *(query_word, instances.first, instances.stop, instances.targets, words.tokens),
            *(instances.row, instances.relation, *folds, FOLDS, *profiles, inverses),
            *(block.size, block.heads.start, heads, *sums),
        )

    in_threads(blocks, add)


def write_hits(
    hits: NDArray[np.uint8], rows: Candidates, instances: BlockInstances, distance: Distances
) -> None:
    """Write to packed ``hits`` [I, Z] whether the word that each head chooses is a target.

    ``distance`` [Q, N] is that of the chosen word in each of the ``rows``.
    """
    width, heads = int(rows.words_before.max(initial=1)), distance.shape[1]
    arrays = (
        *(instances.number, instances.row, rows.query, instances.first, instances.stop),
        *(instances.targets, width, distance.reshape(-1), heads, hits.reshape(-1)),
    )
    split_over_threads(
        len(instances.row), thread_count(), lambda low, high: pack_hits(low, high, *arrays)
    )


def distance_choices(rows: Candidates, profile: Floats) -> Mapping[str, Distances]:
    """Return for each of ``DISTANCE_RULES`` the distance of the candidate chosen for each head.

    ``profile`` [N, D] is the mean attention per distance; the results are [Q, N]. They have no
    meaning in rows without a candidate.
    """
    return _choices(rows, _in_blocks(profile, profile), _Words.of(rows.instances))


def _in_blocks(profile: Floats, norm: Floats) -> list[_Block]:
    """``profile`` and ``norm`` [N, D], cut into blocks of heads."""
    return [_Block.of(some, profile, norm) for some in head_blocks(len(profile), HEADS)]


def _choices(rows: Candidates, blocks: Sequence[_Block], words: _Words) -> Mapping[str, Distances]:
    """``distance_choices`` for profiles in blocks."""
    instances, query = rows.instances, rows.query
    keys = instances.candidate_keys(rows.rule)
    shape = len(query), blocks[-1].heads.stop if blocks else 0
    distance = {rule: np.empty(shape, dtype=np.int32) for rule in DISTANCE_RULES}

    def choose(block: _Block) -> None:
        chosen = np.empty((len(DISTANCE_RULES), len(query), block.size), dtype=np.int32)
        choose_by_distance(
            *(query, rows.scope_first, instances.usable, words.tokens, words.most_tokens, *keys),
            *(block.profile, block.tail, block.size, *chosen.reshape(len(chosen), -1)),
        )
        for rule, of_rule in zip(DISTANCE_RULES, chosen, strict=True):
            distance[rule][:, block.heads] = of_rule

    in_threads(blocks, choose)
    return distance
