"""Layout of tokens: flat runs without padding, the blocks that attend together, and word pairs.

In the tile of a block, the last tokens of words come first, then the other tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.vocabulary import (
    CATEGORIES,
    DEPREL_PAIRS,
    MAX_DISTANCE,
    QUADRANTS,
    category,
    deprel_pair,
    distance_bins,
    quadrant,
)

EMPTY, NULL_KEY = -1, -2

MIN_LENGTH_RATIO = 0.8
"""Passages share a rectangle while the shortest has this part of the longest's tokens, ..."""

MAX_PADDING_WEIGHTS = 1 << 18
"""... or while no more attention weights than these are of padding: they cost less than one more
rectangle does."""

ROW_MULTIPLE = 64
"""Blocks have a multiple of so many rows, where they may: a CPU's vectors go through keys of an odd
number of rows up to three times slower."""


@dataclass(frozen=True)
class Block:
    """The tokens ``first`` to ``stop`` of some passages (numbers, longest first), whose attention
    is computed at once; all tokens where there are several passages."""

    passages: NDArray[np.int64]
    first: int
    stop: int


@dataclass(frozen=True)
class AttentionTile:
    """A block in a flat run: R rows of each of B passages, which look at T keys; both are tokens'
    places in their passage, in any order.

    ``rows`` [B, R] and ``keys`` [B, T] are ``EMPTY`` where there is no token. The last key is
    ``NULL_KEY``: it takes the whole weight of rows that are no token, and nothing else.
    ``query_places`` [B, R] and ``key_places`` [B, T] are places in the run (of some token, where
    there is none). ``token_rows`` [n] are the rows (b * R + r) of the places from ``start`` on.
    """

    rows: Tensor
    keys: Tensor
    query_places: Tensor
    key_places: Tensor
    token_rows: Tensor
    start: int


@dataclass(frozen=True)
class Flat:
    """``token_ids`` and ``positions`` [1, N] of passages one after another, each counted from 0,
    and the rectangles that cover every row once."""

    token_ids: Tensor
    positions: Tensor
    tiles: tuple[AttentionTile, ...]


