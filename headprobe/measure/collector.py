"""All statistics of a run, fed layer by layer."""

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headprobe.batching.batches import Chunk
from headprobe.measure.layer_view import LayerView, OutputView
from headprobe.measure.numba_view import SweptView
from headprobe.measure.relations import RelationStatistic
from headprobe.measure.similarity import LikenessStatistic
from headprobe.measure.statistics import (
    POSITIONS,
    ColumnStatistic,
    ExampleStatistic,
    OutputStatistic,
    PairStatistic,
    ShapeStatistic,
    Statistic,
    WinnerStatistic,
)
from headprobe.measure.torch_view import TensorView
from headprobe.model.attention import Part
from headprobe.model.forward import PassObserver
from headprobe.model.heads import HeadGrid
from headprobe.runs.instances import Instances
from headprobe.runs.sums import Tallies

AT_ONCE = 1 << 18
"""Attention weights that a thread of a CPU goes over at a time: with their scores, and what is made
of them, they shall lie in its cache of some megabytes."""

_NARROW = frozenset({"example_weight", "sampled_kept"})
"""Arrays by row, which are kept in float32."""


class Tallier(PassObserver):
    """Observes a model's passes over the chunks of a run and adds everything up.

    ``seed`` is that of the random projection of outputs, ``idle_line`` that of METHOD section 5.
    """

    def __init__(
        self,
        grid: HeadGrid,
        instances: Instances,
        distinct_tokens: int,
        starts: int,
        *,
        seed: int,
        idle_line: float,
    ) -> None:
        layers, heads, device = len(grid.layers), grid.n_heads, grid.device
        width = grid.layers[0].norm_map.shape[-1]
        self._grid = grid
        self._pairs = PairStatistic(layers, heads, device)
        self._statistics: tuple[Statistic, ...] = (
            RelationStatistic(
                len(instances.relations), len(instances.domains), layers, heads, device
            ),
            ShapeStatistic(layers, heads, device),
            self._pairs,
            WinnerStatistic(len(instances.sampled_words), layers, heads, device),
            OutputStatistic(len(instances.cells), grid.layers, heads, width, device),
            LikenessStatistic(grid.layers, heads, idle_line, seed, device),
            ColumnStatistic(distinct_tokens, layers, starts, device),
            ExampleStatistic(len(instances.example_words), layers, heads, device),
        )
        self._swept = device.type == "cpu"
        self._chunk: Chunk | None = None
        self._view: SweptView | None = None
        self._residual: dict[int, Tensor]

    @property
    def at_once(self) -> int | None:
        """What fits in the caches of the threads (``model.attention.Observer``)."""
        return AT_ONCE * torch.get_num_threads() if self._swept else None

    @property
    def held(self) -> int:
        """Bytes of the sums and of what they are worked out with, however many passages pass."""
        tensors = {
            id(part): part
            for statistic in self._statistics
            for value in vars(statistic).values()
            for part in (value if isinstance(value, list) else [value])
            if isinstance(part, Tensor)
        }
        return sum(tensor.nbytes for tensor in tensors.values())

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """Whatever adds up."""
        return self._statistics

    def beside(self) -> Self:
        """One more, for passes that run beside those of this one: it adds to the same sums. Who
        adds when is the caller's care: a layer, or the end, of one pass at a time."""
        other = copy(self)
        other._statistics = tuple(copy(statistic) for statistic in self._statistics)
        return other

    def begin(self, chunk: Chunk) -> None:
        """The next pass is over this chunk."""
        self._chunk, self._view = chunk, None
        self._residual = {}
        for statistic in self._statistics:
            statistic.begin(chunk)

    def residual(self, layer: int, hidden: Tensor) -> None:
        """The residual stream [1, N, E] that enters a layer."""
        self._residual[layer] = hidden

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        """A layer is about to attend (``model.attention.Observer``)."""
        self._layer = self._grid.layers[self._grid.index_of(module)]
        self._loudness = self._layer.loudness(value)

    def attended(self, number: int, part: Part, weights: Tensor, scores: Tensor) -> None:
        """A part of a rectangle has attended."""
        batch = self._running.batches[number]
        if not batch.queries:
            return
        by_kind = self._pairs.of(self._layer.index)
        view: LayerView
        if self._swept:
            view = self._view or SweptView(batch, self._layer, self._loudness, by_kind)
            view.take(part, weights, scores)
            self._view = None if part.last else view
        else:
            view = TensorView(batch, self._layer, weights, scores, self._loudness)
            view.add_by_kind(by_kind)
        if part.last:
            for statistic in self._statistics:
                statistic.add(view)

    def end_layer(self, module: nn.Module, output: Tensor) -> None:  # noqa: ARG002
        """The layer has attended."""
        residual = self._residual.pop(self._layer.index)
        view = OutputView(self._running, self._layer, output, residual)
        for statistic in self._statistics:
            statistic.add_output(view)

    def end(self) -> None:
        """The pass over the chunk is over."""
        for statistic in self._statistics:
            statistic.finish(self._running)
        self._chunk = None

    @property
    def _running(self) -> Chunk:
        if self._chunk is None:
            raise RuntimeError("a pass without its chunk")
        return self._chunk

    def tallies(self, beside: Mapping[str, NDArray[np.generic]]) -> Tallies:
        """Everything added up so far, as host arrays, with what was counted without the model."""
        arrays: dict[str, NDArray[np.generic]] = dict(beside)
        for statistic in self._statistics:
            for name, tensor in statistic.sums().items():
                array = tensor.cpu().numpy()
                keep = array.dtype.kind == "i" or name in _NARROW
                arrays[name] = np.array(array if keep else array.astype(np.float64), order="C")
        return Tallies(arrays)


def count_profile_pairs(instances: Instances, longest: int) -> NDArray[np.int64]:
    """[D]: usable (query, earlier word) pairs of the run at each word distance."""
    pairs = np.zeros(longest, dtype=np.int64)
    for start, stop in zip(instances.passage_first, instances.passage_first[1:], strict=False):
        usable = instances.usable[start:stop].astype(np.float64)
        if len(usable) < 2:
            continue
        at_distance = np.rint(np.correlate(usable, usable, "full")[len(usable) :]).astype(np.int64)
        exact = at_distance[:longest]
        pairs[: len(exact)] += exact
        pairs[-1] += at_distance[longest:].sum()
    return pairs


def count_column_passages(
    token_columns: Iterable[NDArray[np.integer]], starts: int, distinct: int
) -> dict[str, NDArray[np.int64]]:
    """In how many passages each token [K] and each position [P] of the text occurs;
    ``token_columns`` gives each passage's tokens as places in K."""
    by_token, by_place = np.zeros(distinct, np.int64), np.zeros(POSITIONS, np.int64)
    for tokens in token_columns:
        by_token[np.unique(tokens[starts:])] += 1
        by_place[: len(tokens) - starts] += 1
    return {"column_token_passages": by_token, "column_position_passages": by_place}
