"""The view of a layer by compiled loops, for CPUs: all that statistics read of a head is found
while its attention is still in the cache."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.batching.batches import AlignedBatch, KernelInputs
from headprobe.compiled import numba_kernel, split_over_threads
from headprobe.measure.layer_view import N_STRONGEST
from headprobe.measure.numba_kernels import (
    Floats,
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
"""So few weights are not worth a second thread."""


class ViewArrays(NamedTuple):
    """The results, as in ``LayerView`` but for the order of axes: ``by_distance`` [B, H, 2, W'] and
    ``over_rows`` [5, B, H] by passage and head, ``attention_received`` [H, B, T - 1],
    ``strongest`` and ``strongest_word`` [H, I, M] by head."""

    by_kind: NDArray[np.float64]
    kept: Floats
    winner: NDArray[np.int32]
    columns: Floats
    by_distance: Floats
    attention_received: Floats
    over_rows: NDArray[np.float64]
    instance_hits: NDArray[np.uint8]
    instance_shares: Floats
    sampled: Floats
    strongest: Floats
    strongest_word: NDArray[np.int64]


class NumbaView:
    """``LayerView`` of a rectangle, once all its parts are taken in.

    ``value_norm`` [N, H]: the norm after ``W_O`` of the value that each head would read at each
    place; ``by_kind`` [H, KINDS] are added to.
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
            "strongest": torch.empty(examples),
            "strongest_word": torch.empty(examples, dtype=torch.int64),
        }
        self._arrays = ViewArrays(**{name: of.numpy() for name, of in self._tensors.items()})

    def add_part(self, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        """Take in a part's weights and scores [B', G', T, S, R] (``model.attention.Observer``)."""
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
    def strongest(self) -> tuple[Tensor, Tensor]:
        share, word = self._tensors["strongest"], self._tensors["strongest_word"]
        return share.transpose(0, 1), word.transpose(0, 1)


@numba_kernel
def fill_view(
    weights: Floats,
    scores: Floats,
    value_norm: Floats,
    inputs: KernelInputs,
    arrays: ViewArrays,
    passage: int,
    head: int,
    low: int,
    high: int,
) -> None:
    """Find all there is to find for the heads ``low`` to ``high`` of a part, which begins at this
    ``passage`` and ``head`` of its batch; ``value_norm`` [H, B, T]."""
    groups, keys, shared, width = weights.shape[1:]
    words, queries = inputs.kinds.shape[2:]
    pairs = words * queries
    weight, score = weights.reshape(weights.size), scores.reshape(scores.size)
    kinds = inputs.kinds.reshape((2, len(inputs.rows), pairs))
    shares = np.empty(2 * pairs, np.float32)
    share = shares[:pairs]
    columns, left = np.empty((3, words), np.float32), np.empty((2, queries), np.float32)
    spread, best = np.empty((4, queries), np.float32), np.empty(queries, np.float32)
    place = np.empty(queries, np.int32)
    by_class = np.empty((2, inputs.classes.shape[2], queries), np.float32)
    for item in range((high - low) * len(weights)):
        p, i = item % len(weights), low + item // len(weights)
        b, h, base, first = passage + p, head + i, (passage + p) * pairs, inputs.first_word
        received, edge = arrays.attention_received[h, b], inputs.passage_edges[:, b : b + 2]
        own = strip_rows(
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
            left,
            spread,
            best,
            place,
        )
        sink = previous = stripped = 0.0
        for t in range(words, words + inputs.starts):
            sink += received[t]
        for r in range(queries):
            if first + r > 0:
                previous += share[(first + r - 1) * queries + r]
            arrays.winner[b, r, h] = place[r]
            arrays.kept[b, r, h] = left[0, r]
            stripped += left[0, r] > 0
        arrays.over_rows[0, b, h] = sink
        arrays.over_rows[1, b, h] = own
        arrays.over_rows[2, b, h] = previous
        arrays.over_rows[3, b, h] = sum_entropy(spread, inputs.rows[b])
        arrays.over_rows[4, b, h] = stripped
        renormalise(shares, words, first, left, arrays.by_distance[b, h], columns)
        for t in range(words):
            for k in range(3):
                arrays.columns[k, b, t, h] = columns[k, t]
        add_by_kind(share, kinds[0, b], kinds[1, b], words, first, queries, arrays.by_kind[h])
        some = slice(edge[2, 0], edge[2, 1])
        gather_pairs(share, inputs.sampled_pair[some], base, arrays.sampled[h, some])
        some = slice(edge[4, 0], edge[4, 1])
        words_of, shares_of = arrays.strongest_word[h, some], arrays.strongest[h, some]
        find_strongest(
            share, inputs.example[some], b * queries, first, queries, words_of, shares_of
        )
        _fill_instances(shares, place, inputs, arrays, b, h, by_class)


@numba_kernel
def _fill_instances(
    shares: Floats,
    place: NDArray[np.int32],
    inputs: KernelInputs,
    arrays: ViewArrays,
    b: int,
    h: int,
    by_class: Floats,
) -> None:
    """Fill in hits and shares of the instances of passage ``b`` for head ``h``: ``place`` [W] is
    the winner of each row, ``by_class`` [2, C, W] is overwritten."""
    words, queries = inputs.kinds.shape[2:]
    pairs, first, edge = words * queries, inputs.first_word, inputs.passage_edges[:, b : b + 2]
    share, none = shares[:pairs], shares[:0]
    for j in range(edge[1, 0], edge[1, 1]):
        r, line, lowest = inputs.link_row[j] - b * queries, inputs.strict_row[j], 0
        if inputs.sentence_scope[j]:
            lowest = first + r
            while lowest and inputs.sentence[b, lowest - 1] == inputs.sentence[b, first + r]:
                lowest -= 1
        winner = place[r]
        if lowest or line >= 0:
            admitted = inputs.other_form[line] if line >= 0 else none
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
    links = len(inputs.link_row)
    for j in range(edge[3, 0], edge[3, 1]):
        r, c = inputs.class_row[j] - b * queries, inputs.class_column[j]
        hit = place[r] >= 0 and inputs.classes[b, place[r], c] > 0
        arrays.instance_hits[h, links + j] = hit
        arrays.instance_shares[0, h, links + j] = by_class[0, c, r]
        arrays.instance_shares[1, h, links + j] = by_class[1, c, r]
