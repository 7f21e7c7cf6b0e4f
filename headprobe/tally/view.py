"""One layer's attention as all statistics read it: from words, to words; and what it writes."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch, Chunk
from headprobe.model.heads import Layer

LONG = 96
"""From so many tokens on, a CPU adds up the columns of a word's tokens one by one: most of the
product with the table of words would be by zero (7 times faster at 512 tokens)."""


@dataclass
class LayerView:
    """A batch in one layer. Rows are query words (their last token), [B, W, H, ...]; columns tokens
    T or earlier words W'.

    Each property is computed once, when the first statistic asks for it, and freed with the view.
    ``weights`` [B, G, R, S, T] as the attention function gives them; ``loudness`` [N, H]: the norm
    after ``W_O`` of the value that each head would read at each place.
    """

    batch: AlignedBatch
    layer: Layer
    weights: Tensor
    loudness: Tensor

    @cached_property
    def _rows(self) -> Tensor:
        """[B * W * G]: the query words' rows among B * G * R."""
        batch, groups, rows = self.weights.shape[:3]
        device = self.weights.device
        base = torch.arange(batch * groups, device=device).view(batch, 1, groups) * rows
        return (base + self.batch.last_row[:, :, None]).flatten()

    @cached_property
    def _to_tokens(self) -> Tensor:
        """[2, B, W, H, T]: attention of each query word's row to tokens; and ``a * ||v W_O||``
        (Kobayashi et al. 2020). Zero where the word is not usable."""
        batch, groups, _, shared, tokens = self.weights.shape
        words, heads = self.batch.last_row.shape[1], groups * shared
        both = self.weights.new_empty(2, batch * words * groups, shared * tokens)
        of_rows = self.weights.view(-1, shared * tokens)
        torch.index_select(of_rows, 0, self._rows, out=both[0])
        both = both.view(2, batch * words, heads * tokens)
        both[0].index_fill_(0, self.batch.unusable, 0)
        both = both.view(2, batch, words, heads, tokens)
        loudness = self.loudness[self.batch.rectangle.keys].transpose(1, 2)[:, None]
        torch.mul(both[0], loudness, out=both[1])
        return both

    @property
    def token_rows(self) -> Tensor:
        """[B, W, H, T]: attention of each query word's row to tokens."""
        return self._to_tokens[0]

    @cached_property
    def entropy(self) -> Tensor:
        """[B, W, H] in nats; the logarithm is several times faster than ``torch.special.entr``."""
        smallest = torch.finfo(self.token_rows.dtype).tiny
        return -self.token_rows.clamp(min=smallest).log_().mul_(self.token_rows).sum(-1)

    @cached_property
    def _to_words(self) -> Tensor:
        """[2, B, W, H, W']: the same to usable words, the query word itself included.

        In memory W' comes before W and H: to go over earlier words is then to add up long vectors.
        """
        kinds, batch, words, heads, tokens = self._to_tokens.shape
        flat = self._to_tokens.view(kinds * batch, words * heads, tokens)
        if tokens < LONG or flat.device.type != "cpu":
            summed = torch.bmm(self.batch.word_columns, flat.mT)
        else:
            of_words = flat.new_zeros(*flat.shape[:2], self.batch.usable.shape[1])
            for place, of_tokens in enumerate(flat):
                for word, token in self.batch.pieces[place % batch]:
                    of_words[place].index_add_(1, word, of_tokens.index_select(1, token))
            summed = of_words.mT.contiguous()
        return summed.view(kinds, batch, -1, words, heads).permute(0, 1, 3, 4, 2)

    @cached_property
    def to_self(self) -> Tensor:
        """[B, H, W]: attention of each word to itself."""
        return self._to_words[0].diagonal(self.batch.first_word, 1, 3).clone()

    @cached_property
    def to_previous(self) -> Tensor:
        """[B, H, W or W - 1]: attention of each word but a passage's first to the word before."""
        return self._to_words[0].diagonal(self.batch.first_word - 1, 1, 3)

    @cached_property
    def _to_earlier(self) -> Tensor:
        """[2, B, W, H, W']: what goes to the word itself removed, in place."""
        self.to_self  # noqa: B018
        self._to_words.diagonal(self.batch.first_word, 2, 4).zero_()
        return self._to_words

    @property
    def earlier(self) -> Tensor:
        """[B, W, H, W']: raw attention to the usable earlier words; zero for other pairs."""
        return self._to_earlier[0]

    @cached_property
    def _kept(self) -> Tensor:
        return self._to_earlier.sum(-1)

    @property
    def kept(self) -> Tensor:
        """[B, W, H]: what is left of each row when stripped, before renormalising."""
        return self._kept[0]

    @cached_property
    def shares(self) -> Tensor:
        """[2, B, W, H, W']: ``share`` and ``share_norm``."""
        return self._to_earlier / torch.where(self._kept > 0, self._kept, 1)[..., None]

    @property
    def share(self) -> Tensor:
        """[B, W, H, W']: stripped attention; a row of zeros where nothing is left."""
        return self.shares[0]

    @property
    def share_norm(self) -> Tensor:
        """[B, W, H, W']: the same of ``a * ||v W_O||``."""
        return self.shares[1]

    @cached_property
    def columns(self) -> Tensor:
        """[3, B, H, W']: ``earlier``, ``share`` and ``share_norm`` summed over the rows."""
        return torch.cat([self.earlier.sum(1)[None], self.shares.sum(2)])

    @staticmethod
    def at(of_rows: Tensor, rows: Tensor) -> Tensor:
        """[I, H] of [B, W, H] at these rows (b * W + w)."""
        return of_rows.flatten(0, 1).index_select(0, rows)

    @staticmethod
    def at_pairs(of_pairs: Tensor, pairs: Tensor) -> Tensor:
        """[K, H] of [B, W, H, W'] at these pairs of words ((b * W' + earlier) * W + w)."""
        return of_pairs.permute(0, 3, 1, 2).flatten(0, 2).index_select(0, pairs)

    @staticmethod
    def whole(of_pairs: Tensor, rows: Tensor) -> Tensor:
        """[I, H, W'] of [B, W, H, W'] at these rows (b * W + w)."""
        words, earlier = of_pairs.shape[1], of_pairs.shape[3]
        places = torch.arange(earlier, device=rows.device)
        pairs = ((rows // words)[:, None] * earlier + places) * words + (rows % words)[:, None]
        by_pair = of_pairs.permute(0, 3, 1, 2).flatten(0, 2)
        return by_pair.index_select(0, pairs.flatten()).view(*pairs.shape, -1).transpose(1, 2)

    @staticmethod
    def winners(candidates: Tensor) -> Tensor:
        """[..., H] from [..., H, W']: the word that alone has the largest weight above 0, or -1."""
        best = candidates.amax(-1, keepdim=True)
        # as numbers, so that sums count the largest and tell the place of a lone one
        largest = torch.eq(candidates, best, out=torch.empty_like(candidates))
        alone = (largest.sum(-1) == 1) & (best[..., 0] > 0)
        places = torch.arange(candidates.shape[-1], device=best.device, dtype=best.dtype)
        return torch.where(alone, largest.mul_(places).sum(-1), -1).to(torch.int64)

    @cached_property
    def passage_winner(self) -> Tensor:
        """[B, W, H]: the winner among the earlier words of the passage."""
        return self.winners(self.earlier)

    @cached_property
    def sentence_winner(self) -> Tensor:
        """[B, W, H]: the winner among the earlier words of the sentence."""
        if self.batch.one_sentence:
            return self.passage_winner
        return self.winners(self.earlier * self.batch.same_sentence)


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
        return written.square_().sum(-1).T

    @cached_property
    def residual_square(self) -> Tensor:
        """[Q]: the squared norms of the residual stream at usable words."""
        rows = self.residual[0].index_select(0, self.chunk.word_token).float()
        return rows.square_().sum(-1)
