"""The one word that each sampled row attends to most, and how much is left for such words."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.tally.statistic import Statistic
from headprobe.tally.view import LayerView, at


class WinnerStatistic(Statistic):
    """For every sampled row the winner among the earlier words of its passage, and their sum."""

    def __init__(self, rows: int, layers: int, heads: int, device: torch.device) -> None:
        # zero is "none" and "not seen yet", so that parts of a run add; words are counted from one
        self._winner = torch.zeros(rows, layers, heads, dtype=torch.int32, device=device)
        self._kept = torch.zeros(rows, layers, heads, dtype=torch.float32, device=device)

    def add(self, view: LayerView) -> None:
        batch = view.batch
        if not len(batch.sampled):
            return
        layer, row = view.layer.index, batch.sampled_row
        self._winner[:, layer].index_copy_(0, row, at(view.winner, batch.sampled) + 1)
        self._kept[:, layer].index_copy_(0, row, at(view.kept, batch.sampled))

    def sums(self) -> Mapping[str, Tensor]:
        return {"sampled_winner": self._winner, "sampled_kept": self._kept}
