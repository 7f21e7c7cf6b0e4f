"""One layer's attention as all statistics read it: from words, to words."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch
from headprobe.model.heads import Layer

LONG = 96
"""From so many tokens on, a CPU adds up the columns of a word's tokens one by one: most of the
product with the table of words would be by zero (7 times faster at 512 tokens)."""


@dataclass
class LayerView:
    """A batch in one layer. Rows are words (their last token), [B, W, H, ...].

    Each property is computed once, when the first statistic asks for it, and freed with the view.
    ``weights`` [B, H, T, T], ``value`` [B, G, T, V], ``output`` [B, T, H, V] as the attention
    function gives them, ``residual`` [B, T, E] as it enters the layer.
    """

    batch: AlignedBatch
    layer: Layer
    weights: Tensor
    value: Tensor
    output: Tensor
    residual: Tensor

    def at_words(self, of_tokens: Tensor) -> Tensor:
        """[B, T, ...] at the last token of each word: [B, W, ...]."""
        rows = torch.arange(len(of_tokens), device=of_tokens.device)[:, None]
        return of_tokens[rows, self.batch.last_token]

    @cached_property
    def token_rows(self) -> Tensor:
        """[B, W, H, T]: attention of each word's row to tokens."""
        return self.at_words(self.weights.transpose(1, 2))

    def _to_words(self, token_rows: Tensor) -> Tensor:
        """[B, W, H, T] summed over the tokens of each usable word: [B, W, H, W]."""
        batch, words, heads, tokens = token_rows.shape
        flat = token_rows.reshape(batch, words * heads, tokens)
        if tokens < LONG or token_rows.device.type != "cpu":
            return (flat @ self.batch.word_columns).view(batch, words, heads, words)
        summed = flat.new_zeros(batch, words * heads, words)
        for rows, columns, pieces in zip(flat, summed, self.batch.pieces, strict=True):
            for word, token in pieces:
                columns.index_add_(1, word, rows.index_select(1, token))
        return summed.view(batch, words, heads, words)

    @cached_property
    def word_rows(self) -> Tensor:
        """[B, W, H, W]: attention from word to usable word, itself included."""
        return self._to_words(self.token_rows)

    @cached_property
    def earlier(self) -> Tensor:
        """[B, W, H, W]: raw attention to the usable earlier words; zero for other pairs."""
        return self.word_rows * self.batch.earlier

    @cached_property
    def kept(self) -> Tensor:
        """[B, W, H]: what is left of each row when stripped, before renormalising."""
        return self.earlier.sum(-1)

    @cached_property
    def share(self) -> Tensor:
        """[B, W, H, W]: stripped attention; a row of zeros where nothing is left."""
        return self.earlier / _nonzero(self.kept)[..., None]

    @cached_property
    def share_norm(self) -> Tensor:
        """[B, W, H, W]: the same of ``a * ||v W_O||`` (Kobayashi et al. 2020)."""
        groups = self.value.shape[1]
        norm_map = self.layer.norm_map.unflatten(0, (groups, -1))
        written = torch.einsum("bgtv,gqvu->bgqtu", self.value.float(), norm_map).norm(dim=-1)
        loudness = written.flatten(1, 2)[:, None]
        earlier = self._to_words(self.token_rows * loudness) * self.batch.earlier
        return earlier / _nonzero(earlier.sum(-1))[..., None]

    @cached_property
    def written(self) -> Tensor:
        """[B, W, H, U]: each head's output at each word, in coordinates of its norm after W_O."""
        return torch.einsum("bwhv,hvu->bwhu", self.head_output, self.layer.norm_map)

    @cached_property
    def head_output(self) -> Tensor:
        """[B, W, H, V]: each head's output at each word, before W_O, in float32."""
        return self.at_words(self.output).float()

    @staticmethod
    def winners(candidates: Tensor) -> Tensor:
        """[..., H] from [..., H, W]: the word that alone has the largest weight above 0, or -1."""
        best, word = candidates.max(-1)
        alone = (candidates == best[..., None]).sum(-1) == 1
        return torch.where(alone & (best > 0), word, -1)

    @cached_property
    def passage_winner(self) -> Tensor:
        """[B, W, H]: the winner among the earlier words of the passage."""
        return self.winners(self.earlier)

    @cached_property
    def sentence_winner(self) -> Tensor:
        """[B, W, H]: the winner among the earlier words of the sentence."""
        return self.winners(self.earlier * self.batch.same_sentence)


def _nonzero(sums: Tensor) -> Tensor:
    return torch.where(sums > 0, sums, 1)