Arrangement = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The rows [B, R] and the keys [B, T] of a block."""


def plan_chunks(
    passages: NDArray[np.integer],
    lengths: NDArray[np.integer],
    heads: int,
    *,
    tokens: int,
    scores: int,
    sizes: NDArray[np.integer] | None = None,
) -> list[list[Block]]:
    """Passages (numbers) by their ``lengths``, longest first, in runs of at most ``tokens`` tokens,
    of which a passage counts as ``sizes`` (as its length, where none are given).

    A block holds at most ``scores`` attention weights of one layer; a passage that is too long for
    that is cut into blocks of rows (of one row at least), and a run holds at least one passage.
    """
    sizes = lengths if sizes is None else sizes
    order = np.argsort(-np.asarray(lengths), kind="stable")
    chunks: list[list[Block]] = []
    room = start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        if room < sizes[order[start]]:
            chunks.append([])
            room = tokens
        most = max(1, min(room // longest, scores // (heads * longest**2)))
        members = order[start : start + most]
        padding = np.cumsum(heads * (longest**2 - lengths[members].astype(np.int64) ** 2))
        together = (lengths[members] >= MIN_LENGTH_RATIO * longest) | (
            padding <= MAX_PADDING_WEIGHTS
        )
        members = members[together & (np.cumsum(sizes[members]) <= room)]
        members = order[start : start + max(1, len(members))]
        numbers = np.asarray(passages)[members].astype(np.int64)
        chunks[-1] += _blocks(numbers, longest, max(1, scores // (heads * longest)))
        room -= int(sizes[members].sum())
        start += len(members)
    return chunks


def _blocks(passages: NDArray[np.int64], longest: int, most_rows: int) -> list[Block]:
    if len(passages) > 1 or longest <= most_rows:
        return [Block(passages, 0, longest)]
    rows = max(1, most_rows // ROW_MULTIPLE * ROW_MULTIPLE or most_rows)
    edges = [*range(0, longest, rows), longest]
    return [Block(passages, a, b) for a, b in pairwise(edges)]


def lay_flat(
    sequences: Mapping[int, NDArray[np.integer]],
    blocks: Sequence[Block],
    device: torch.device,
    arrangements: Sequence[Arrangement] = (),
) -> Flat:
    """The passages of ``blocks`` as one run; ``sequences[p]`` are the tokens of passage p.

    ``arrangements`` are the rows and keys of each block, in the order they shall have; else they
    stand as in the passages.
    """
    places: dict[int, int] = {}
    tokens, total = [], 0
    for block in blocks:
        for passage in block.passages.tolist():
            if passage not in places:
                places[passage] = total
                tokens.append(sequences[passage])
                total += len(sequences[passage])

    def rectangle(block: Block, rows: NDArray[np.int64], keys: NDArray[np.int64]) -> AttentionTile:
        starts = np.array([places[passage] for passage in block.passages.tolist()])[:, None]
        keys = np.concatenate([keys, np.full_like(starts, NULL_KEY)], axis=1)
        asking = starts + np.maximum(rows, 0)
        slots = np.flatnonzero(rows >= 0)
        real = slots[np.argsort(asking.flat[slots])]
        seen, start = starts + np.maximum(keys, 0), int(starts[0, 0]) + block.first
        return AttentionTile(
            rows=on_device(rows, device),
            keys=on_device(keys, device),
            query_places=on_device(asking, device),
            key_places=on_device(seen, device),
            token_rows=on_device(real, device),
            start=start,
        )

    ends = ({p: len(sequences[p]) for p in block.passages.tolist()} for block in blocks)
    arrangements = arrangements or [_natural_order(b, e) for b, e in zip(blocks, ends, strict=True)]
    return Flat(
        on_device(np.concatenate(tokens)[None], device),
        on_device(np.concatenate([np.arange(len(ids)) for ids in tokens])[None], device),
        tuple(rectangle(b, *order) for b, order in zip(blocks, arrangements, strict=True)),
    )


def _natural_order(block: Block, lengths: Mapping[int, int]) -> Arrangement:
    ends = np.array([[lengths[passage]] for passage in block.passages.tolist()])
    keys = np.where(np.arange(block.stop) < ends, np.arange(block.stop), EMPTY)
    return keys[:, block.first :], keys


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor there; integers as indices."""
    wide = array.astype(np.int64) if array.dtype.kind in "iu" else array
    tensor = torch.from_numpy(np.ascontiguousarray(wide))
    if device.type == "cuda":  # from other memory the copy would wait for what was asked before
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class TokenOrder:
    """The rows [B, R] and keys [B, T] of a block, words first; ``extra_tokens`` [3, K] are passage,
    key and word of the words' further tokens."""

    rows: NDArray[np.int64]
    keys: NDArray[np.int64]
    extra_tokens: NDArray[np.int64]
    first_word: int

    def extra_indices(self, groups: int, words: int) -> dict[str, NDArray[np.int64]]:
        """The fields of ``AlignedBatch`` that tell of extra tokens."""
        passage, key, word = self.extra_tokens
        group = passage[:, None] * groups + np.arange(groups)
        own = word >= self.first_word
        return {
            "extra": self.extra_tokens,
            "extra_key": (group * (self.keys.shape[1] + 1) + key[:, None]).flatten(),
            "extra_word": (group * words + word[:, None]).flatten(),
            "own_extra": np.stack([passage, key, word - self.first_word])[:, own],
        }


def order_tokens(
    word: NDArray[np.integer],
    last: NDArray[np.integer],
    lengths: NDArray[np.int64],
    first_word: int,
    first: int,
    starts: int,
) -> TokenOrder:
    """The order of tokens with their ``word`` [B, T], of words with their ``last`` token [B, W'],
    where passages have ``lengths`` [B] and the block's rows begin with the token ``first``."""
    place = np.arange(word.shape[1])
    inside = place < lengths[:, None]
    words = last.shape[1]
    known = (word >= 0) & (word < words)
    if words:
        known_word = np.where(known, word, 0)
        is_last = known & (np.take_along_axis(last, known_word, 1) == place)
    else:
        is_last = known
    start = inside & (place < starts)
    extra = known & ~is_last
    extra_place = _places(extra)
    keys = [last, _places(start), extra_place, _places(inside & ~known & ~start)]
    query = is_last & (word >= first_word)
    rows = [last[:, first_word:], _places(inside & ~query & (place >= first))]
    passage, slot = np.nonzero(extra_place >= 0)
    extra_word = word[passage, extra_place[passage, slot]]
    before = words + keys[1].shape[1]
    return TokenOrder(
        np.concatenate(rows, axis=1).astype(np.int64),
        np.concatenate(keys, axis=1).astype(np.int64),
        np.stack([passage, before + slot, extra_word]).astype(np.int64),
        first_word,
    )


