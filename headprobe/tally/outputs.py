"""How loudly heads speak: moments of their outputs through W_O, by domain and document fold."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch
from headprobe.tally.statistic import wide
from headprobe.tally.view import LayerView


class OutputStatistic:
    """Sums and squares, from which the mean over all rows is removed exactly at the end:
    ``E||u - E u||^2 = E||u||^2 - ||E u||^2``."""

    def __init__(
        self, cells: int, layers: int, heads: int, width: int, device: torch.device
    ) -> None:
        kind = wide(device)
        self._rows = torch.zeros(cells, dtype=torch.int64, device=device)
        self._sum = torch.zeros(layers, cells, heads, width, dtype=kind, device=device)
        self._square = torch.zeros(layers, cells, heads, dtype=kind, device=device)
        self._residual = torch.zeros(layers, cells, dtype=kind, device=device)

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        rows = batch.rows[:, :, None]
        written = view.written * rows[..., None]
        square = written.square().sum(-1).sum(1)
        residual = view.at_words(view.residual).float().square().sum(-1) * batch.rows
        kind = self._sum.dtype
        self._sum[layer].index_add_(0, batch.cell, written.sum(1).to(kind))
        self._square[layer].index_add_(0, batch.cell, square.to(kind))
        self._residual[layer].index_add_(0, batch.cell, residual.sum(1).to(kind))

    def finish(self, batch: AlignedBatch) -> None:
        self._rows.index_add_(0, batch.cell, batch.usable.sum(1))

    def sums(self) -> Mapping[str, Tensor]:
        return {
            "output_rows": self._rows,
            "output_sum": self._sum.transpose(0, 1),
            "output_square": self._square.transpose(0, 1),
            "residual_square": self._residual.transpose(0, 1),
        }
