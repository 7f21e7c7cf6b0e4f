"""Which heads attend and write alike: all pairs, on a seeded sample of rows (METHOD section 5)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch
from headprobe.model.heads import Layer
from headprobe.tally.statistic import wide
from headprobe.tally.view import LayerView

PROJECTED = 128
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
        self._projections = [layer.projection(PROJECTED, seed) for layer in layers]
        self._attention: list[Tensor] = []
        self._written: list[Tensor] = []
        self._active: list[Tensor] = []
        self._rows = torch.zeros((), dtype=torch.int64, device=device)
        pairs = (len(layers) * heads, len(layers) * heads)
        kind = wide(device)
        self._affinity = torch.zeros(pairs, dtype=kind, device=device)
        self._cosine = torch.zeros(pairs, dtype=kind, device=device)
        self._both = torch.zeros(pairs, dtype=kind, device=device)

    def add(self, view: LayerView) -> None:
        batch = view.batch
        if not len(batch.sampled):
            return
        passage, word = batch.sampled.unbind(1)
        usable = batch.rows[:, :, None, None]
        count = batch.rows.sum(1).clamp(min=1)[:, None, None]
        mean = (view.head_output * usable).sum(1) / count
        centred = view.head_output[passage, word] - mean[passage]
        norm = torch.einsum("shv,hvu->shu", centred, view.layer.norm_map).norm(dim=-1)
        active = norm >= self._idle_line * norm.median(dim=1, keepdim=True).values
        active &= (norm > 0) & (view.kept[passage, word] > 0)
        written = torch.einsum("shv,hvk->shk", centred, self._projections[view.layer.index])
        length = written.norm(dim=-1, keepdim=True)
        unit = written / torch.where(length > 0, length, 1)
        attention = view.share[passage, word].sqrt()
        self._active.append(active.T.float())
        self._attention.append((attention * active[..., None]).transpose(0, 1).flatten(1))
        self._written.append((unit * active[..., None]).transpose(0, 1).flatten(1))

    def finish(self, batch: AlignedBatch) -> None:
        if not len(batch.sampled):
            return
        self._rows += len(batch.sampled)
        for kept, total in (
            (self._attention, self._affinity),
            (self._written, self._cosine),
            (self._active, self._both),
        ):
            rows = torch.cat(kept)
            total.add_(rows @ rows.T)
            kept.clear()

    def sums(self) -> Mapping[str, Tensor]:
        return {
            "affinity": self._affinity,
            "cosine": self._cosine,
            "both_active": self._both.round().to(torch.int64),
            "sampled_rows": self._rows,
        }
