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
        by_distance = _sum_by_distance(view.shares).to(self._profiles.dtype)
        exact = min(by_distance.shape[1], LONGEST)
        self._profiles[layer, :, :exact] += by_distance[:, :exact]
        self._profiles[layer, :, LONGEST] += by_distance[:, exact:].sum(1)
        away = torch.arange(by_distance.shape[1], device=by_distance.device)
        on_marks = view.columns[1] * batch.marks[:, None]
        self._sums[layer] += torch.stack(
            [
                view.token_rows[..., : batch.starts].sum((0, 1, 3)),
                view.to_self.sum((0, 2)),
                view.to_previous.sum((0, 2)),
                view.entropy.sum((0, 1)),
                away.to(by_distance.dtype) @ by_distance[0],
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


def _sum_by_distance(shares: Tensor) -> Tensor:
    """[2, W', H]: ``shares`` [2, B, W, H, W'] summed by the distance from the row's word (the last
    W of W') back to the column's.

    The rows, summed over passages, are written into a buffer W - 1 columns wider, in which a view
    with a row stride one larger turns diagonals into columns.
    """
    rows = shares.sum(1)
    kinds, words, heads, earlier = rows.shape
    buffer = torch.zeros(kinds, words, heads, earlier + words - 1, device=rows.device)
    buffer[..., words - 1 :] = rows
    of_kind, of_row, of_head, _ = buffer.stride()
    skewed = buffer.as_strided((kinds, words, heads, earlier), (of_kind, of_row + 1, of_head, 1))
    return skewed.sum(1).flip(-1).transpose(1, 2)
