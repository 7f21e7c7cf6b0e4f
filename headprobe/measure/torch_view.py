"""The view of a layer in tensor operations, for any device."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from headprobe.batching.batches import AlignedBatch
from headprobe.measure.layer_view import N_STRONGEST, select_rows, winners
from headprobe.model.heads import Layer


@dataclass
class TorchView:
    """``LayerView`` of a rectangle, with the heads h = g * S + s of each key/value head. Keys come
    before rows in memory, so that to go over earlier words is to add up long vectors.

    Each property is computed once, when the first statistic asks for it, and freed with the view.
    ``weights`` and ``scores`` [B, G, T, S, R] as the attention function gives them; ``value_norm``
    [N, H]: the norm after ``W_O`` of the value that each head would read at each place.
    """

    batch: AlignedBatch
    layer: Layer
    weights: Tensor
    scores: Tensor
    value_norm: Tensor

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
        least = torch.finfo(weights.dtype).tiny  # a learned sink may leave nothing
        offset = scores.amax(1) - weights.amax(1).clamp_(min=least).log_()
        found = offset * weights.sum(1) - scores.mul_(weights).sum(1)
        words = self.batch.tile.rows[:, None, : self.batch.queries] >= 0
        of_heads = found.view(len(words), -1, self.weights.shape[4])
        return of_heads[..., : self.batch.queries] * words

    @property
    def over_rows(self) -> Tensor:
        """[5, H]."""
        of_rows = self.sink, self.to_self, self.to_previous, self.entropy
        stripped = (self.kept > 0).sum((0, 1))
        return torch.stack([*(x.sum((0, 2)) for x in of_rows), stripped])

    @cached_property
    def attention_received(self) -> Tensor:
        """[B, T - 1]."""
        received = self.tokens.sum((1, 3, 4))
        first, last = self.batch.first_word, self.batch.words
        own = self.tokens.diagonal(-first, 2, 4).sum((1, 2))
        received[:, first:last] -= own
        passage, key, row = self.batch.own_extra
        own = self.tokens[passage, :, key, :, row].sum((1, 2))
        return received.index_put_((passage, key), -own, accumulate=True) / self.value_norm.shape[1]

    @cached_property
    def _words(self) -> Tensor:
        """[2, B, G, W', S, W]: attention to usable words, the query word itself included; and
        ``a * ||v W_O||`` (Kobayashi et al. 2020)."""
        batch, groups, keys, shared, _ = self.weights.shape
        queries = self.batch.queries
        words, extra, of_word = self.batch.words, self.batch.extra_key, self.batch.extra_word
        by_head = self.value_norm.index_select(0, self.batch.tile.key_places.flatten())
        value_norm = by_head.view(batch, keys, groups, shared, 1).transpose(1, 2)
        both = self.weights.new_empty(2, batch, groups, words, shared, queries)
        both[0] = self.tokens[:, :, :words]
        torch.mul(both[0], value_norm[:, :, :words], out=both[1])
        of_rows = self.weights.flatten(0, 2).index_select(0, extra)[..., :queries]
        both[0].flatten(0, 2).index_add_(0, of_word, of_rows)
        loud = of_rows * value_norm.flatten(0, 2).index_select(0, extra)
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
        """[B, W, H]."""
        return _by_row(self._kept[0])

    @cached_property
    def shares(self) -> Tensor:
        """[2, B, G, W', S, W]: ``share`` and ``share_norm``; zeros where nothing is left."""
        # no product with the reciprocal: that of the smallest numbers is infinite
        return self._earlier / torch.where(self._kept > 0, self._kept, 1)[:, :, :, None]

    @cached_property
    def by_pair(self) -> Tensor:
        """[B * W' * W, H]: ``share``, pair by pair."""
        return self.shares[0].permute(0, 2, 4, 1, 3).flatten(0, 2).flatten(1).contiguous()

    @cached_property
    def columns(self) -> Tensor:
        """[3, B, W', H]."""
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
        """Add ``share`` to ``sums`` [H, KINDS], each word pair to both its kinds: runs of one kind
        in one go."""
        members, first, kind = self.batch.pairs
        of_runs = torch.nn.functional.embedding_bag(members, self.by_pair, first, mode="sum")
        sums.index_add_(1, kind, of_runs.T.to(sums.dtype))

    @property
    def sampled(self) -> Tensor:
        """[H, P]."""
        return self.by_pair.index_select(0, self.batch.sampled_pair).T

    def _whole(self, rows: Tensor) -> Tensor:
        """[H, W', I]: ``share`` in these rows (b * W + w)."""
        words, queries = self.batch.words, self.batch.queries
        first = rows // queries * (words * queries) + rows % queries
        pairs = first + torch.arange(words, device=rows.device)[:, None] * queries
        found = self.by_pair.index_select(0, pairs.flatten())
        return found.view(words, len(rows), found.shape[1]).permute(2, 0, 1)

    @property
    def strongest(self) -> tuple[Tensor, Tensor]:
        """[I, H, M]."""
        shares = self._whole(self.batch.example).permute(2, 0, 1)
        found = shares.topk(min(N_STRONGEST, shares.shape[-1]), dim=-1)
        return found.values, found.indices

    @cached_property
    def winner(self) -> Tensor:
        """[B, W, H]."""
        return _winners(self.earlier)

    @property
    def _link_winner(self) -> Tensor:
        """[J, H]: the winner in the row of each link, among the candidates that it admits."""
        instances = self.batch.instances
        rows = instances.row[: instances.n_links]
        winner = select_rows(self.winner, rows)
        if not self.batch.one_sentence:
            of_sentence = select_rows(_winners(self.earlier * self.batch.same_sentence), rows)
            winner = torch.where(instances.sentence_scope[:, None], of_sentence, winner)
        if len(instances.strict):
            candidates = self._whole(instances.row[instances.strict]) * instances.other_form.T
            winner[instances.strict] = winners(candidates).T
        return winner

    @cached_property
    def by_distance(self) -> Tensor:
        """[2, D, H]. Columns are cut into squares of W, from the last, and written into lines of
        2 W - 1 with W - 1 zeros before; a view with a line stride one larger turns diagonals into
        columns."""
        of_passages = self.shares.sum(1) if self.shares.shape[1] > 1 else self.shares[:, 0]
        of_pairs = of_passages.transpose(2, 3)
        kinds, groups, shared, words, queries = of_pairs.shape
        squares = -(-words // queries)
        line = 2 * queries - 1
        lines = squares * queries
        buffer = torch.zeros(kinds, groups, shared, lines * line + queries, device=of_pairs.device)
        square = buffer[..., : lines * line].unflatten(-1, (lines, line))
        square[..., lines - words :, queries - 1 :] = of_pairs
        heads = buffer.shape[:3]
        skewed = buffer.as_strided(
            (*heads, squares, queries, line), (*buffer.stride()[:3], queries * line, line + 1, 1)
        )
        by_square = skewed.sum(4).flip(3)
        # of a square the lines tell distances from 1 - W to W - 1; W more for each further back
        found = by_square[..., queries - 1 :].contiguous()
        found[..., :-1, 1:] += by_square[..., 1:, : queries - 1]
        return found.flatten(3).flatten(1, 2).transpose(1, 2)


def _winners(candidates: Tensor) -> Tensor:
    """[B, W, H] of [B, G, W', S, W]."""
    batch, groups, words, shared, queries = candidates.shape
    found = winners(candidates.view(batch * groups, words, shared * queries))
    return _by_row(found.view(batch, groups, shared, queries))


def _by_row(of_heads: Tensor) -> Tensor:
    """[B, W, H] from [B, G, S, W]."""
    return of_heads.permute(0, 3, 1, 2).flatten(2)
