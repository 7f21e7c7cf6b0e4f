"""Keys that attract attention whatever the text: column weights by token id and by position."""

from collections.abc import Mapping

import torch
from torch import Tensor

from headprobe.align.batches import Chunk
from headprobe.tally.statistic import Statistic, wide
from headprobe.tally.view import LayerView, OutputView

POSITIONS = 8
"""The positions after the start tokens that are looked at by themselves."""


class ColumnStatistic(Statistic):
    """The attention, averaged over the heads of a layer, that a key gets from later words' rows."""

    def __init__(self, tokens: int, layers: int, starts: int, device: torch.device) -> None:
        kind = wide(device)
        self._starts = starts
        self._token = torch.zeros(layers, tokens, dtype=kind, device=device)
        self._token_rows = torch.zeros(tokens, dtype=torch.int64, device=device)
        self._position = torch.zeros(layers, POSITIONS, dtype=kind, device=device)
        self._position_rows = torch.zeros(POSITIONS, dtype=torch.int64, device=device)

    def begin(self, chunk: Chunk) -> None:  # noqa: ARG002
        self._drawn: list[tuple[Tensor, Tensor]] = []

    def add(self, view: LayerView) -> None:
        self._drawn.append((view.batch.rectangle.seen[:, :-1], view.drawn))

    def add_output(self, view: OutputView) -> None:
        layer = view.layer.index
        self._spread(view.chunk, self._drawn, self._token[layer], self._position[layer])
        self._drawn = []

    def finish(self, chunk: Chunk) -> None:
        counts = [(batch.rectangle.seen, batch.later_rows) for batch in chunk.batches]
        self._spread(chunk, counts, self._token_rows, self._position_rows)

    def sums(self) -> Mapping[str, Tensor]:
        return {
            "column_token": self._token,
            "column_token_rows": self._token_rows,
            "column_position": self._position,
            "column_position_rows": self._position_rows,
        }

    def _spread(
        self, chunk: Chunk, drawn: list[tuple[Tensor, Tensor]], by_token: Tensor, by_place: Tensor
    ) -> None:
        """Add values [B, T] at places [B, T] of the text to sums by token [K] and by place [P].

        Keys that are no token draw nothing.
        """
        values = by_token.new_zeros(chunk.token_column.shape)
        for seen, of_keys in drawn:
            values.index_add_(0, seen.flatten(), of_keys.flatten().to(values.dtype))
        place = chunk.flat.positions[0] - self._starts
        values *= place >= 0
        by_token.index_add_(0, chunk.token_column, values)
        near = place.clamp(0, POSITIONS - 1)
        by_place.index_add_(0, near, values * (place < POSITIONS))
