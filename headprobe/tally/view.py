"""One layer's attention as all statistics read it: from words, to words; and what it writes."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch, Chunk
from headprobe.model.heads import Layer


@dataclass
class LayerView:
    """A batch in one layer: what its query words W give to earlier words W', with the heads
    h = g * S + s of each key/value head. Keys come before rows in memory, so that to go over
    earlier words is to add up long vectors.

    Each property is computed once, when the first statistic asks for it, and freed with the view.
    ``weights`` and ``scores`` [B, G, T, S, R] as the attention function gives them; ``loudness``
    [N, H]: the norm after ``W_O`` of the value that each head would read at each place.
    """

    batch: AlignedBatch
    layer: Layer
    weights: Tensor
    scores: Tensor
    loudness: Tensor

    @cached_property
    def tokens(self) -> Tensor:
        """[B, G, T - 1, S, W]: attention to tokens; none by unusable words."""
        return self.weights[:, :, :-1, :, : self.batch.queries]

    @cached_property
    def sink(self) -> Tensor:
        """[B, H, W]: attention to the start tokens."""
        words, starts = self.batch.words, self.batch.starts
        return self.tokens[:, :, words : words + starts].sum(2).flatten(1, 2)

    @cached_property
    def entropy(self) -> Tensor:
        """[B, H, W] in nats, without a logarithm for each weight p: where p is ``exp(s - c)``, its
        row's ``-sum(p log p)`` is ``c sum(p) - sum(p s)``. ``scores`` s are used up."""
        # over all keys and rows, which lie together in memory
        scores, weights = (x.flatten(0, 1).flatten(2) for x in (self.scores.float(), self.weights))
        offset = scores.amax(1) - weights.amax(1).log_()
        found = offset * weights.sum(1) - scores.mul_(weights).sum(1)
        words = self.batch.rectangle.rows[:, None, : self.batch.queries] >= 0
        of_heads = found.view(len(words), -1, self.weights.shape[4])
        return of_heads[..., : self.batch.queries] * words

    @cached_property
    def drawn(self) -> Tensor:
        """[B, T - 1]: attention that tokens get from later words, summed over rows and heads."""
        drawn = self.tokens.sum((1, 3, 4))
        first, last = self.batch.first_word, self.batch.words
        own = self.tokens.diagonal(-first, 2, 4).sum((1, 2))
        drawn[:, first:last] -= own
        passage, key, row = self.batch.own_extra
        own = self.tokens[passage, :, key, :, row].sum((1, 2))
        return drawn.index_put_((passage, key), -own, accumulate=True)

    @cached_property
    def _words(self) -> Tensor:
        """[2, B, G, W', S, W]: attention to usable words, the query word itself included; and
        ``a * ||v W_O||`` (Kobayashi et al. 2020)."""
        batch, groups, keys, shared, _ = self.weights.shape
        queries = self.batch.queries
        words, extra, of_word = self.batch.words, self.batch.extra_key, self.batch.extra_word
        by_head = self.loudness.index_select(0, self.batch.rectangle.seen.flatten())
        loudness = by_head.view(batch, keys, groups, shared, 1).transpose(1, 2)
        both = self.weights.new_empty(2, batch, groups, words, shared, queries)
        both[0] = self.tokens[:, :, :words]
        torch.mul(both[0], loudness[:, :, :words], out=both[1])
        of_rows = self.weights.flatten(0, 2).index_select(0, extra)[..., :queries]
        both[0].flatten(0, 2).index_add_(0, of_word, of_rows)
        loud = of_rows * loudness.flatten(0, 2).index_select(0, extra)
        both[1].flatten(0, 2).index_add_(0, of_word, loud)
        return both

    @cached_property
    def to_self(self) -> Tensor:
        """[B, H, W]: attention of each word to itself."""
        return self._words[0].diagonal(-self.batch.first_word, 2, 4).flatten(1, 2).clone()

    @cached_property
    def to_previous(self) -> Tensor:
        """[B, H, W or W - 1]: attention of each word but a passage's first to the word before."""
        return self._words[0].diagonal(1 - self.batch.first_word, 2, 4).flatten(1, 2)

    @cached_property
    def _earlier(self) -> Tensor:
        """[2, B, G, W', S, W]: what goes to the word itself removed, in place."""
        self.to_self  # noqa: B018
        self._words.diagonal(-self.batch.first_word, 3, 5).zero_()
        return self._words

    @property
    def earlier(self) -> Tensor:
        """[B, G, W', S, W]: raw attention to the usable earlier words; zero for other pairs."""
        return self._earlier[0]

    @cached_property
    def _kept(self) -> Tensor:
        return self._earlier.sum(3)

    @cached_property
    def kept(self) -> Tensor:
        """[B, W, H]: what is left of each row when stripped, before renormalising."""
        return _by_row(self._kept[0])

    @cached_property
    def shares(self) -> Tensor:
        """[2, B, G, W', S, W]: ``share`` and ``share_norm``; zeros where nothing is left."""
        # no product with the reciprocal: that of the smallest numbers is infinite
        return self._earlier / torch.where(self._kept > 0, self._kept, 1)[:, :, :, None]

    @property
    def share(self) -> Tensor:
        """[B, G, W', S, W]: stripped attention."""
        return self.shares[0]

    @cached_property
    def share_by_pair(self) -> Tensor:
        """[B * W' * W, H]: the same, pair by pair."""
        return self.share.permute(0, 2, 4, 1, 3).flatten(0, 2).flatten(1).contiguous()

    @cached_property
    def columns(self) -> Tensor:
        """[3, B, W', H]: ``earlier``, ``share`` and ``share_norm`` summed over the rows."""
        sums = torch.cat([self.earlier.sum(-1)[None], self.shares.sum(-1)])
        return sums.transpose(2, 3).flatten(3)

    @staticmethod
    def at(of_rows: Tensor, rows: Tensor) -> Tensor:
        """[I, H] of [B, W, H] at these rows (b * W + w)."""
        return of_rows.flatten(0, 1).index_select(0, rows)

    @staticmethod
    def at_pairs(of_pairs: Tensor, pairs: Tensor) -> Tensor:
        """[K, H] of [B, G, W', S, W] at these pairs of words ((b * W' + earlier) * W + w)."""
        words, queries = of_pairs.shape[2], of_pairs.shape[4]
        earlier, passage = pairs // queries % words, pairs // (queries * words)
        return of_pairs.permute(0, 2, 4, 1, 3)[passage, earlier, pairs % queries].flatten(1)

    def whole(self, rows: Tensor) -> Tensor:
        """[W', I, H]: ``share`` in these rows (b * W + w)."""
        words, queries = self.batch.words, self.batch.queries
        first = rows // queries * (words * queries) + rows % queries
        pairs = first + torch.arange(words, device=rows.device)[:, None] * queries
        found = self.share_by_pair.index_select(0, pairs.flatten())
        return found.view(words, len(rows), -1)

    @cached_property
    def passage_winner(self) -> Tensor:
        """[B, W, H]: the winner among the earlier words of the passage."""
        return self._winners(self.earlier)

    @cached_property
    def sentence_winner(self) -> Tensor:
        """[B, W, H]: the winner among the earlier words of the sentence."""
        if self.batch.one_sentence:
            return self.passage_winner
        return self._winners(self.earlier * self.batch.same_sentence)

    def _winners(self, candidates: Tensor) -> Tensor:
        batch, groups, words, shared, queries = candidates.shape
        found = winners(candidates.view(batch * groups, words, shared * queries))
        return _by_row(found.view(batch, groups, shared, queries))


