"""Statistics: what is summed over the text about every head, layer by layer.

Each class derives from ``Statistic`` and fills some arrays of ``runs.sums``: ``ShapeStatistic``
where heads look by distance, ``PairStatistic`` attention by kind of word pair, ``WinnerStatistic``
and ``ExampleStatistic`` the strongest words of sampled rows, ``SketchStatistic`` the attention of a
few rows by which heads of different models are compared, ``OutputStatistic`` the size of head
outputs, and ``ColumnStatistic`` the keys that attract attention whatever the text.
``measure.relations`` and ``measure.similarity`` have the others.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from headprobe.batching.batches import Chunk
from headprobe.batching.layout import N_PAIR_KINDS
from headprobe.measure.layer_view import N_STRONGEST, LayerView, OutputView, select_rows
from headprobe.model.heads import Layer
from headprobe.vocabulary import (
    CATEGORIES,
    DEPREL_PAIRS,
    MAX_DISTANCE,
    QUADRANTS,
    SKETCH_WORDS,
)


class Statistic:
    """Reduces every layer of every chunk of passages to sums and keeps no attention weights.

    The collector calls ``begin``, then for each layer ``add`` once per batch and ``add_output``
    once, then ``finish``. Every method does nothing by default, so a subclass overrides
    only the steps that it needs.

    Sums are tensors that are updated in place. State that belongs to one chunk is created in
    ``begin``, so that copies of a statistic that share the sums can process several chunks
    concurrently.
    """

    def begin(self, chunk: Chunk) -> None:
        """Called before the first layer of a chunk."""

    def add(self, view: LayerView) -> None:
        """Add one layer's attention in one batch."""

    def add_output(self, view: OutputView) -> None:
        """Add one layer's head outputs in the whole chunk."""

    def finish(self, chunk: Chunk) -> None:
        """Called after the last layer of a chunk."""

    def sums(self) -> Mapping[str, Tensor]:
        """The arrays of ``runs.sums.AXES`` that this statistic fills."""
        return {}


def sum_dtype(device: torch.device) -> torch.dtype:
    """The dtype of sums: float64, or float32 on devices without float64 (MPS)."""
    return torch.float32 if device.type == "mps" else torch.float64


