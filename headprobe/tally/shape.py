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
        self._sums = {
            name: torch.zeros(layers, heads, dtype=wide(device), device=device) for name in _MEANS
        }
        profile = (layers, heads, LONGEST)
        self._profiles = {
            name: torch.zeros(profile, dtype=wide(device), device=device)
            for name in ("profile", "profile_norm")
        }

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        by_distance = _sum_by_distance(view.shares, wide(view.shares.device))
        exact = min(by_distance.shape[-1] - 1, LONGEST)
        for profile, of_kind in zip(self._profiles.values(), by_distance, strict=True):
            profile[layer, :, :exact] += of_kind[:, 1 : exact + 1]
            profile[layer, :, -1] += of_kind[:, exact + 1 :].sum(-1)
        distances = torch.arange(by_distance.shape[-1], device=by_distance.device)
        per_row = torch.stack(
            [
                view.token_rows[..., : batch.starts].sum(-1),
                view.to_self.transpose(1, 2),
                view.entropy,
                view.kept > 0,
            ]
        ).sum((1, 2), dtype=by_distance.dtype)
        on_marks = view.columns[1] * batch.marks[:, None]
        sums = {
            **dict(zip(("sink", "self", "entropy", "rows_stripped"), per_row, strict=True)),
            "previous": view.to_previous.sum((0, 2), dtype=by_distance.dtype),
            "distance": (by_distance[0] * distances).sum(-1),
            "punctuation": on_marks.sum((0, 2), dtype=by_distance.dtype),
        }
        for name, of_layer in sums.items():
            self._sums[name][layer] += of_layer

    def sums(self) -> Mapping[str, Tensor]:
        counted = self._sums["rows_stripped"].round().to(torch.int64)
        return {**self._sums, **self._profiles, "rows_stripped": counted}


def _sum_by_distance(shares: Tensor, dtype: torch.dtype) -> Tensor:
    """[2, H, W']: ``shares`` [2, B, W, H, W'] summed by the distance from the row's word, the last
    W of W', to the column's.

    The rows, summed over passages, are written into a buffer W - 1 columns wider, in which a view
    with a row stride one larger turns diagonals into columns.
    """
    rows = shares.sum(1)
    kinds, words, heads, keys = rows.shape
    buffer = rows.new_zeros(kinds, words, heads, keys + words - 1)
    buffer[..., words - 1 :] = rows
    of_kind, of_row, of_head, _ = buffer.stride()
    skewed = buffer.as_strided((kinds, words, heads, keys), (of_kind, of_row + 1, of_head, 1))
    return skewed.sum(1, dtype=dtype).flip(-1)
