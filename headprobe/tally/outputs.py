"""How loudly heads speak: moments of their outputs through W_O, by domain and document fold."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from headprobe.align.batches import Chunk
from headprobe.model.heads import Layer
from headprobe.tally.statistic import Statistic, wide
from headprobe.tally.view import OutputView


class OutputStatistic(Statistic):
    """Sums and squares, from which the mean over all rows is removed exactly at the end:
    ``E||u - E u||^2 = E||u||^2 - ||E u||^2``."""

    def __init__(
        self, cells: int, layers: Sequence[Layer], heads: int, width: int, device: torch.device
    ) -> None:
        kind = wide(device)
        self._layers = layers
        self._rows = torch.zeros(cells, dtype=torch.int64, device=device)
        self._sum = torch.zeros(len(layers), cells, heads, width, dtype=kind, device=device)
        self._square = torch.zeros(len(layers), cells, heads, dtype=kind, device=device)
        self._residual = torch.zeros(len(layers), cells, dtype=kind, device=device)

    def add_output(self, view: OutputView) -> None:
        layer, kind = view.layer.index, self._sum.dtype
        cell, of_word = view.chunk.cell, view.chunk.cell[view.chunk.word_passage]
        self._sum[layer].index_add_(0, cell, view.passage_sum.to(kind))
        self._square[layer].index_add_(0, of_word, view.square.to(kind))
        self._residual[layer].index_add_(0, of_word, view.residual_square.to(kind))

    def finish(self, chunk: Chunk) -> None:
        of_word = chunk.cell[chunk.word_passage]
        self._rows.index_add_(0, of_word, torch.ones_like(of_word))

    def sums(self) -> Mapping[str, Tensor]:
        norm_maps = torch.stack([layer.norm_map for layer in self._layers]).to(self._sum.dtype)
        return {
            "output_rows": self._rows,
            "output_sum": torch.einsum("lchv,lhvu->clhu", self._sum, norm_maps),
            "output_square": self._square.transpose(0, 1),
            "residual_square": self._residual.transpose(0, 1),
        }
