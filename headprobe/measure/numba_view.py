"""The view of a layer by compiled loops, for CPUs: all that statistics read of a head is found
while its attention is still in the cache."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.batching.batches import AlignedBatch, Asked
from headprobe.measure.layer_view import STRONGEST
from headprobe.measure.numba_kernels import (
    Floats,
    add_by_kind,
    compiled,
    find_strongest,
    find_winner,
    pick,
    renormalise,
    strip,
    sum_entropy,
)
from headprobe.model.attention import Part
from headprobe.model.heads import Layer

ALONE = 1 << 15
"""So few weights are not worth a second thread."""


class Found(NamedTuple):
    """What is found, as ``LayerView`` has it but for the order of axes: ``by_distance``
    [B, H, 2, W'] and ``over_rows`` [5, B, H] by passage and head, ``drawn`` [H, B, T - 1],
    ``targets`` [2, H, K], ``strongest`` and ``strongest_word`` [H, I, M] by head."""

    by_kind: NDArray[np.float64]
    kept: Floats
    winner: NDArray[np.int32]
    columns: Floats
    by_distance: Floats
    drawn: Floats
    over_rows: NDArray[np.float64]
    targets: Floats
    link_winner: NDArray[np.int32]
    sampled: Floats
    strongest: Floats
    strongest_word: NDArray[np.int64]


class SweptView:
    """``LayerView`` of a rectangle, once all its parts are taken in.

    ``loudness`` [N, H]: the norm after ``W_O`` of the value that each head would read at each
    place; ``by_kind`` [H, KINDS] are added to.
    """

    def __init__(
        self, batch: AlignedBatch, layer: Layer, loudness: Tensor, by_kind: Tensor
    ) -> None:
        self.batch, self.layer = batch, layer
        passages, keys = batch.rectangle.keys.shape
        heads, words, queries = loudness.shape[1], batch.words, batch.queries
        asked, links = batch.questions, batch.questions.links
        examples = heads, len(batch.example), min(STRONGEST, words)
        self._loudness = loudness.T.index_select(1, batch.rectangle.seen.flatten())
        self._tensors = {
            "by_kind": by_kind,
            "kept": torch.empty(passages, queries, heads),
            "winner": torch.empty(passages, queries, heads, dtype=torch.int32),
            "columns": torch.empty(3, passages, words, heads),
            "by_distance": torch.zeros(passages, heads, 2, words),
            "drawn": torch.empty(heads, passages, keys - 1),
            "over_rows": torch.empty(5, passages, heads, dtype=torch.float64),
            "targets": torch.empty(2, heads, len(asked.target_pair)),
            "link_winner": torch.empty(links, heads, dtype=torch.int32),
            "sampled": torch.empty(heads, len(batch.sampled_pair)),
            "strongest": torch.empty(examples),
            "strongest_word": torch.empty(examples, dtype=torch.int64),
        }
        self._found = Found(**{name: of.numpy() for name, of in self._tensors.items()})

    def take(self, part: Part, weights: Tensor, scores: Tensor) -> None:
        """Take in a part's weights and scores [B', G', T, S, R] (``model.attention.Observer``)."""
        heads = weights.shape[1] * weights.shape[3]
        work = partial(
            sweep,
            weights.contiguous().numpy(),
            scores.float().contiguous().numpy(),
            self._loudness.view(len(self._loudness), len(self.batch.usable), -1).numpy(),
            self.batch.asked,
            self._found,
            part.passages.start,
            part.groups.start * weights.shape[3],
        )
        threads = 1 if weights.numel() < ALONE else min(torch.get_num_threads(), heads)
        _in_pieces(heads, threads, work)

    @property
    def over_rows(self) -> Tensor:
        return self._tensors["over_rows"].sum(1)

    @property
    def drawn(self) -> Tensor:
        return self._tensors["drawn"].mean(0)

    @property
    def kept(self) -> Tensor:
        return self._tensors["kept"]

    @property
    def winner(self) -> Tensor:
        return self._tensors["winner"]

    @property
    def link_winner(self) -> Tensor:
        return self._tensors["link_winner"]

    @property
    def targets(self) -> Tensor:
        return self._tensors["targets"].transpose(1, 2)

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


@compiled
def sweep(
    weights: Floats,
    scores: Floats,
    loudness: Floats,
    asked: Asked,
    found: Found,
    passage: int,
    head: int,
    low: int,
    high: int,
) -> None:
    """Find all there is to find for the heads ``low`` to ``high`` of a part, which begins at this
    ``passage`` and ``head`` of its batch; ``loudness`` [H, B, T]."""
    groups, keys, shared, width = weights.shape[1:]
    words, queries = asked.kinds.shape[2:]
    pairs = words * queries
    weight, score = weights.reshape(weights.size), scores.reshape(scores.size)
    kinds = asked.kinds.reshape((2, len(asked.rows), pairs))
    shares = np.empty(2 * pairs, np.float32)
    share, none = shares[:pairs], shares[:0]
    columns, left = np.empty((3, words), np.float32), np.empty((2, queries), np.float32)
    spread, best = np.empty((4, queries), np.float32), np.empty(queries, np.float32)
    place = np.empty(queries, np.int32)
    for item in range((high - low) * len(weights)):
        p, i = item % len(weights), low + item // len(weights)
        b, h, base, first = passage + p, head + i, (passage + p) * pairs, asked.first
        drawn, edge = found.drawn[h, b], asked.edges[:, b : b + 2]
        own = strip(
            weight,
            score,
            ((p * groups + i // shared) * keys * shared + i % shared) * width,
            shared * width,
            loudness[h, b],
            drawn,
            asked.extra[:, edge[0, 0] : edge[0, 1]],
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
        for t in range(words, words + asked.starts):
            sink += drawn[t]
        for r in range(queries):
            if first + r > 0:
                previous += share[(first + r - 1) * queries + r]
            found.winner[b, r, h] = place[r]
            found.kept[b, r, h] = left[0, r]
            stripped += left[0, r] > 0
        found.over_rows[0, b, h] = sink
        found.over_rows[1, b, h] = own
        found.over_rows[2, b, h] = previous
        found.over_rows[3, b, h] = sum_entropy(spread, asked.rows[b])
        found.over_rows[4, b, h] = stripped
        renormalise(shares, words, first, left, found.by_distance[b, h], columns)
        for t in range(words):
            for k in range(3):
                found.columns[k, b, t, h] = columns[k, t]
        add_by_kind(share, kinds[0, b], kinds[1, b], words, first, queries, found.by_kind[h])
        some = slice(edge[1, 0], edge[1, 1])
        pick(share, asked.target_pair[some], base, found.targets[0, h, some])
        pick(shares[pairs:], asked.target_pair[some], base, found.targets[1, h, some])
        some = slice(edge[2, 0], edge[2, 1])
        pick(share, asked.sampled_pair[some], base, found.sampled[h, some])
        some = slice(edge[4, 0], edge[4, 1])
        words_of, shares_of = found.strongest_word[h, some], found.strongest[h, some]
        find_strongest(share, asked.example[some], b * queries, first, queries, words_of, shares_of)
        for j in range(edge[3, 0], edge[3, 1]):
            r, line, lowest = asked.link_row[j] - b * queries, asked.line[j], 0
            if asked.of_sentence[j]:
                lowest = first + r
                while lowest and asked.sentence[b, lowest - 1] == asked.sentence[b, first + r]:
                    lowest -= 1
            if lowest or line >= 0:
                admitted = asked.other_form[line] if line >= 0 else none
                winner = find_winner(share, r, first, queries, lowest, admitted)
                found.link_winner[j, h] = winner
            else:
                found.link_winner[j, h] = place[r]


def _in_pieces(count: int, threads: int, work: Callable[[int, int], None]) -> None:
    """``work(low, high)`` over the items 0 to ``count``, as many at a time as there are threads."""
    edges = [piece * count // threads for piece in range(threads + 1)]
    others = [_pool(threads).submit(work, *piece) for piece in pairwise(edges[1:])]
    work(0, edges[1])
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sweep")
