"""Which heads attend and write alike: all pairs, on a seeded sample of rows (docs/method.md)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from headprobe.batching.batches import Chunk
from headprobe.measure.layer_view import LayerView, OutputView, select_rows
from headprobe.measure.statistics import Statistic, sum_dtype
from headprobe.model.heads import Layer

PROJECTION_SIZE = 64
"""Dimensions in which outputs are compared."""


class SimilarityStatistic(Statistic):
    """Sums over sampled rows where both heads are active.

    ``affinity``: Hellinger affinity of stripped attention, ``sum(sqrt(p * q))``; ``cosine``: of
    outputs through W_O, the head's mean over the passage removed. A head is active in a row where
    the norm of that output is at least ``idle_line`` times that of the row's median head in the
    layer. All pairs are one matrix product a batch.
    """

    def __init__(
        self, layers: Sequence[Layer], heads: int, idle_line: float, seed: int, device: torch.device
    ) -> None:
        self._idle_line = idle_line
        # one product for the norm and for the projection
        self._norm = layers[0].norm_map.shape[-1]
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
        like = self._maps[0].new_empty
        # of all layers in one piece each, which need not be copied together
        self._attention = like(layers, heads, pairs)
        self._written = like(layers, heads, rows, width - self._norm)
        self._active = like(layers, heads, rows)
        self._left: list[Tensor] = []
        self._pairs = 0

    def add(self, view: LayerView) -> None:
        batch, first = view.batch, self._pairs
        self._left.append(select_rows(view.kept, batch.sampled) > 0)
        self._pairs += len(batch.sampled_pair)
        torch.sqrt(view.sampled, out=self._attention[view.layer.index, :, first : self._pairs])

    def add_output(self, view: OutputView) -> None:
        chunk, sampled, layer = view.chunk, view.chunk.sampled_word, view.layer.index
        if not len(sampled):
            return
        count = torch.zeros_like(chunk.cell).index_add_(
            0, chunk.word_passage, torch.ones_like(chunk.word_passage)
        )
        mean = view.passage_sum / count.clamp(min=1)[:, None, None]
        centred = view.head_output[sampled] - mean[chunk.word_passage[sampled]]
        mapped = torch.bmm(centred.transpose(0, 1), self._maps[layer])
        norm = mapped[..., : self._norm].norm(dim=-1)
        active = (norm >= self._idle_line * norm.median(dim=0).values) & (norm > 0)
        active &= torch.cat(self._left).T
        length = mapped[..., self._norm :].norm(dim=-1)
        scale = active / torch.where(length > 0, length, 1)
        torch.mul(mapped[..., self._norm :], scale[..., None], out=self._written[layer])
        self._active[layer] = active
        self._attention[layer].mul_(self._active[layer].index_select(1, chunk.sampled_pair_word))
        self._left, self._pairs = [], 0

    def finish(self, chunk: Chunk) -> None:
        self._rows += len(chunk.sampled_word)
        for sums, of_heads in (
            (self._both, self._active),
            (self._cosine, self._written),
            (self._affinity, self._attention),
        ):
            rows = of_heads.view(len(sums), -1)
            sums.add_(rows @ rows.T)
        del self._active, self._written, self._attention

    def sums(self) -> Mapping[str, Tensor]:
        return {
            "affinity": self._affinity,
            "cosine": self._cosine,
            "both_active": self._both.round().to(torch.int64),
            "sampled_rows": self._rows,
        }
