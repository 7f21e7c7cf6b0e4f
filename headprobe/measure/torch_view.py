"""The view of a layer computed by tensor operations, for any device.

Letters in shapes: B passages, G key/value heads with S query heads each (head h = g * S + s), T
keys; W' words, of which the last W are query words; I instances, J links, K targets; P pairs of
sampled rows; S' example rows (``batching.batches``).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from headprobe.batching.batches import AlignedBatch
from headprobe.measure.layer_view import N_STRONGEST, select_rows, winners
from headprobe.model.heads import Layer


@dataclass
class TorchView:
    """A ``LayerView`` of a whole tile.

    In memory, keys come before heads and rows, so that a sum over earlier words adds up long
    vectors. Each property is computed when it is first read, and freed with the view. To save
    memory, ``entropy`` overwrites the scores, and ``_earlier`` the attention to words.
    """

    batch: AlignedBatch

    layer: Layer

    weights: Tensor
    """[B, G, T, S, R]: attention probabilities (``Observer.attended``)."""

    scores: Tensor
    """[B, G, T, S, R]: the logits of the softmax."""

    value_norm: Tensor
    """[N, H]: the norm after ``W_O`` of each token's value, as each head would read it."""

    @cached_property
    def tokens(self) -> Tensor:
        """[B, G, T - 1, S, W]: the attention of query words to tokens, without the null key, which
        takes all attention of rows of unusable words."""
        return self.weights[:, :, :-1, :, : self.batch.queries]

    @cached_property
    def sink(self) -> Tensor:
        """[B, H, W]: attention to the start tokens."""
        words, starts = self.batch.words, self.batch.starts
        return self.tokens[:, :, words : words + starts].sum(2).flatten(1, 2)

    @cached_property
    def entropy(self) -> Tensor:
        """[B, H, W]: the entropy of each row in nats. Overwrites ``scores``.

        The softmax gives p = exp(s - c) for the scores s of a row, with c = max(s) - log(max(p)).
        So its entropy -sum(p log p) is c sum(p) - sum(p s), and one logarithm per row suffices.
        """
        # For all R rows at once, because these are contiguous in memory: [B * G, T, S * R]
        scores, weights = (x.flatten(0, 1).flatten(2) for x in (self.scores.float(), self.weights))
        least = torch.finfo(weights.dtype).tiny  # a learned sink may leave no weight at all
        c = scores.amax(1) - weights.amax(1).clamp_(min=least).log_()
        entropy = c * weights.sum(1) - scores.mul_(weights).sum(1)
        words = self.batch.tile.rows[:, None, : self.batch.queries] >= 0
        by_head = entropy.view(len(words), -1, self.weights.shape[4])
        return by_head[..., : self.batch.queries] * words

    @property
    def over_rows(self) -> Tensor:
        """[5, H]"""
        by_row = self.sink, self.to_self, self.to_previous, self.entropy
        stripped = (self.kept > 0).sum((0, 1))
        return torch.stack([*(x.sum((0, 2)) for x in by_row), stripped])

    @cached_property
    def attention_received(self) -> Tensor:
        """[B, T - 1]"""
        # Of all rows, less what words give to their own last token (a diagonal) and to their own
        # extra tokens
        received = self.tokens.sum((1, 3, 4))
        first, last = self.batch.first_word, self.batch.words
        own = self.tokens.diagonal(-first, 2, 4).sum((1, 2))
        received[:, first:last] -= own
        passage, key, row = self.batch.own_extra
        own = self.tokens[passage, :, key, :, row].sum((1, 2))
        return received.index_put_((passage, key), -own, accumulate=True) / self.value_norm.shape[1]

    @cached_property
    def _words(self) -> Tensor:
        """[2, B, G, W', S, W]: attention to usable words, including the query word itself: raw, and
        norm-weighted, ``a * ||v W_O||`` (Kobayashi et al. 2020)."""
        batch, groups, keys, shared, _ = self.weights.shape
        queries = self.batch.queries
        words, extra, word = self.batch.words, self.batch.extra_key, self.batch.extra_word
        by_key = self.value_norm.index_select(0, self.batch.tile.key_places.flatten())
        value_norm = by_key.view(batch, keys, groups, shared, 1).transpose(1, 2)
        both = self.weights.new_empty(2, batch, groups, words, shared, queries)
        # The last tokens of words are the first keys; the other tokens are few and are added
        both[0] = self.tokens[:, :, :words]
        torch.mul(both[0], value_norm[:, :, :words], out=both[1])
        to_extra = self.weights.flatten(0, 2).index_select(0, extra)[..., :queries]
        both[0].flatten(0, 2).index_add_(0, word, to_extra)
        norm_to_extra = to_extra * value_norm.flatten(0, 2).index_select(0, extra)
        both[1].flatten(0, 2).index_add_(0, word, norm_to_extra)
        return both

    @cached_property
    def to_self(self) -> Tensor:
        """[B, H, W]: attention of each word to itself."""
        return self._words[0].diagonal(-self.batch.first_word, 2, 4).flatten(1, 2).clone()

    @cached_property
    def to_previous(self) -> Tensor:
        """[B, H, W or W - 1]: attention of each word to the word before, without the first word of
        a passage, which has none."""
        return self._words[0].diagonal(1 - self.batch.first_word, 2, 4).flatten(1, 2)

    @cached_property
    def _earlier(self) -> Tensor:
        """[2, B, G, W', S, W]: ``_words`` with zero attention of words to themselves. This
        overwrites ``_words``, so ``to_self`` is computed before."""
        self.to_self  # noqa: B018
        self._words.diagonal(-self.batch.first_word, 3, 5).zero_()
        return self._words

    @property
    def earlier(self) -> Tensor:
        """[B, G, W', S, W]: raw attention to usable earlier words; zero for other pairs."""
        return self._earlier[0]

    @cached_property
    def _kept(self) -> Tensor:
        """[2, B, G, S, W]: the row sums of ``_earlier``."""
        return self._earlier.sum(3)

    @cached_property
    def kept(self) -> Tensor:
        """[B, W, H]"""
        return _by_row(self._kept[0])

    @cached_property
    def shares(self) -> Tensor:
        """[2, B, G, W', S, W]: stripped attention, raw and norm-weighted; zeros in rows without
        attention to earlier words."""
        # Division, because the reciprocal of the smallest numbers is infinite
        return self._earlier / torch.where(self._kept > 0, self._kept, 1)[:, :, :, None]

    @cached_property
    def by_pair(self) -> Tensor:
        """[B * W' * W, H]: stripped attention of each pair (b * W' + earlier) * W + w."""
        return self.shares[0].permute(0, 2, 4, 1, 3).flatten(0, 2).flatten(1).contiguous()

    @cached_property
    def columns(self) -> Tensor:
        """[3, B, W', H]"""
        sums = torch.cat([self.earlier.sum(-1)[None], self.shares.sum(-1)])
        return sums.transpose(2, 3).flatten(3)

    @cached_property
    def instance_shares(self) -> Tensor:
        """[2, H, I]."""
        instances, words, queries = self.batch.instances, self.batch.words, self.batch.queries
        pair, links = instances.target_pair, instances.n_links
        earlier, passage = pair // queries % words, pair // (queries * words)
        by_target = self.shares.permute(1, 3, 5, 0, 2, 4)[passage, earlier, pair % queries]
        by_target = by_target.flatten(2)
        found = by_target.new_zeros(len(instances.row), *by_target.shape[1:])
        found.index_add_(0, instances.instance_of_target, by_target)
        if len(instances.class_column):
            # [2, B, G, C, S * W]: what each row gives to the words of each class
            classes = self.batch.classes.transpose(1, 2)[:, None]
            by_class = (classes @ self.shares.flatten(4)).unflatten(4, (-1, queries))
            row = instances.row[links:]
            found[links:] = by_class.permute(1, 3, 5, 0, 2, 4)[
                row // queries, instances.class_column, row % queries
            ].flatten(2)
        return found.permute(1, 2, 0)

    @cached_property
    def instance_hits(self) -> Tensor:
        """[H, I]."""
        instances, links = self.batch.instances, self.batch.instances.n_links
        winner = self._link_winner
        is_target = winner[instances.instance_of_target] == instances.target[:, None]
        hits = is_target.new_zeros(len(instances.row), is_target.shape[1], dtype=torch.uint8)
        # at most one target of an instance is its winner
        hits.index_add_(0, instances.instance_of_target, is_target.to(torch.uint8))
        row = instances.row[links:]
        word = select_rows(self.winner, row)
        member = self.batch.classes[
            (row // self.batch.queries)[:, None], word.clamp(min=0), instances.class_column[:, None]
        ]
        hits[links:] = ((member > 0) & (word >= 0)).to(torch.uint8)
        return hits.T

    def add_by_kind(self, sums: Tensor) -> None:
        """Add stripped attention to ``sums`` [H, KINDS], each pair to both its kinds."""
        # embedding_bag sums adjacent pairs of one kind in one operation; few sums remain to be
        # added in the dtype of the sums
        members, first, kind = self.batch.pairs
        partial = torch.nn.functional.embedding_bag(members, self.by_pair, first, mode="sum")
        sums.index_add_(1, kind, partial.T.to(sums.dtype))

    @property
    def sampled(self) -> Tensor:
        """[H, P]"""
        return self.by_pair.index_select(0, self.batch.sampled_pair).T

    @property
    def sketch(self) -> Tensor:
        """[H, P']"""
        return self.by_pair.index_select(0, self.batch.sketch_pair).T

    def _complete_rows(self, rows: Tensor) -> Tensor:
        """[H, W', N]: stripped attention to all words in N ``rows`` (b * W + w)."""
        words, queries = self.batch.words, self.batch.queries
        first_pair = rows // queries * (words * queries) + rows % queries
        pairs = first_pair + torch.arange(words, device=rows.device)[:, None] * queries
        shares = self.by_pair.index_select(0, pairs.flatten())
        return shares.view(words, len(rows), shares.shape[1]).permute(2, 0, 1)

    @property
    def strongest(self) -> tuple[Tensor, Tensor]:
        """[S', H, M] each"""
        shares = self._complete_rows(self.batch.example).permute(2, 0, 1)
        top = shares.topk(min(N_STRONGEST, shares.shape[-1]), dim=-1)
        return top.values, top.indices

    @cached_property
    def winner(self) -> Tensor:
        """[B, W, H]"""
        return _winners(self.earlier)

    @property
    def _link_winner(self) -> Tensor:
        """[J, H]: the winner in the row of each link, among the candidates that it admits."""
        instances = self.batch.instances
        rows = instances.row[: instances.n_links]
        winner = select_rows(self.winner, rows)
        if not self.batch.one_sentence:
            in_sentence = select_rows(_winners(self.earlier * self.batch.same_sentence), rows)
            winner = torch.where(instances.sentence_scope[:, None], in_sentence, winner)
        if len(instances.strict):
            strict_rows = self._complete_rows(instances.row[instances.strict])
            candidates = strict_rows * instances.other_form.T
            winner[instances.strict] = winners(candidates).T
        return winner

    @cached_property
    def by_distance(self) -> Tensor:
        """[2, D, H]

        A distance is a diagonal of the matrix [W', W] of earlier words and query words. To sum all
        diagonals at once, the matrix is skewed so that diagonals become columns: it is written into
        lines that are longer than its own, with zeros between, and read again as if each line were
        one element longer. For W = W' = 3, with x, y, z at the distances 0, 1, 2 and lines of
        2 W - 1 = 5 elements:

            written      read with a stride of 6
            0 0 x y z    0 0 x y z
            0 0 . x y    0 . x y 0
            0 0 . . x    . . x 0 0

        With query words of a later block (W < W') the matrix is tall. It is cut into squares of W
        lines, counted from the last line, and each square is skewed by itself, because one skew of
        the whole matrix would need lines of W' + W - 1 elements. The distances of neighbouring
        squares overlap.
        """
        by_passage = self.shares.sum(1) if self.shares.shape[1] > 1 else self.shares[:, 0]
        matrices = by_passage.transpose(2, 3)  # [2, G, S, W', W]
        kinds, groups, shared, words, queries = matrices.shape
        squares = -(-words // queries)
        line = 2 * queries - 1
        lines = squares * queries
        # The last line is read up to W - 1 elements beyond its end, hence the margin
        buffer = torch.zeros(kinds, groups, shared, lines * line + queries, device=matrices.device)
        written = buffer[..., : lines * line].unflatten(-1, (lines, line))
        written[..., lines - words :, queries - 1 :] = matrices
        heads = buffer.shape[:3]
        skewed = buffer.as_strided(
            (*heads, squares, queries, line), (*buffer.stride()[:3], queries * line, line + 1, 1)
        )
        by_square = skewed.sum(4).flip(3)  # [2, G, S, squares, line], the last square first
        # Column c of a square is the distance c - (W - 1), plus W for each square further back. So
        # the right halves are the distances in order, and the left half of each square adds to the
        # right half of the square after it in the matrix
        by_distance = by_square[..., queries - 1 :].contiguous()
        by_distance[..., :-1, 1:] += by_square[..., 1:, : queries - 1]
        return by_distance.flatten(3).flatten(1, 2).transpose(1, 2)


def _winners(candidates: Tensor) -> Tensor:
    """[B, W, H]: the winner of each row among ``candidates`` [B, G, W', S, W]."""
    batch, groups, words, shared, queries = candidates.shape
    winner = winners(candidates.view(batch * groups, words, shared * queries))
    return _by_row(winner.view(batch, groups, shared, queries))


def _by_row(by_head: Tensor) -> Tensor:
    """[B, W, H] from [B, G, S, W]."""
    return by_head.permute(0, 3, 1, 2).flatten(2)
