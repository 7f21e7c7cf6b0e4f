"""What statistics are told: one layer's attention in a rectangle, and what its heads write."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from headprobe.batching.batches import AlignedBatch, Chunk
from headprobe.model.heads import Layer

N_STRONGEST = 5
"""How many attended words of an example row are kept."""


class LayerView(Protocol):
    """A batch in one layer: what its query words W give to the usable ones of W' earlier words of
    their passages. Nothing is given by words that are not usable.
    """

    @property
    def batch(self) -> AlignedBatch: ...

    @property
    def layer(self) -> Layer: ...

    @property
    def over_rows(self) -> Tensor:
        """[5, H], summed over the rows: attention to the start tokens, to the row's own word and
        to the word before, entropy in nats, and the rows of which something is left."""

    @property
    def attention_received(self) -> Tensor:
        """[B, T - 1]: attention that tokens get from later words, summed over the rows: the mean
        of the heads."""

    @property
    def kept(self) -> Tensor:
        """[B, W, H]: what is left of each row when stripped, before renormalising."""

    @property
    def winner(self) -> Tensor:
        """[B, W, H]: the earlier word of the passage that alone gets the most, or -1."""

    @property
    def instance_hits(self) -> Tensor:
        """[H, I], uint8: 1 where a target of the instance gets strictly the most attention of all
        candidates that the relation admits."""

    @property
    def instance_shares(self) -> Tensor:
        """[2, H, I]: ``share`` and ``share_norm`` of each instance's targets together."""

    @property
    def columns(self) -> Tensor:
        """[3, B, W', H]: raw attention, ``share`` and ``share_norm`` summed over the rows."""

    @property
    def by_distance(self) -> Tensor:
        """[2, D, H]: ``share`` and ``share_norm`` summed by the distance in words, from 0."""

    @property
    def sampled(self) -> Tensor:
        """[H, P]: ``share`` of the earlier words of the sampled rows, one row after another."""

    @property
    def strongest(self) -> tuple[Tensor, Tensor]:
        """[I, H, M] the largest ``share`` in the example rows, descending, and their words:
        ``N_STRONGEST``, or as many as there are earlier words."""


def select_rows(of_rows: Tensor, rows: Tensor) -> Tensor:
    """[I, H] of [B, W, H] at these rows (b * W + w)."""
    return of_rows.flatten(0, 1).index_select(0, rows)


def winners(candidates: Tensor) -> Tensor:
    """[N, M] from [N, K, M]: the one of K that alone has the largest weight above 0, or -1."""
    best = candidates.amax(1, keepdim=True)
    # as numbers, so that one product counts the largest and tells the place of a lone one
    largest = torch.eq(candidates, best, out=torch.empty_like(candidates))
    places = torch.arange(candidates.shape[1], device=best.device, dtype=best.dtype)
    weights = torch.stack([torch.ones_like(places), places])
    count, place = (weights @ largest).unbind(1)
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
