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
        by_pair = view.shares.sum(1).permute(0, 3, 1, 2).flatten(1, 2)
        away, kind = batch.distance, self._profiles.dtype
        self._profiles[layer].index_add_(1, away.clamp(max=LONGEST), by_pair.to(kind))
        on_marks = view.columns[1] * batch.marks[:, None]
        self._sums[layer] += torch.stack(
            [
                view.token_rows[..., : batch.starts].sum((0, 1, 3)),
                view.to_self.sum((0, 2)),
                view.to_previous.sum((0, 2)),
                view.entropy.sum((0, 1)),
                away.to(by_pair.dtype) @ by_pair[0],
                on_marks.sum((0, 2)),
                (view.kept > 0).sum((0, 1)),
            ]
        )

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
