"""Similarity of all pairs of heads, in attention and in output, on sampled rows (docs/method.md).

Heads of different layers are compared on the same rows, so the sampled rows of all layers are
stored until the last layer has attended. Then one matrix product per chunk compares all pairs.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from headprobe.batching.batches import Chunk
from headprobe.measure.layer_view import LayerView, OutputView, select_rows
from headprobe.measure.statistics import Statistic, sum_dtype
from headprobe.model.heads import Layer

PROJECTION_SIZE = 64
"""Number of dimensions to which outputs are projected before they are compared."""


class SimilarityStatistic(Statistic):
    """Sums over the sampled rows in which both heads of a pair are active.

    ``affinity`` sums the Hellinger affinity of their stripped attention, sum(sqrt(p * q)), and
    ``cosine`` the cosine of their outputs after ``W_O``, from which the head's mean over the
    passage is subtracted. A head is active in a row if it attends to earlier words, and if the norm
    of that output is above zero and at least ``idle_line`` times the median of the layer's heads in
    that row.
    """

    def __init__(
        self, layers: Sequence[Layer], heads: int, idle_line: float, seed: int, device: torch.device
    ) -> None:
        self._idle_line = idle_line
        # [H, V, U + 64] per layer: the first U columns preserve the norm after W_O, the others
        # project to fewer dimensions. One product computes both.
        self._norm_width = layers[0].norm_map.shape[-1]
        self._maps = [
            torch.cat([layer.norm_map, layer.projection(PROJECTION_SIZE, seed)], dim=-1)
            for layer in layers
        ]
        self._rows = torch.zeros((), dtype=torch.int64, device=device)
        pairs = (len(layers) * heads, len(layers) * heads)
        kind = sum_dtype(device)
        self._affinity = torch.zeros(pairs, dtype=kind, device=device)
        self._cosine = torch.zeros(pairs, dtype=kind, device=device)
        self._both = torch.zeros(pairs, dtype=kind, device=device)

    def begin(self, chunk: Chunk) -> None:
        layers, rows, pairs = len(self._maps), len(chunk.sampled_word), len(chunk.sampled_pair_word)
        heads, _, width = self._maps[0].shape
        empty = self._maps[0].new_empty
        # One tensor for all layers, which the last step multiplies without copying
        self._attention = empty(layers, heads, pairs)  # square roots of stripped attention
        self._output = empty(layers, heads, rows, width - self._norm_width)  # of unit length
        self._active = empty(layers, heads, rows)  # 1 or 0
        self._attends: list[Tensor] = []  # of the current layer's batches so far
        self._n_pairs = 0

    def add(self, view: LayerView) -> None:
        batch, first = view.batch, self._n_pairs
        self._attends.append(select_rows(view.kept, batch.sampled) > 0)
        self._n_pairs += len(batch.sampled_pair)
        torch.sqrt(view.sampled, out=self._attention[view.layer.index, :, first : self._n_pairs])

    def add_output(self, view: OutputView) -> None:
        chunk, sampled, layer = view.chunk, view.chunk.sampled_word, view.layer.index
        if not len(sampled):
            return
        count = torch.zeros_like(chunk.cell).index_add_(
            0, chunk.word_passage, torch.ones_like(chunk.word_passage)
        )
        mean = view.passage_sum / count.clamp(min=1)[:, None, None]  # [P, H, V]
        centred = view.head_output[sampled] - mean[chunk.word_passage[sampled]]
        mapped = torch.bmm(centred.transpose(0, 1), self._maps[layer])  # [H, S, U + 64]
        norm = mapped[..., : self._norm_width].norm(dim=-1)
        active = (norm >= self._idle_line * norm.median(dim=0).values) & (norm > 0)
        active &= torch.cat(self._attends).T
        length = mapped[..., self._norm_width :].norm(dim=-1)
        # Rows in which the head is not active become zero, and so add nothing to any pair
        scale = active / torch.where(length > 0, length, 1)
        torch.mul(mapped[..., self._norm_width :], scale[..., None], out=self._output[layer])
        self._active[layer] = active
        self._attention[layer].mul_(self._active[layer].index_select(1, chunk.sampled_pair_word))
        self._attends, self._n_pairs = [], 0

    def finish(self, chunk: Chunk) -> None:
        self._rows += len(chunk.sampled_word)
        for sums, by_head in (
            (self._both, self._active),
            (self._cosine, self._output),
            (self._affinity, self._attention),
        ):
            vectors = by_head.view(len(sums), -1)  # one per head of the model
            sums.add_(vectors @ vectors.T)
        del self._active, self._output, self._attention

    def sums(self) -> Mapping[str, Tensor]:
        return {
            "affinity": self._affinity,
            "cosine": self._cosine,
            "both_active": self._both.round().to(torch.int64),
            "sampled_rows": self._rows,
        }