def _by_row(of_heads: Tensor) -> Tensor:
    """[B, W, H] from [B, G, S, W]."""
    return of_heads.permute(0, 3, 1, 2).flatten(2)


def winners(candidates: Tensor) -> Tensor:
    """[N, M] from [N, K, M]: the one of K that alone has the largest weight above 0, or -1."""
    best = candidates.amax(1, keepdim=True)
    # as numbers, so that one product counts the largest and tells the place of a lone one
    largest = torch.eq(candidates, best, out=torch.empty_like(candidates))
    places = torch.arange(candidates.shape[1], device=best.device, dtype=best.dtype)
    asked = torch.stack([torch.ones_like(places), places])
    count, place = (asked @ largest).unbind(1)
    return torch.where((count == 1) & (best[:, 0] > 0), place, -1).to(torch.int32)


@dataclass
class OutputView:
    """What the heads of a layer write in a chunk: ``output`` [N, H, V], and ``residual`` [1, N, E]
    as it enters the layer."""

    chunk: Chunk
    layer: Layer
    output: Tensor
    residual: Tensor

    @cached_property
    def head_output(self) -> Tensor:
        """[Q, H, V]: each head's output at each usable word, before W_O, in float32."""
        return self.output.index_select(0, self.chunk.word_token).float()

    @cached_property
    def passage_sum(self) -> Tensor:
        """[P, H, V]: ``head_output`` summed over each passage."""
        sums = self.head_output.new_zeros(len(self.chunk.cell), *self.head_output.shape[1:])
        return sums.index_add_(0, self.chunk.word_passage, self.head_output)

    @cached_property
    def square(self) -> Tensor:
        """[Q, H]: the squared norms of the heads' outputs after W_O."""
        written = torch.bmm(self.head_output.transpose(0, 1), self.layer.norm_map)
        norms: Tensor = torch.linalg.vector_norm(written, dim=-1)
        return norms.square_().T

    @cached_property
    def residual_square(self) -> Tensor:
        """[Q]: the squared norms of the residual stream at usable words."""
        norms: Tensor = torch.linalg.vector_norm(self.residual[0], dim=-1, dtype=torch.float32)
        squares: Tensor = norms.index_select(0, self.chunk.word_token).square_()
        return squares