def _places(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[B, K]: where each row of [B, T] is true, ascending, filled with ``EMPTY``."""
    most = int(chosen.sum(1).max(initial=0))
    order = np.argsort(~chosen, axis=1, kind="stable")[:, :most]
    return np.where(np.take_along_axis(chosen, order, 1), order, EMPTY)


def batch_rows(
    words: NDArray[np.integer], word_rows: Sequence[slice]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[S]: the rows (b * W + w) of the ``words`` in a batch, ascending word numbers of the run; and
    [S] their places in ``words``."""
    places = [np.arange(*np.searchsorted(words, [s.start, s.stop])) for s in word_rows]
    place = np.concatenate(places).astype(np.int64)
    passage = np.repeat(np.arange(len(word_rows)), [len(each) for each in places])
    base = np.array([span.start for span in word_rows])
    length = max(span.stop - span.start for span in word_rows)
    return passage * length + words[place] - base[passage], place


def pair_with_earlier(rows: NDArray[np.int64], words: int, first_word: int) -> NDArray[np.int64]:
    """[P]: the pairs (b * W' + earlier) * W + w of rows b * W + w, one row after another, where W
    of the ``words`` W' are query words, from ``first_word`` on."""
    queries = words - first_word
    passage, row = np.divmod(rows, max(queries, 1))
    counts = first_word + row
    earlier = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    pairs: NDArray[np.int64] = np.repeat(passage * words * queries + row, counts)
    pairs += earlier * queries
    return pairs


N_PAIR_KINDS = CATEGORIES + QUADRANTS * DEPREL_PAIRS
"""Every pair is of two kinds: its category, and (after these) its deprel pair by quadrant."""

PAIRS_PER_RUN = 64
"""Pairs that are added up in single precision, before the sums are added in double."""

_BINS = distance_bins()


def pair_kinds(
    usable: NDArray[np.bool_],
    upos: NDArray[np.integer],
    deprel: NDArray[np.integer],
    form_fold: NDArray[np.integer],
    document_fold: NDArray[np.integer],
    first_word: int = 0,
) -> NDArray[np.int16]:
    """[2, B, W', W]: the two kinds of every pair of an earlier word and a query word, ``EMPTY``
    where one of them is not usable or it is not earlier; of words [B, W'] and their passages'
    ``document_fold`` [B], the query words being the last W, those from ``first_word`` on."""
    words = np.arange(usable.shape[1])
    distance = words[first_word:] - words[:, None]
    bins: Any = _BINS[np.clip(distance, 0, MAX_DISTANCE)].astype(np.int16)

    def ends(of_words: NDArray[np.integer]) -> tuple[Any, Any]:
        narrow = of_words.astype(np.int16)
        return narrow[:, None, first_word:], narrow[:, :, None]

    document: Any = document_fold.astype(np.int16)[:, None, None]
    quadrants: Any = quadrant(document, ends(form_fold)[1])
    by_deprel = CATEGORIES + DEPREL_PAIRS * quadrants + deprel_pair(*ends(deprel))
    kinds = np.stack([category(bins, *ends(upos)), by_deprel])
    known = usable[:, None, first_word:] & usable[:, :, None] & (distance > 0)
    return np.where(known, kinds, np.int16(EMPTY))


@dataclass(frozen=True)
class WordPairs:
    """All P pairs of a usable word and a usable earlier word of its passage, by kind.

    ``members`` [2 P] are pairs, (passage * W' + earlier word) * W + word with W counting query
    words, in the order of their kinds, cut into runs of one ``kind`` [S] each, which start at
    ``first`` [S].
    """

    members: NDArray[np.int64]
    first: NDArray[np.int64]
    kind: NDArray[np.int64]


def sort_pairs_by_kind(kinds: NDArray[np.int16]) -> WordPairs:
    """The pairs of ``pair_kinds``."""
    flat = kinds.reshape(2, -1)
    place = np.flatnonzero(flat[0] != EMPTY)
    sorted_kinds = flat[:, place].flatten()
    order = np.argsort(sorted_kinds, kind="stable")
    sorted_kinds = sorted_kinds[order]
    starts = np.diff(sorted_kinds, prepend=np.int16(EMPTY)) > 0
    starts[::PAIRS_PER_RUN] = True
    first = np.flatnonzero(starts)
    return WordPairs(place[order % max(len(place), 1)], first, sorted_kinds[first].astype(np.int64))
