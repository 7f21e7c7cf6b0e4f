"""Keys that attract attention whatever the text: column weights by token id and by position."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.align.batches import AlignedBatch
from headprobe.tally.statistic import wide
from headprobe.tally.view import LayerView

POSITIONS = 8
"""The positions after the start tokens that are looked at by themselves."""


class ColumnStatistic:
    """The attention, averaged over the heads of a layer, that a key gets from later words' rows."""

    def __init__(self, tokens: int, layers: int, device: torch.device) -> None:
        kind = wide(device)
        self._token = torch.zeros(layers, tokens, dtype=kind, device=device)
        self._token_rows = torch.zeros(tokens, dtype=torch.int64, device=device)
        self._position = torch.zeros(layers, POSITIONS, dtype=kind, device=device)
        self._position_rows = torch.zeros(POSITIONS, dtype=torch.int64, device=device)

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        drawn = (view.token_rows.mean(2) * batch.later_rows).sum(1) * batch.real
        _add_columns(batch, drawn, self._token[layer], self._position[layer])

    def finish(self, batch: AlignedBatch) -> None:
        counts = batch.later_rows.sum(1) * batch.real
        _add_columns(batch, counts, self._token_rows, self._position_rows)

    def sums(self) -> Mapping[str, Tensor]:
        return {
            "column_token": self._token,
            "column_token_rows": self._token_rows,
            "column_position": self._position,
            "column_position_rows": self._position_rows,
        }


def _add_columns(batch: AlignedBatch, values: Tensor, by_token: Tensor, by_place: Tensor) -> None:
    """Add values [B, T] of the text's tokens to sums by token [K] and by place in the text [P]."""
    text = values[:, batch.starts :].to(by_token.dtype)
    by_token.index_add_(0, batch.token_column[:, batch.starts :].flatten(), text.flatten())
    first = text[:, :POSITIONS].sum(0)
    by_place[: len(first)] += first
