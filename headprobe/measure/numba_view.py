"""The view of a layer computed by compiled loops, for CPUs.

``TorchView`` computes each property with a few passes of tensor operations over the attention of
all heads, which lies in main memory. Here one loop per head and passage (``fill_view``) computes
everything that statistics read while that head's attention is still in the cache, in about half the
time. The heads are divided among the threads.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.arrays import Singles
from headprobe.batching.batches import AlignedBatch, KernelInputs
from headprobe.compiled import numba_kernel, split_over_threads
from headprobe.measure.layer_view import N_STRONGEST
from headprobe.measure.numba_kernels import (
    add_by_kind,
    find_strongest,
    find_winner,
    gather_pairs,
    renormalise,
    strip_rows,
    sum_classes,
    sum_entropy,
)
from headprobe.model.attention import TilePart
from headprobe.model.heads import Layer

MIN_PARALLEL_WEIGHTS = 1 << 15
"""A part with fewer attention weights than this is processed by one thread, because a second one is
not worth its cost."""


class ViewArrays(NamedTuple):
    """The results of ``fill_view``. They mean the same as in ``LayerView``, but axes are ordered so
    that passages and heads, which are processed separately, come first where possible."""

    by_kind: NDArray[np.float64]
    """[H, KINDS]: stripped attention by kind of pair, added to what is there."""

    kept: Singles
    """[B, W, H]"""

    winner: NDArray[np.int32]
    """[B, W, H]"""

    columns: Singles
    """[3, B, W', H]"""

    by_distance: Singles
    """[B, H, 2, W']: added to what is there."""

    attention_received: Singles
    """[H, B, T - 1]"""

    over_rows: NDArray[np.float64]
    """[5, B, H]"""

    instance_hits: NDArray[np.uint8]
    """[H, I]"""

    instance_shares: Singles
    """[2, H, I]"""

    sampled: Singles
    """[H, P]"""

    sketch: Singles
    """[H, P']"""

    strongest: Singles
    """[H, S', M]"""

    strongest_word: NDArray[np.int64]
    """[H, S', M]"""


class NumbaView:
    """A ``LayerView`` of a tile, complete once ``add_part`` was called for all its parts.

    ``value_norm`` [N, H] is the norm after ``W_O`` of each token's value, as each head would read
    it. Stripped attention by kind of pair is added to ``by_kind`` [H, KINDS] itself, because it has
    too many numbers to be stored per batch.
    """

    def __init__(
        self, batch: AlignedBatch, layer: Layer, value_norm: Tensor, by_kind: Tensor
    ) -> None:
        self.batch, self.layer = batch, layer
        passages, keys = batch.tile.keys.shape
        heads, words, queries = value_norm.shape[1], batch.words, batch.queries
        count = len(batch.instances.row)
        examples = heads, len(batch.example), min(N_STRONGEST, words)
        self._value_norm = value_norm.T.index_select(1, batch.tile.key_places.flatten())
        self._tensors = {
            "by_kind": by_kind,
            "kept": torch.empty(passages, queries, heads),
            "winner": torch.empty(passages, queries, heads, dtype=torch.int32),
            "columns": torch.empty(3, passages, words, heads),
            "by_distance": torch.zeros(passages, heads, 2, words),
            "attention_received": torch.empty(heads, passages, keys - 1),
            "over_rows": torch.empty(5, passages, heads, dtype=torch.float64),
            "instance_hits": torch.empty(heads, count, dtype=torch.uint8),
            "instance_shares": torch.empty(2, heads, count),
            "sampled": torch.empty(heads, len(batch.sampled_pair)),
            "sketch": torch.empty(heads, len(batch.sketch_pair)),
            "strongest": torch.empty(examples),
            "strongest_word": torch.empty(examples, dtype=torch.int64),
        }
        # Arrays that share the tensors' memory
        self._arrays = ViewArrays(**{name: t.numpy() for name, t in self._tensors.items()})

    def add_part(self, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        """Process the weights and scores [B', G', T, S, R] of a part (``Observer.attended``)."""
        heads = weights.shape[1] * weights.shape[3]
        work = partial(
            fill_view,
            weights.contiguous().numpy(),
            scores.float().contiguous().numpy(),
            self._value_norm.view(len(self._value_norm), len(self.batch.usable), -1).numpy(),
            self.batch.kernel_inputs,
            self._arrays,
            part.passages.start,
            part.groups.start * weights.shape[3],
        )
        threads = (
            1 if weights.numel() < MIN_PARALLEL_WEIGHTS else min(torch.get_num_threads(), heads)
        )
        split_over_threads(heads, threads, work)

    @property
    def over_rows(self) -> Tensor:
        return self._tensors["over_rows"].sum(1)

    @property
    def attention_received(self) -> Tensor:
        return self._tensors["attention_received"].mean(0)

    @property
    def kept(self) -> Tensor:
        return self._tensors["kept"]

    @property
    def winner(self) -> Tensor:
        return self._tensors["winner"]

    @property
    def instance_hits(self) -> Tensor:
        return self._tensors["instance_hits"]

    @property
    def instance_shares(self) -> Tensor:
        return self._tensors["instance_shares"]

    @property
    def columns(self) -> Tensor:
        return self._tensors["columns"]

    @property
    def by_distance(self) -> Tensor:
        return self._tensors["by_distance"].sum(0).permute(1, 2, 0)

    @property
    def sampled(self) -> Tensor:
        return self._tensors["sampled"]

    @property
    def sketch(self) -> Tensor:
        return self._tensors["sketch"]

    @property
    def strongest(self) -> tuple[Tensor, Tensor]:
        share, word = self._tensors["strongest"], self._tensors["strongest_word"]
        return share.transpose(0, 1), word.transpose(0, 1)


@numba_kernel
def fill_view(
    weights: Singles,
    scores: Singles,
    value_norm: Singles,
    inputs: KernelInputs,
    arrays: ViewArrays,
    passage: int,
    head: int,
    low: int,
    high: int,
) -> None:
    """Compute all results for the heads ``low`` to ``high`` of a part.

    ``weights`` and ``scores`` [B', G', T, S, R] are those of the part, whose first passage and head
    are ``passage`` and ``head`` of the batch; ``low`` and ``high`` count from the latter.
    ``value_norm`` [H, B, T] and the results in ``arrays`` are those of the batch.
    """
    groups, keys, shared, width = weights.shape[1:]
    words, queries = inputs.kinds.shape[2:]
    pairs, first = words * queries, inputs.first_word
    weight, score = weights.reshape(weights.size), scores.reshape(scores.size)
    kinds = inputs.kinds.reshape((2, len(inputs.rows), pairs))
    # Buffers that all heads and passages use in turn (``strip_rows`` describes them)
    shares = np.empty(2 * pairs, np.float32)
    share = shares[:pairs]
    columns, kept = np.empty((3, words), np.float32), np.empty((2, queries), np.float32)
    entropy_terms, best = np.empty((4, queries), np.float32), np.empty(queries, np.float32)
    best_word = np.empty(queries, np.int32)
    by_class = np.empty((2, inputs.classes.shape[2], queries), np.float32)
    for item in range((high - low) * len(weights)):
        # Passage p and head i of the part are passage b and head h of the batch
        p, i = item % len(weights), low + item // len(weights)
        b, h = passage + p, head + i
        base = b * pairs  # the first pair of the passage
        received, edge = arrays.attention_received[h, b], inputs.passage_edges[:, b : b + 2]
        to_self = strip_rows(
            weight,
            score,
            ((p * groups + i // shared) * keys * shared + i % shared) * width,
            shared * width,
            value_norm[h, b],
            received,
            inputs.extra[:, edge[0, 0] : edge[0, 1]],
            first,
            shares,
            words,
            queries,
            columns,
            kept,
            entropy_terms,
            best,
            best_word,
        )

        # Results from raw attention, before it is renormalised in place
        sink = previous = stripped = 0.0
        for t in range(words, words + inputs.starts):
            sink += received[t]
        for r in range(queries):
            if first + r > 0:
                previous += share[(first + r - 1) * queries + r]
            arrays.winner[b, r, h] = best_word[r]
            arrays.kept[b, r, h] = kept[0, r]
            stripped += kept[0, r] > 0
        arrays.over_rows[0, b, h] = sink
        arrays.over_rows[1, b, h] = to_self
        arrays.over_rows[2, b, h] = previous
        arrays.over_rows[3, b, h] = sum_entropy(entropy_terms, inputs.rows[b])
        arrays.over_rows[4, b, h] = stripped

        # Results from stripped attention
        renormalise(shares, words, first, kept, arrays.by_distance[b, h], columns)
        for t in range(words):
            for k in range(3):
                arrays.columns[k, b, t, h] = columns[k, t]
        add_by_kind(share, kinds[0, b], kinds[1, b], words, first, queries, arrays.by_kind[h])
        part = slice(edge[2, 0], edge[2, 1])
        gather_pairs(share, inputs.sampled_pair[part], base, arrays.sampled[h, part])
        part = slice(edge[5, 0], edge[5, 1])
        gather_pairs(share, inputs.sketch_pair[part], base, arrays.sketch[h, part])
        part = slice(edge[4, 0], edge[4, 1])
        find_strongest(
            share,
            inputs.example[part],
            b * queries,
            first,
            queries,
            arrays.strongest_word[h, part],
            arrays.strongest[h, part],
        )
        _fill_instances(shares, best_word, inputs, arrays, b, h, by_class)


@numba_kernel
def _fill_instances(
    shares: Singles,
    best_word: NDArray[np.int32],
    inputs: KernelInputs,
    arrays: ViewArrays,
    b: int,
    h: int,
    by_class: Singles,
) -> None:
    """Compute hits and shares of the instances of passage ``b`` for head ``h``.

    ``best_word`` [W] is the winner of each row, ``by_class`` [2, C, W] a buffer.
    """
    words, queries = inputs.kinds.shape[2:]
    pairs, first, edge = words * queries, inputs.first_word, inputs.passage_edges[:, b : b + 2]
    share, all_words = shares[:pairs], shares[:0]
    # The winner of each link is that of its row, unless not all earlier words are candidates
    for j in range(edge[1, 0], edge[1, 1]):
        r, strict_row, lowest = inputs.link_row[j] - b * queries, inputs.strict_row[j], 0
        if inputs.sentence_scope[j]:
            lowest = first + r
            while lowest and inputs.sentence[b, lowest - 1] == inputs.sentence[b, first + r]:
                lowest -= 1
        winner = best_word[r]
        if lowest or strict_row >= 0:
            admitted = inputs.other_form[strict_row] if strict_row >= 0 else all_words
            winner = find_winner(share, r, first, queries, lowest, admitted)
        hit, plain, norm = False, np.float32(0), np.float32(0)
        for k in range(inputs.target_edges[j], inputs.target_edges[j + 1]):
            pair = inputs.target_pair[k] - b * pairs
            hit |= inputs.target[k] == winner
            plain += share[pair]
            norm += shares[pairs + pair]
        arrays.instance_hits[h, j] = hit
        arrays.instance_shares[0, h, j] = plain
        arrays.instance_shares[1, h, j] = norm
    if edge[3, 0] < edge[3, 1]:
        sum_classes(shares, inputs.classes[b], words, first, queries, by_class)
    # A word that asks for a class hits if the winner of its row is a member
    links = len(inputs.link_row)
    for j in range(edge[3, 0], edge[3, 1]):
        r, c = inputs.class_row[j] - b * queries, inputs.class_column[j]
        hit = best_word[r] >= 0 and inputs.classes[b, best_word[r], c] > 0
        arrays.instance_hits[h, links + j] = hit
        arrays.instance_shares[0, h, links + j] = by_class[0, c, r]
        arrays.instance_shares[1, h, links + j] = by_class[1, c, r]