def state_tensors(of: object) -> dict[str, Tensor]:
    """The sums of a statistic (or of another observer): the tensors among its attributes, by name.

    Restoring these tensors is all that is needed to resume a measurement.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in vars(of).items():
        parts = value if isinstance(value, dict) else {"": value}
        tensors |= {
            f"{type(of).__name__}{name}.{key}": part
            for key, part in parts.items()
            if isinstance(part, Tensor)
        }
    return tensors


_OVER_ROWS = ("sink", "self", "previous", "entropy", "rows_stripped")
"""Sums over rows, in the order of ``LayerView.over_rows``."""

_SUMS = (*_OVER_ROWS, "distance", "punctuation")
"""The sums of ``ShapeStatistic``."""

_DISTANCE, _PUNCTUATION = _SUMS.index("distance"), _SUMS.index("punctuation")


class ShapeStatistic(Statistic):
    """Sums over the rows of usable words, and the profiles over word distance."""

    def __init__(self, layers: int, heads: int, device: torch.device) -> None:
        self._sums = torch.zeros(layers, len(_SUMS), heads, dtype=sum_dtype(device), device=device)
        self._profiles = torch.zeros(
            layers, 2, MAX_DISTANCE + 1, heads, dtype=sum_dtype(device), device=device
        )

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        by_distance, profile = view.by_distance, self._profiles[layer]
        exact = min(by_distance.shape[1], MAX_DISTANCE)
        profile[:, :exact].add_(by_distance[:, :exact])
        if by_distance.shape[1] > exact:
            profile[:, MAX_DISTANCE].add_(by_distance[:, exact:].sum(1))
        away = torch.arange(by_distance.shape[1], dtype=torch.float32, device=by_distance.device)
        sums = self._sums[layer]
        sums[: len(_OVER_ROWS)].add_(view.over_rows)
        sums[_DISTANCE].add_(away @ by_distance[0])
        sums[_PUNCTUATION].add_(batch.punctuation.flatten() @ view.columns[1].flatten(0, 1))

    def sums(self) -> Mapping[str, Tensor]:
        by_name = dict(zip(_SUMS, self._sums.unbind(1), strict=True))
        counted = by_name["rows_stripped"].round().to(torch.int64)
        profile, profile_norm = self._profiles[:, :, 1:].permute(1, 0, 3, 2)
        return {
            **by_name,
            "rows_stripped": counted,
            "profile": profile,
            "profile_norm": profile_norm,
        }


class PairStatistic(Statistic):
    """Sums over all pairs of a usable word and a usable earlier word (``vocabulary``)."""

    def __init__(self, layers: int, heads: int, device: torch.device) -> None:
        # all kinds of a head in one place, where additions go to and fro between them
        self._sums = torch.zeros(
            layers, heads, N_PAIR_KINDS, dtype=sum_dtype(device), device=device
        )

    def layer_sums(self, layer: int) -> Tensor:
        """The sums [H, KINDS] of a layer: the view adds to them in place."""
        return self._sums[layer]

    def add(self, view: LayerView) -> None:
        """Do nothing: the view adds its layer to ``layer_sums``."""

    def sums(self) -> Mapping[str, Tensor]:
        by_kind = self._sums.permute(2, 0, 1)
        return {
            "category": by_kind[:CATEGORIES],
            "deprel_pairs": by_kind[CATEGORIES:].unflatten(0, (QUADRANTS, DEPREL_PAIRS)),
        }


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
        self._winner[:, layer].index_copy_(0, row, select_rows(view.winner, batch.sampled) + 1)
        self._kept[:, layer].index_copy_(0, row, select_rows(view.kept, batch.sampled))

    def sums(self) -> Mapping[str, Tensor]:
        return {"sampled_winner": self._winner, "sampled_kept": self._kept}


class SketchStatistic(Statistic):
    """The stripped attention of the sketched rows to their nearest earlier words, in half
    precision. Each row is filled once, so parts of a run add."""

    def __init__(self, rows: int, layers: int, heads: int, device: torch.device) -> None:
        self._sketch = torch.zeros(
            layers, heads, rows * SKETCH_WORDS, dtype=torch.float16, device=device
        )

    def add(self, view: LayerView) -> None:
        place = view.batch.sketch_place
        if len(place):
            self._sketch[view.layer.index].index_copy_(1, place, view.sketch.half())

    def sums(self) -> Mapping[str, Tensor]:
        by_row = self._sketch.unflatten(2, (-1, SKETCH_WORDS))
        return {"sketch": by_row.permute(2, 0, 1, 3)}


class OutputStatistic(Statistic):
    """Sums and squares, from which the mean over all rows is removed exactly at the end:
    ``E||u - E u||^2 = E||u||^2 - ||E u||^2``."""

    def __init__(
        self, cells: int, layers: Sequence[Layer], heads: int, width: int, device: torch.device
    ) -> None:
        kind = sum_dtype(device)
        self._layers = layers
        self._rows = torch.zeros(cells, dtype=torch.int64, device=device)
        self._sum = torch.zeros(len(layers), cells, heads, width, dtype=kind, device=device)
        self._square = torch.zeros(len(layers), cells, heads, dtype=kind, device=device)
        self._residual = torch.zeros(len(layers), cells, dtype=kind, device=device)

    def add_output(self, view: OutputView) -> None:
        layer, kind = view.layer.index, self._sum.dtype
        cell, of_word = view.chunk.cell, view.chunk.cell[view.chunk.word_passage]
        self._sum[layer].index_add_(0, cell, view.passage_sum.to(kind))
        self._square[layer].index_add_(0, of_word, view.square.to(kind))
        self._residual[layer].index_add_(0, of_word, view.residual_square.to(kind))

    def finish(self, chunk: Chunk) -> None:
        of_word = chunk.cell[chunk.word_passage]
        self._rows.index_add_(0, of_word, torch.ones_like(of_word))

    def sums(self) -> Mapping[str, Tensor]:
        norm_maps = torch.stack([layer.norm_map for layer in self._layers]).to(self._sum.dtype)
        return {
            "output_rows": self._rows,
            "output_sum": torch.einsum("lchv,lhvu->clhu", self._sum, norm_maps),
            "output_square": self._square.transpose(0, 1),
            "residual_square": self._residual.transpose(0, 1),
        }


POSITIONS = 8
"""Number of positions after the start tokens that are counted one by one."""


class ColumnStatistic(Statistic):
    """The attention, averaged over the heads of a layer, that a key gets from later words' rows."""

    def __init__(self, tokens: int, layers: int, starts: int, device: torch.device) -> None:
        kind = sum_dtype(device)
        self._starts = starts
        self._token = torch.zeros(layers, tokens, dtype=kind, device=device)
        self._token_rows = torch.zeros(tokens, dtype=torch.int64, device=device)
        self._position = torch.zeros(layers, POSITIONS, dtype=kind, device=device)
        self._position_rows = torch.zeros(POSITIONS, dtype=torch.int64, device=device)

    def begin(self, chunk: Chunk) -> None:  # noqa: ARG002
        self._received: list[tuple[Tensor, Tensor]] = []

    def add(self, view: LayerView) -> None:
        self._received.append((view.batch.tile.key_places[:, :-1], view.attention_received))

    def add_output(self, view: OutputView) -> None:
        layer = view.layer.index
        self._add_columns(view.chunk, self._received, self._token[layer], self._position[layer])
        self._received = []

    def finish(self, chunk: Chunk) -> None:
        counts = [(batch.tile.key_places, batch.later_rows) for batch in chunk.batches]
        self._add_columns(chunk, counts, self._token_rows, self._position_rows)

    def sums(self) -> Mapping[str, Tensor]:
        return {
            "column_token": self._token,
            "column_token_rows": self._token_rows,
            "column_position": self._position,
            "column_position_rows": self._position_rows,
        }

    def _add_columns(
        self, chunk: Chunk, columns: list[tuple[Tensor, Tensor]], by_token: Tensor, by_place: Tensor
    ) -> None:
        """Add values [B, T] at places [B, T] of the text to sums by token [K] and by place [P].

        Keys that are no token have no value.
        """
        values = by_token.new_zeros(chunk.token_column.shape)
        for seen, of_keys in columns:
            values.index_add_(0, seen.flatten(), of_keys.flatten().to(values.dtype))
        place = chunk.flat.positions[0] - self._starts
        values *= place >= 0
        by_token.index_add_(0, chunk.token_column, values)
        near = place.clamp(0, POSITIONS - 1)
        by_place.index_add_(0, near, values * (place < POSITIONS))


class ExampleStatistic(Statistic):
    """The strongest earlier words of every example row, and the raw attention they get."""

    def __init__(self, rows: int, layers: int, heads: int, device: torch.device) -> None:
        shape = (rows, layers, heads, N_STRONGEST)
        # zero is "not seen yet", so that parts of a run add; the word index is moved by one
        self._word = torch.zeros(shape, dtype=torch.int16, device=device)
        self._weight = torch.zeros(shape, dtype=torch.float32, device=device)

    def add(self, view: LayerView) -> None:
        batch, layer = view.batch, view.layer.index
        if not len(batch.example):
            return
        share, word = view.strongest
        weight = share * select_rows(view.kept, batch.example)[..., None]
        found, most = torch.where(weight > 0, word + 1, 0).to(torch.int16), word.shape[-1]
        self._word[:, layer, :, :most].index_copy_(0, batch.example_row, found)
        self._weight[:, layer, :, :most].index_copy_(0, batch.example_row, weight)

    def sums(self) -> Mapping[str, Tensor]:
        return {"example_word": self._word, "example_weight": self._weight}
