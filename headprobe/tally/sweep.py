"""The view of a layer by compiled loops, for CPUs: one sweep finds what all statistics read."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch
from headprobe.model.heads import Layer
from headprobe.tally.gather import (
    add_by_kind,
    find_strongest,
    find_winners,
    pick_share,
    pick_shares,
)
from headprobe.tally.strip import strip
from headprobe.tally.view import at

ALONE = 1 << 15
"""So few weights are not worth a second thread."""


class SweptView:
    """``LayerView`` of a rectangle; arguments as those of ``TensorView``.

    ``shares`` [2, B, G, W', S, W] are ``share`` and ``share_norm``; zeros where nothing is left.
    """

    def __init__(
        self, batch: AlignedBatch, layer: Layer, weights: Tensor, scores: Tensor, loudness: Tensor
    ) -> None:
        self.batch, self.layer = batch, layer
        passages, groups, keys, shared, _ = weights.shape
        heads, words, queries = groups * shared, batch.words, batch.queries
        self._alone = weights.numel() < ALONE
        self.shares = torch.empty(2, passages, groups, words, shared, queries)
        self.kept = torch.empty(passages, queries, heads)
        self.winner = torch.empty(passages, queries, heads, dtype=torch.int32)
        self.columns = torch.empty(3, passages, words, heads)
        by_distance = torch.zeros(2, passages, heads, words)
        drawn = torch.empty(heads, passages, keys - 1)
        over_rows = torch.empty(5, passages, heads, dtype=torch.float64)
        of_keys = loudness.index_select(0, batch.rectangle.seen.flatten()).view(passages, keys, -1)
        extra_first = torch.searchsorted(batch.extra[0], torch.arange(passages + 1))
        asked = weights, scores.float(), of_keys, batch.rectangle.rows, batch.extra, extra_first
        found = self.shares, self.kept, self.winner, self.columns, by_distance, drawn, over_rows
        work = partial(
            strip,
            *(tensor.contiguous().numpy() for tensor in asked),
            batch.starts,
            batch.first_word,
            *(tensor.numpy() for tensor in found),
        )
        self._in_pieces(passages * heads, work)
        self.by_distance = by_distance.sum(1).transpose(1, 2)
        self.drawn = drawn.mean(0)
        self.over_rows = over_rows.sum(1)

    @property
    def targets(self) -> Tensor:
        """[2, K, H]."""
        pair = self.batch.questions.target_pair
        found = torch.empty(2, len(pair), self.kept.shape[-1])
        pick_shares(self.shares.numpy(), pair.numpy(), found.numpy())
        return found

    @property
    def link_winner(self) -> Tensor:
        """[I, H]."""
        asked, batch = self.batch.questions, self.batch
        row = asked.row[: asked.links]
        winner = at(self.winner, row)
        of_sentence = asked.sentence_scope & (not batch.one_sentence)
        given = self.shares[0], row, of_sentence, batch.sentence, asked.strict, asked.other_form
        find_winners(*(tensor.numpy() for tensor in given), batch.first_word, winner.numpy())
        return winner

    def add_by_kind(self, sums: Tensor) -> None:
        """Add ``share`` to ``sums`` [H, KINDS], each word pair to both its kinds."""
        given = self.shares[0].numpy(), self.batch.kinds, self.batch.first_word
        self._in_pieces(len(sums), partial(add_by_kind, *given, sums.numpy()))

    @property
    def sampled(self) -> Tensor:
        """[H, P]."""
        pair = self.batch.sampled_pair
        found = torch.empty(self.kept.shape[-1], len(pair))
        pick_share(self.shares[0].numpy(), pair.numpy(), found.numpy())
        return found

    def strongest(self, rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """[I, H, M]."""
        share = torch.empty(len(rows), self.kept.shape[-1], min(most, self.batch.words))
        word = torch.empty(share.shape, dtype=torch.int64)
        given = self.shares[0].numpy(), rows.numpy(), self.batch.first_word
        find_strongest(*given, word.numpy(), share.numpy())
        return share, word

    def _in_pieces(self, count: int, work: Callable[[int, int], None]) -> None:
        """``work(low, high)`` over the items 0 to ``count``, as many at a time as torch has
        threads."""
        threads = 1 if self._alone else min(torch.get_num_threads(), count)
        edges = [piece * count // threads for piece in range(threads + 1)]
        others = [_pool(threads).submit(work, *piece) for piece in pairwise(edges[1:])]
        work(0, edges[1])
        for other in others:
            other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sweep")
