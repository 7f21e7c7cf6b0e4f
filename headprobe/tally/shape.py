"""How heads attend, whatever they look for: distances, sinks, spread."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.axes import LONGEST
from headprobe.tally.statistic import Statistic, wide
from headprobe.tally.view import LayerView

_MEANS = ("sink", "self", "previous", "entropy", "rows_stripped", "distance", "punctuation")


class ShapeStatistic(Statistic):
    """Sums over the rows of usable words, and the profiles over word distance."""

    def __init__(self, layers: int, heads: int, device: torch.device) -> None:
        self._sums = torch.zeros(layers, len(_MEANS), heads, dtype=wide(device), device=device)
        self._profiles = torch.zeros(
            layers, 2, LONGEST + 1, heads, dtype=wide(device), device=device
        )

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        by_distance, profile = view.by_distance, self._profiles[layer]
        exact = min(by_distance.shape[1], LONGEST)
        profile[:, :exact].add_(by_distance[:, :exact])
        if by_distance.shape[1] > exact:
            profile[:, LONGEST].add_(by_distance[:, exact:].sum(1))
        away = torch.arange(by_distance.shape[1], dtype=torch.float32, device=by_distance.device)
        sums = self._sums[layer]
        sums[:5].add_(view.over_rows)
        sums[5].add_(away @ by_distance[0])
        sums[6].add_(batch.marks.flatten() @ view.columns[1].flatten(0, 1))

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
