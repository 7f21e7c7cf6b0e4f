"""Where heads look in the rows that are kept to be read."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.tally.statistic import Statistic
from headprobe.tally.view import STRONGEST, LayerView, at


class ExampleStatistic(Statistic):
    """The strongest earlier words of every example row, and the raw attention they get."""

    def __init__(self, rows: int, layers: int, heads: int, device: torch.device) -> None:
        shape = (rows, layers, heads, STRONGEST)
        # zero is "not seen yet", so that parts of a run add; the word index is moved by one
        self._word = torch.zeros(shape, dtype=torch.int16, device=device)
        self._weight = torch.zeros(shape, dtype=torch.float32, device=device)

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        if not len(batch.example):
            return
        share, word = view.strongest
        weight = share * at(view.kept, batch.example)[..., None]
        found, most = torch.where(weight > 0, word + 1, 0).to(torch.int16), word.shape[-1]
        self._word[:, layer, :, :most].index_copy_(0, batch.example_row, found)
        self._weight[:, layer, :, :most].index_copy_(0, batch.example_row, weight)

    def sums(self) -> Mapping[str, Tensor]:
        return {"example_word": self._word, "example_weight": self._weight}
