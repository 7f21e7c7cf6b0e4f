"""What a statistic can read: one layer's attention in a batch, and its heads' outputs in a chunk.

``LayerView`` is an interface with two implementations: ``torch_view`` for any device and
``numba_view`` for CPUs. Tests compare them in every number.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from headprobe.batching.batches import AlignedBatch, Chunk
from headprobe.model.heads import Layer

N_STRONGEST = 5
"""Maximum number of words stored per example row, those with the largest attention."""


class LayerView(Protocol):
    """The attention of one layer in one batch.

    Letters in shapes: B passages, T keys of the tile, W' words, of which the last W are query
    words, and H query heads; the others are named where they occur (``batching.batches``).

    *Stripped attention* is the attention of a query word to usable earlier words of its passage,
    renormalised to one; *norm-weighted* stripped attention is the same for attention times the norm
    of the value (docs/method.md). The tables call them ``share`` and ``share_norm``. Rows of
    unusable words are zero.
    """

    @property
    def batch(self) -> AlignedBatch:
        """The words and instances of the batch."""

    @property
    def layer(self) -> Layer:
        """The layer that attended."""

    @property
    def over_rows(self) -> Tensor:
        """[5, H]: sums over all rows of the attention to the start tokens, to the word itself and
        to the word before, of the entropy in nats, and the number of rows with ``kept`` > 0."""

    @property
    def attention_received(self) -> Tensor:
        """[B, T - 1]: attention that each token receives from later words, summed over rows and
        averaged over heads."""

    @property
    def kept(self) -> Tensor:
        """[B, W, H]: raw attention of each row to usable earlier words, in total."""

    @property
    def winner(self) -> Tensor:
        """[B, W, H]: the earlier word with the largest attention in each row, as its index in the
        passage; -1 if it is not unique or zero."""

    @property
    def instance_hits(self) -> Tensor:
        """[H, I], uint8: 1 where a target of the instance gets strictly the most attention of all
        candidates that the relation admits."""

    @property
    def instance_shares(self) -> Tensor:
        """[2, H, I]: ``share`` and ``share_norm`` of each instance's targets together."""

    @property
    def columns(self) -> Tensor:
        """[3, B, W', H]: raw, stripped and norm-weighted attention to each word, summed over rows
        of later words."""

    @property
    def by_distance(self) -> Tensor:
        """[2, D, H]: stripped and norm-weighted attention, summed by distance in words from 0 to at
        least W' - 1."""

    @property
    def sampled(self) -> Tensor:
        """[H, P]: stripped attention of the pairs of sampled rows
        (``AlignedBatch.sampled_pair``)."""

    @property
    def sketch(self) -> Tensor:
        """[H, P']: stripped attention of the pairs of sketched rows
        (``AlignedBatch.sketch_pair``)."""

    @property
    def strongest(self) -> tuple[Tensor, Tensor]:
        """[S', H, M] each: the M largest values of stripped attention in each example row,
        descending, and their words. M is ``N_STRONGEST``, or W' if that is smaller."""


def select_rows(values: Tensor, rows: Tensor) -> Tensor:
    """[N, H]: the values in [B, W, H] at N ``rows`` (b * W + w)."""
    return values.flatten(0, 1).index_select(0, rows)


def winners(candidates: Tensor) -> Tensor:
    """[N, M] from [N, K, M]: the index in K of the largest value, or -1 if it is not unique or
    not positive."""
    best = candidates.amax(1, keepdim=True)
    # 1 for the largest values, in floating point, so that one matrix product gives their number
    # and the sum of their indices, which is the index of a unique one
    largest = torch.eq(candidates, best, out=torch.empty_like(candidates))
    places = torch.arange(candidates.shape[1], device=best.device, dtype=best.dtype)
    weights = torch.stack([torch.ones_like(places), places])
    count, place = (weights @ largest).unbind(1)
    return torch.where((count == 1) & (best[:, 0] > 0), place, -1).to(torch.int32)


@dataclass
class OutputView:
    """The outputs of a layer's heads in a whole chunk of N tokens and Q usable words."""

    chunk: Chunk

    layer: Layer

    output: Tensor
    """[N, H, V]: each head's output before ``W_O``, in the model's dtype."""

    residual: Tensor
    """[1, N, E]: the residual stream that enters the layer."""

    @cached_property
    def head_output(self) -> Tensor:
        """[Q, H, V]: each head's output at each usable word, before ``W_O``, in float32."""
        return self.output.index_select(0, self.chunk.word_token).float()

    @cached_property
    def passage_sum(self) -> Tensor:
        """[P, H, V]: ``head_output``, summed over the words of each passage."""
        sums = self.head_output.new_zeros(len(self.chunk.cell), *self.head_output.shape[1:])
        return sums.index_add_(0, self.chunk.word_passage, self.head_output)

    @cached_property
    def square(self) -> Tensor:
        """[Q, H]: the squared norm of each head's output after ``W_O``."""
        written = torch.bmm(self.head_output.transpose(0, 1), self.layer.norm_map)
        norms: Tensor = torch.linalg.vector_norm(written, dim=-1)
        return norms.square_().T

    @cached_property
    def residual_square(self) -> Tensor:
        """[Q]: the squared norm of the residual stream at each usable word."""
        norms: Tensor = torch.linalg.vector_norm(self.residual[0], dim=-1, dtype=torch.float32)
        squares: Tensor = norms.index_select(0, self.chunk.word_token).square_()
        return squares
