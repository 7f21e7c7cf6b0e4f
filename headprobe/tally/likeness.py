"""Which heads attend and write alike: all pairs, on a seeded sample of rows (METHOD section 5)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from headprobe.align.batches import Chunk
from headprobe.model.heads import Layer
from headprobe.tally.statistic import wide
from headprobe.tally.view import LayerView, OutputView, at

PROJECTED = 64
"""Dimensions in which outputs are compared."""


class LikenessStatistic:
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
        self._maps = [
            torch.cat([layer.norm_map, layer.projection(PROJECTED, seed)], dim=-1)
            for layer in layers
        ]
        self._rows = torch.zeros((), dtype=torch.int64, device=device)
        pairs = (len(layers) * heads, len(layers) * heads)
        kind = wide(device)
        self._affinity = torch.zeros(pairs, dtype=kind, device=device)
        self._cosine = torch.zeros(pairs, dtype=kind, device=device)
        self._both = torch.zeros(pairs, dtype=kind, device=device)

    def begin(self) -> None:
        self._attention: dict[int, Tensor] = {}
        self._left: list[Tensor] = []
        self._written: list[Tensor] = []
        self._active: list[Tensor] = []

    def add(self, view: LayerView) -> None:
        batch = view.batch
        if not len(batch.sampled):
            return
        self._left.append(at(view.kept, batch.sampled) > 0)
        attention = view.whole(batch.sampled)
        kept = self._attention.get(batch.rectangle.start)
        if kept is None:  # of all layers in one piece, which need not be copied together
            kept = attention.new_empty(len(self._maps), *attention.shape)
            self._attention[batch.rectangle.start] = kept
        torch.sqrt(attention, out=kept[view.layer.index])

    def add_output(self, view: OutputView) -> None:
        chunk, sampled = view.chunk, view.chunk.sampled_word
        if not len(sampled):
            return
        count = torch.zeros_like(chunk.cell).index_add_(
            0, chunk.word_passage, torch.ones_like(chunk.word_passage)
        )
        mean = view.passage_sum / count.clamp(min=1)[:, None, None]
        centred = view.head_output[sampled] - mean[chunk.word_passage[sampled]]
        mapped = torch.bmm(centred.transpose(0, 1), self._maps[view.layer.index])
        split = view.layer.norm_map.shape[-1]
        norm = mapped[..., :split].norm(dim=-1)
        active = (norm >= self._idle_line * norm.median(dim=0).values) & (norm > 0)
        active &= torch.cat(self._left).T
        length = mapped[..., split:].norm(dim=-1)
        scale = active / torch.where(length > 0, length, 1)
        self._active.append(active.float())
        self._written.append(mapped[..., split:] * scale[..., None])
        self._left = []

    def finish(self, chunk: Chunk) -> None:
        if not len(chunk.sampled_word):
            return
        self._rows += len(chunk.sampled_word)
        active, written = torch.cat(self._active), torch.cat(self._written).flatten(1)
        self._both.add_(active @ active.T)
        self._cosine.add_(written @ written.T)
        first = 0
        for batch in chunk.batches:
            if not len(batch.sampled):
                continue
            attention = self._attention.pop(batch.rectangle.start).flatten(0, 1)
            last = first + len(batch.sampled)
            rows = attention.mul_(active[:, None, first:last]).flatten(1)
            self._affinity.add_(rows @ rows.T)
            first = last
        self._active, self._written = [], []

    def sums(self) -> Mapping[str, Tensor]:
        return {
            "affinity": self._affinity,
            "cosine": self._cosine,
            "both_active": self._both.round().to(torch.int64),
            "sampled_rows": self._rows,
        }
