"""Layout of tokens: packed sequences without padding, their tiles, and word pairs.

The linear layers of a model work on a *packed sequence*: the tokens of all passages of a chunk one
after another, without padding. Attention needs the passages side by side, so it works on *blocks*:
several passages of similar length, or some rows of one long passage. The *tile* of a block says
which tokens of the sequence its rows and keys are. The order of rows and keys in a tile is free,
because the attention mask knows their positions. It puts the last tokens of words first, so that
most of the word-to-word attention is a contiguous part of the token-to-token attention.

Letters in shapes: B passages of a block, T keys and R rows of its tile, W' words up to its end, of
which the last W are its query words.
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

EMPTY = -1
"""Fills arrays of indices where there is no token, word or pair."""

NULL_KEY = -2
"""Marks the last key of every tile, which is no token (``AttentionTile.keys``)."""

MIN_LENGTH_RATIO = 0.8
"""Passages share a block if the shortest has at least this fraction of the longest one's tokens."""

MAX_PADDING_WEIGHTS = 1 << 18
"""Passages also share a block if at most this number of its attention weights are padding, because
these cost less than one more block."""

ROW_MULTIPLE = 64
"""The blocks of a long passage have a multiple of this number of rows if possible: vector
instructions of a CPU are up to three times slower on keys with an odd number of rows."""


@dataclass(frozen=True)
class Block:
    """Passages whose attention is computed at once, or part of the rows of one passage."""

    passages: NDArray[np.int64]
    """[B]: the numbers of the passages, longest first."""

    first: int
    """The index of the first row's token in its passage; 0 if there are several passages."""

    stop: int
    """The index after the last row's token; with several passages the length of the longest."""


@dataclass(frozen=True)
class AttentionTile:
    """A block in a packed sequence: R rows of each of B passages, and the T keys they attend to.

    Rows and keys are tokens in any order, and the rest is padding.
    """

    rows: Tensor
    """[B, R]: the index of each row's token in its passage; ``EMPTY`` for padding."""

    keys: Tensor
    """[B, T]: the index of each key's token in its passage; ``EMPTY`` for padding. The last key is
    ``NULL_KEY``: rows that are padding give it their whole weight, other rows give it none."""

    query_places: Tensor
    """[B, R]: the index of each row's token in the sequence; any valid index for padding."""

    key_places: Tensor
    """[B, T]: the index of each key's token in the sequence; any valid index for padding."""

    token_rows: Tensor
    """[n]: the rows that are tokens, as b * R + r, in the order of the sequence."""

    start: int
    """The index in the sequence of the first of these n tokens, which are consecutive."""


@dataclass(frozen=True)
class PackedSequence:
    """N tokens: the passages one after another, without padding."""

    token_ids: Tensor
    """[1, N]: the token ids."""

    positions: Tensor
    """[1, N]: the index of each token in its passage."""

    tiles: tuple[AttentionTile, ...]
    """The tiles, whose rows cover every token of the sequence once."""


