"""How heads attend, whatever they look for: distances, sinks, spread."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.axes import LONGEST
from headprobe.tally.statistic import BatchStatistic, wide
from headprobe.tally.view import LayerView

_MEANS = ("sink", "self", "previous", "entropy", "rows_stripped", "distance", "punctuation")


class ShapeStatistic(BatchStatistic):
    """Sums over the rows of usable words, and the profiles over word distance."""

    def __init__(self, layers: int, heads: int, device: torch.device) -> None:
        self._sums = torch.zeros(layers, len(_MEANS), heads, dtype=wide(device), device=device)
        self._profiles = torch.zeros(
            layers, 2, LONGEST + 1, heads, dtype=wide(device), device=device
        )

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        by_distance = view.by_distance
        exact = min(by_distance.shape[1], LONGEST)
        self._profiles[layer, :, :exact] += by_distance[:, :exact]
        self._profiles[layer, :, LONGEST] += by_distance[:, exact:].sum(1)
        away = torch.arange(by_distance.shape[1], dtype=torch.float32, device=by_distance.device)
        on_marks = batch.marks.flatten() @ view.columns[1].flatten(0, 1)
        self._sums[layer, :5] += view.over_rows
        self._sums[layer, 5:] += torch.stack([away @ by_distance[0], on_marks])

    def sums(self) -> Mapping[str, Tensor]:
        by_name = dict(zip(_MEANS, self._sums.unbind(1), strict=True))
        counted = by_name["rows_stripped"].round().to(torch.int64)
        profile, profile_norm = self._profiles[:, :, 1:].permute(1, 0, 3, 2)
        return {
            **by_name,
            "rows_stripped": counted,
            "profile": profile,
            "profile_norm": profile_norm,
        }
