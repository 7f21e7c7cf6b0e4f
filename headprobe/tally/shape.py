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
        on_marks = view.columns[1] * batch.marks[..., None]
        self._sums[layer] += torch.stack(
            [
                view.sink.sum((0, 2)),
                view.to_self.sum((0, 2)),
                view.to_previous.sum((0, 2)),
                view.entropy.sum((0, 2)),
                away.to(by_distance.dtype) @ by_distance[0],
                on_marks.sum((0, 1)),
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
    """[2, D, H]: ``shares`` [2, B, G, W', S, W] summed by the distance from the row's word (the
    last W of W') back to the column's.

    The columns are cut into squares of W, from the last, and written into lines of 2 W - 1 with
    W - 1 zeros before; a view with a line stride one larger turns diagonals into columns.
    """
    of_passages = shares.sum(1) if shares.shape[1] > 1 else shares[:, 0]
    of_pairs = of_passages.transpose(2, 3)
    kinds, groups, shared, words, queries = of_pairs.shape
    squares = -(-words // queries)
    line = 2 * queries - 1
    lines = squares * queries
    buffer = torch.zeros(kinds, groups, shared, lines * line + queries, device=shares.device)
    square = buffer[..., : lines * line].unflatten(-1, (lines, line))
    square[..., lines - words :, queries - 1 :] = of_pairs
    heads = buffer.shape[:3]
    skewed = buffer.as_strided(
        (*heads, squares, queries, line), (*buffer.stride()[:3], queries * line, line + 1, 1)
    )
    by_square = skewed.sum(4).flip(3)
    # of a square the lines tell distances from 1 - W to W - 1; W more for each square further back
    found = by_square[..., queries - 1 :].contiguous()
    found[..., :-1, 1:] += by_square[..., 1:, : queries - 1]
    return found.flatten(3).flatten(1, 2).transpose(1, 2)