RowsAndKeys = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The rows [B, R] and the keys [B, T] of a block, as in ``AttentionTile`` but without the null
key."""


def plan_chunks(
    passages: NDArray[np.integer],
    lengths: NDArray[np.integer],
    heads: int,
    *,
    tokens: int,
    scores: int,
    sizes: NDArray[np.integer] | None = None,
) -> list[list[Block]]:
    """Divide passages into chunks, each of one forward pass, and chunks into blocks.

    ``passages`` [P] are passage numbers and ``lengths`` [P] their tokens. A chunk has at most
    ``tokens`` tokens but at least one passage; passages count with ``sizes`` [P] if these are
    given, else with their lengths. A block has at most ``scores`` attention weights of one layer of
    ``heads`` heads; a passage that alone exceeds this is divided into blocks of at least one row.

    Longer passages come first, so that the passages of a block need little padding.
    """
    sizes = lengths if sizes is None else sizes
    order = np.argsort(-np.asarray(lengths), kind="stable")
    chunks: list[list[Block]] = []
    room = start = 0  # tokens left in the current chunk; first passage of the next block
    while start < len(order):
        longest = int(lengths[order[start]])
        if room < sizes[order[start]]:
            chunks.append([])
            room = tokens
        # The next passages in order join the block as long as neither the chunk nor the block
        # becomes too large, nor the padding too much
        most = max(1, min(room // longest, scores // (heads * longest**2)))
        members = order[start : start + most]
        padding = np.cumsum(heads * (longest**2 - lengths[members].astype(np.int64) ** 2))
        similar = (lengths[members] >= MIN_LENGTH_RATIO * longest) | (
            padding <= MAX_PADDING_WEIGHTS
        )
        members = members[similar & (np.cumsum(sizes[members]) <= room)]
        members = order[start : start + max(1, len(members))]
        numbers = np.asarray(passages)[members].astype(np.int64)
        chunks[-1] += _blocks(numbers, longest, max(1, scores // (heads * longest)))
        room -= int(sizes[members].sum())
        start += len(members)
    return chunks


def _blocks(passages: NDArray[np.int64], longest: int, max_rows: int) -> list[Block]:
    """Return one block, or for a single passage of more than ``max_rows`` tokens several."""
    if len(passages) > 1 or longest <= max_rows:
        return [Block(passages, 0, longest)]
    rows = max(1, max_rows // ROW_MULTIPLE * ROW_MULTIPLE or max_rows)
    edges = [*range(0, longest, rows), longest]
    return [Block(passages, a, b) for a, b in pairwise(edges)]


def pack_passages(
    sequences: Mapping[int, NDArray[np.integer]],
    blocks: Sequence[Block],
    device: torch.device,
    orders: Sequence[RowsAndKeys] = (),
) -> PackedSequence:
    """Return the passages of ``blocks`` as one packed sequence on ``device``.

    ``sequences[p]`` are the token ids of passage p. ``orders`` gives the rows and keys of each
    block in the order that they shall have in its tile; by default it is that of the passage.
    """
    places: dict[int, int] = {}  # passage -> index of its first token in the sequence
    tokens, total = [], 0
    for block in blocks:
        for passage in block.passages.tolist():
            if passage not in places:
                places[passage] = total
                tokens.append(sequences[passage])
                total += len(sequences[passage])

    def make_tile(block: Block, rows: NDArray[np.int64], keys: NDArray[np.int64]) -> AttentionTile:
        starts = np.array([places[passage] for passage in block.passages.tolist()])[:, None]
        keys = np.concatenate([keys, np.full_like(starts, NULL_KEY)], axis=1)
        query_places = starts + np.maximum(rows, 0)
        token_rows = np.flatnonzero(rows >= 0)
        token_rows = token_rows[np.argsort(query_places.flat[token_rows])]
        return AttentionTile(
            rows=on_device(rows, device),
            keys=on_device(keys, device),
            query_places=on_device(query_places, device),
            key_places=on_device(starts + np.maximum(keys, 0), device),
            token_rows=on_device(token_rows, device),
            start=int(starts[0, 0]) + block.first,
        )

    orders = orders or [_natural_order(block, sequences) for block in blocks]
    return PackedSequence(
        on_device(np.concatenate(tokens)[None], device),
        on_device(np.concatenate([np.arange(len(ids)) for ids in tokens])[None], device),
        tuple(make_tile(b, *order) for b, order in zip(blocks, orders, strict=True)),
    )


def _natural_order(block: Block, sequences: Mapping[int, NDArray[np.integer]]) -> RowsAndKeys:
    """Return the rows and keys of a block in the order of its passages."""
    lengths = np.array([[len(sequences[passage])] for passage in block.passages.tolist()])
    keys = np.where(np.arange(block.stop) < lengths, np.arange(block.stop), EMPTY)
    return keys[:, block.first :], keys


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return the array as a tensor on ``device``; integers become int64, the type of indices."""
    wide = array.astype(np.int64) if array.dtype.kind in "iu" else array
    tensor = torch.from_numpy(np.ascontiguousarray(wide))
    if device.type == "cuda":
        # A copy from memory that is not pinned would wait for all queued work of the GPU
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class TokenOrder:
    """The order of rows and keys in the tile of a block.

    Rows are the last tokens of the W query words, then the block's other tokens. Keys are the last
    tokens of the W' words, the start tokens, the *extra tokens* (tokens of usable words that are
    not their last), and the tokens that belong to no usable word.
    """

    rows: NDArray[np.int64]
    """[B, R]: token indices in the passage, or ``EMPTY``."""

    keys: NDArray[np.int64]
    """[B, T]: token indices in the passage, or ``EMPTY``; without the null key."""

    extra_tokens: NDArray[np.int64]
    """[3, K]: the passage b, the key t and the word w' of each extra token, ascending by b."""

    first_word: int
    """W' - W, the index of the first query word."""

    def extra_indices(self, groups: int, words: int) -> dict[str, NDArray[np.int64]]:
        """Return the fields of ``AlignedBatch`` that describe the extra tokens, for ``groups``
        key/value heads and ``words`` W'."""
        passage, key, word = self.extra_tokens
        group = passage[:, None] * groups + np.arange(groups)
        own = word >= self.first_word
        return {
            "extra": self.extra_tokens,
            # one more key than here: the null key
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
    """Return the order of rows and keys of a block.

    ``word`` [B, T] is the word index of each token of the passages up to the block's end, and
    ``last`` [B, W'] the last token of each word, both ``EMPTY`` for none. ``lengths`` [B] counts
    these tokens. Query words start at ``first_word``, rows at the token ``first``; every passage
    begins with ``starts`` start tokens.
    """
    place = np.arange(word.shape[1])
    inside = place < lengths[:, None]
    words = last.shape[1]
    # A word whose last token is after the block's end is none of the W' words
    known = (word >= 0) & (word < words)
    if words:
        known_word = np.where(known, word, 0)
        is_last = known & (np.take_along_axis(last, known_word, 1) == place)
    else:
        is_last = known
    start = inside & (place < starts)
    extra_places = _true_places(known & ~is_last)
    keys = [last, _true_places(start), extra_places, _true_places(inside & ~known & ~start)]
    query = is_last & (word >= first_word)
    rows = [last[:, first_word:], _true_places(inside & ~query & (place >= first))]
    passage, slot = np.nonzero(extra_places >= 0)
    extra_word = word[passage, extra_places[passage, slot]]
    first_extra_key = words + keys[1].shape[1]
    return TokenOrder(
        np.concatenate(rows, axis=1).astype(np.int64),
        np.concatenate(keys, axis=1).astype(np.int64),
        np.stack([passage, first_extra_key + slot, extra_word]).astype(np.int64),
        first_word,
    )


def _true_places(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[B, K]: the indices at which each row of ``mask`` [B, T] is true, ascending, then
    ``EMPTY``."""
    most = int(mask.sum(1).max(initial=0))
    order = np.argsort(~mask, axis=1, kind="stable")[:, :most]
    return np.where(np.take_along_axis(mask, order, 1), order, EMPTY)


def batch_rows(
    words: NDArray[np.integer], word_rows: Sequence[slice]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Select those of ``words`` (word numbers of the run, ascending) that a batch has.

    ``word_rows`` are the query words of each passage of the batch, as slices of the run's words.
    Returns their rows b * W + w [S], and their indices in ``words`` [S].
    """
    ranges = [np.arange(*np.searchsorted(words, [s.start, s.stop])) for s in word_rows]
    index = np.concatenate(ranges).astype(np.int64)
    passage = np.repeat(np.arange(len(word_rows)), [len(each) for each in ranges])
    base = np.array([span.start for span in word_rows])
    queries = max(span.stop - span.start for span in word_rows)
    return passage * queries + words[index] - base[passage], index


def pair_with_earlier(rows: NDArray[np.int64], words: int, first_word: int) -> NDArray[np.int64]:
    """[P]: the pairs of each row with all earlier words, one row after another.

    ``rows`` are b * W + w, and pairs (b * W' + earlier) * W + w, where ``words`` is W' and the
    query words start at ``first_word``.
    """
    queries = words - first_word
    passage, row = np.divmod(rows, max(queries, 1))
    counts = first_word + row
    earlier = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    pairs: NDArray[np.int64] = np.repeat(passage * words * queries + row, counts)
    pairs += earlier * queries
    return pairs


def pair_with_nearest(
    rows: NDArray[np.int64], words: int, first_word: int, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of each row with its ``most`` nearest earlier words, row by row from the nearest.

    ``rows`` are b * W + w as in ``pair_with_earlier``. Returns the pairs [P], and for each
    s * most + distance - 1, where s is the index of its row in ``rows``.
    """
    queries = words - first_word
    passage, row = np.divmod(rows, max(queries, 1))
    back = np.arange(1, most + 1)
    earlier = (first_word + row)[:, None] - back
    pairs = (passage[:, None] * words + earlier) * queries + row[:, None]
    there = earlier >= 0
    return pairs[there], np.flatnonzero(there)


N_PAIR_KINDS = CATEGORIES + QUADRANTS * DEPREL_PAIRS
"""Number of kinds of word pairs. Every pair has two: its category, and its quadrant and deprel
pair. The latter are numbered after the categories."""

PAIRS_PER_RUN = 64
"""Maximum number of pairs that are added up in float32 before their sum is added in float64."""

_BINS = distance_bins()


def pair_kinds(
    usable: NDArray[np.bool_],
    upos: NDArray[np.integer],
    deprel: NDArray[np.integer],
    form_fold: NDArray[np.integer],
    document_fold: NDArray[np.integer],
    first_word: int = 0,
) -> NDArray[np.int16]:
    """[2, B, W', W]: the two kinds of every pair of an earlier word and a query word.

    They are ``EMPTY`` if a word is unusable, or if the first word is not earlier than the second.
    ``usable``, ``upos``, ``deprel`` and ``form_fold`` [B, W'] describe the words, and
    ``document_fold`` [B] the passages. Query words start at ``first_word``.
    """
    words = np.arange(usable.shape[1])
    distance = words[first_word:] - words[:, None]
    bins: Any = _BINS[np.clip(distance, 0, MAX_DISTANCE)].astype(np.int16)

    def query_and_earlier(codes: NDArray[np.integer]) -> tuple[Any, Any]:
        # int16 holds every kind, and the results are arrays of B * W' * W
        narrow = codes.astype(np.int16)
        return narrow[:, None, first_word:], narrow[:, :, None]

    document: Any = document_fold.astype(np.int16)[:, None, None]
    quadrants: Any = quadrant(document, query_and_earlier(form_fold)[1])
    by_deprel = CATEGORIES + DEPREL_PAIRS * quadrants + deprel_pair(*query_and_earlier(deprel))
    kinds = np.stack([category(bins, *query_and_earlier(upos)), by_deprel])
    known = usable[:, None, first_word:] & usable[:, :, None] & (distance > 0)
    return np.where(known, kinds, np.int16(EMPTY))


@dataclass(frozen=True)
class WordPairs:
    """All P pairs of a usable query word and a usable earlier word, sorted by kind.

    Every pair occurs twice, once for each of its kinds. The pairs of a kind are divided into runs
    of at most ``PAIRS_PER_RUN`` pairs.
    """

    members: NDArray[np.int64]
    """[2 P]: pairs (b * W' + earlier) * W + w, ascending by kind."""

    first: NDArray[np.int64]
    """[S]: the index in ``members`` at which each run starts."""

    kind: NDArray[np.int64]
    """[S]: the kind of each run."""


def sort_pairs_by_kind(kinds: NDArray[np.int16]) -> WordPairs:
    """Return the pairs of ``kinds`` [2, B, W', W] (``pair_kinds``), sorted by kind."""
    by_pair = kinds.reshape(2, -1)
    pair = np.flatnonzero(by_pair[0] != EMPTY)
    sorted_kinds = by_pair[:, pair].flatten()
    order = np.argsort(sorted_kinds, kind="stable")
    sorted_kinds = sorted_kinds[order]
    starts = np.diff(sorted_kinds, prepend=np.int16(EMPTY)) > 0
    starts[::PAIRS_PER_RUN] = True
    first = np.flatnonzero(starts)
    return WordPairs(pair[order % max(len(pair), 1)], first, sorted_kinds[first].astype(np.int64))
