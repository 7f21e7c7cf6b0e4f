"""How heads attend, whatever they look for: distances, sinks, spread."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.axes import LONGEST
from headprobe.tally.statistic import BatchStatistic, wide
from headprobe.tally.view import LayerView

_MEANS = ("sink", "self", "previous", "entropy", "distance", "punctuation", "rows_stripped")


class ShapeStatistic(BatchStatistic):
    """Sums over the rows of usable words, and the profiles over word distance."""

    def __init__(self, layers: int, heads: int, device: torch.device) -> None:
        self._sums = torch.zeros(layers, len(_MEANS), heads, dtype=wide(device), device=device)
        self._profiles = torch.zeros(
            layers, 2, LONGEST + 1, heads, dtype=wide(device), device=device
        )

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        by_distance = view.by_distance.to(self._profiles.dtype)
        exact = min(by_distance.shape[1], LONGEST)
        self._profiles[layer, :, :exact] += by_distance[:, :exact]
        self._profiles[layer, :, LONGEST] += by_distance[:, exact:].sum(1)
        away = torch.arange(by_distance.shape[1], device=by_distance.device)
        on_marks = view.columns[1] * batch.marks[..., None]
        beside = [
            away.to(by_distance.dtype) @ by_distance[0],
            on_marks.sum((0, 1)),
            (view.kept > 0).sum((0, 1)),
        ]
        self._sums[layer] += torch.cat([view.over_rows, torch.stack(beside)])

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
