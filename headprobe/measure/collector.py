"""All statistics of a run, fed layer by layer."""

from collections.abc import Iterable, Mapping
from copy import copy
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headprobe.batching.batches import Chunk
from headprobe.measure.layer_view import LayerView, OutputView
from headprobe.measure.numba_view import NumbaView
from headprobe.measure.relations import RelationStatistic
from headprobe.measure.similarity import SimilarityStatistic
from headprobe.measure.statistics import (
    POSITIONS,
    ColumnStatistic,
    ExampleStatistic,
    OutputStatistic,
    PairStatistic,
    ShapeStatistic,
    SketchStatistic,
    Statistic,
    WinnerStatistic,
)
from headprobe.measure.torch_view import TorchView
from headprobe.model.attention import TilePart
from headprobe.model.forward import PassObserver
from headprobe.model.heads import ObservedModel
from headprobe.runs.instances import Instances
from headprobe.runs.sketch import sketched_words
from headprobe.runs.sums import BY_ROW, Tallies

WEIGHTS_PER_THREAD = 1 << 18
"""Attention weights that a thread of a CPU processes at a time. With their scores and intermediate
results they should fit in its cache of some megabytes."""


class StatisticsCollector(PassObserver):
    """Observes a model's passes over the chunks of a run and adds everything up.

    ``seed`` is that of the random projection of outputs, ``idle_line`` that of docs/method.md.
    """

    def __init__(
        self,
        observed: ObservedModel,
        instances: Instances,
        distinct_tokens: int,
        starts: int,
        *,
        seed: int,
        idle_line: float,
    ) -> None:
        layers, heads, device = len(observed.layers), observed.n_heads, observed.device
        width = observed.layers[0].norm_map.shape[-1]
        self._observed = observed
        self._pairs = PairStatistic(layers, heads, device)
        self._statistics: tuple[Statistic, ...] = (
            RelationStatistic(
                int(instances.first_instance[-1]), len(instances.relations), layers, heads, device
            ),
            ShapeStatistic(layers, heads, device),
            self._pairs,
            WinnerStatistic(len(instances.sampled_words), layers, heads, device),
            OutputStatistic(len(instances.cells), observed.layers, heads, width, device),
            SimilarityStatistic(observed.layers, heads, idle_line, seed, device),
            ColumnStatistic(distinct_tokens, layers, starts, device),
            SketchStatistic(len(sketched_words(instances)), layers, heads, device),
            ExampleStatistic(len(instances.example_words), layers, heads, device),
        )
        self._use_numba = device.type == "cpu"
        self._chunk: Chunk | None = None
        self._view: NumbaView | None = None
        self._residual: dict[int, Tensor]

    @property
    def weights_per_call(self) -> int | None:
        """What fits in the caches of the threads (``model.attention.Observer``)."""
        return WEIGHTS_PER_THREAD * torch.get_num_threads() if self._use_numba else None

    @property
    def held_bytes(self) -> int:
        """Bytes of the sums and their buffers, whatever the number of passages."""
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
        """The statistics, the one of relations first."""
        return self._statistics

    def worker_copy(self) -> Self:
        """Return a collector for passes that run concurrently; it adds to the same sums.

        The caller lets only one pass at a time add a layer, or end.
        """
        other = copy(self)
        other._statistics = tuple(copy(statistic) for statistic in self._statistics)
        return other

    def begin(self, chunk: Chunk) -> None:
        """Prepare for the pass over this chunk."""
        self._chunk, self._view = chunk, None
        self._residual = {}
        # Twins of passages enter the first statistic only, which is that of relations
        self._active = self._statistics[:1] if chunk.twins else self._statistics
        for statistic in self._active:
            statistic.begin(chunk)

    def residual(self, layer: int, hidden: Tensor) -> None:
        """Keep the residual stream [1, N, E] that enters a layer."""
        self._residual[layer] = hidden

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        """Prepare for a layer, before it attends (``model.attention.Observer``)."""
        self._layer = self._observed.layers[self._observed.index_of(module)]
        self._value_norm = self._layer.value_norm(value)

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        """Add the attention of a part of a tile; the last part completes the batch."""
        batch = self._current_chunk.batches[number]
        if not batch.queries:
            return
        by_kind = self._pairs.layer_sums(self._layer.index)
        view: LayerView
        if self._use_numba:
            view = self._view or NumbaView(batch, self._layer, self._value_norm, by_kind)
            view.add_part(part, weights, scores)
            self._view = None if part.last else view
        else:
            view = TorchView(batch, self._layer, weights, scores, self._value_norm)
            view.add_by_kind(by_kind)
        if part.last:
            for statistic in self._active:
                statistic.add(view)

    def end_layer(self, module: nn.Module, output: Tensor) -> None:  # noqa: ARG002
        """Add the outputs of the layer's heads [N, H, V]."""
        residual = self._residual.pop(self._layer.index)
        view = OutputView(self._current_chunk, self._layer, output, residual)
        for statistic in self._active:
            statistic.add_output(view)

    def end(self) -> None:
        """Complete the sums of the chunk after its last layer."""
        for statistic in self._active:
            statistic.finish(self._current_chunk)
        self._chunk = None

    @property
    def _current_chunk(self) -> Chunk:
        if self._chunk is None:
            raise RuntimeError("a pass without its chunk")
        return self._chunk

    def collect(self, host_counts: Mapping[str, NDArray[np.generic]]) -> Tallies:
        """Return all sums so far as host arrays, with ``host_counts``, which need no model."""
        arrays: dict[str, NDArray[np.generic]] = dict(host_counts)
        for statistic in self._statistics:
            for name, tensor in statistic.sums().items():
                array = tensor.cpu().numpy()
                keep = array.dtype.kind in "iu" or name in BY_ROW
                arrays[name] = np.array(array if keep else array.astype(np.float64), order="C")
        return Tallies(arrays)


def count_profile_pairs(instances: Instances, longest: int) -> NDArray[np.int64]:
    """[D]: usable (query, earlier word) pairs of the run at each word distance."""
    pairs = np.zeros(longest, dtype=np.int64)
    edges = instances.passage_first[: instances.text_passages + 1]
    for start, stop in pairwise(edges):
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
    """Count the passages in which each token [K] and each position [P] of the text occurs.

    ``token_columns`` gives the tokens of each passage as indices on the axis K.
    """
    by_token, by_place = np.zeros(distinct, np.int64), np.zeros(POSITIONS, np.int64)
    for tokens in token_columns:
        by_token[np.unique(tokens[starts:])] += 1
        by_place[: len(tokens) - starts] += 1
    return {"column_token_passages": by_token, "column_position_passages": by_place}
