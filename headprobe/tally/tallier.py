"""All statistics of a run, fed layer by layer."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from headprobe.align.batches import AlignedBatch
from headprobe.model.heads import HeadGrid
from headprobe.store.instances import Instances
from headprobe.store.tallies import Tallies
from headprobe.tally.columns import POSITIONS, ColumnStatistic
from headprobe.tally.examples import ExampleStatistic
from headprobe.tally.likeness import LikenessStatistic
from headprobe.tally.outputs import OutputStatistic
from headprobe.tally.pairs import PairStatistic
from headprobe.tally.relation import RelationStatistic
from headprobe.tally.shape import ShapeStatistic
from headprobe.tally.statistic import Statistic
from headprobe.tally.view import LayerView
from headprobe.tally.winners import WinnerStatistic

_NARROW = frozenset({"example_weight", "sampled_kept"})
"""Arrays by row, which are kept in float32."""


class Tallier:
    """Observes a model's passes over the batches of a run and adds everything up.

    ``seed`` is that of the random projection of outputs, ``idle_line`` that of METHOD section 5.
    """

    def __init__(
        self,
        grid: HeadGrid,
        instances: Instances,
        distinct_tokens: int,
        *,
        seed: int,
        idle_line: float,
    ) -> None:
        layers, heads, device = len(grid.layers), grid.n_heads, grid.device
        width = grid.layers[0].norm_map.shape[-1]
        self._grid = grid
        self._statistics: tuple[Statistic, ...] = (
            RelationStatistic(
                len(instances.relations), len(instances.domains), layers, heads, device
            ),
            ShapeStatistic(layers, heads, device),
            PairStatistic(layers, heads, device),
            WinnerStatistic(len(instances.sampled_words), layers, heads, device),
            OutputStatistic(len(instances.cells), layers, heads, width, device),
            LikenessStatistic(grid.layers, heads, idle_line, seed, device),
            ColumnStatistic(distinct_tokens, layers, device),
            ExampleStatistic(len(instances.example_words), layers, heads, device),
        )
        self._batch: AlignedBatch | None = None
        self._residual: dict[int, Tensor] = {}

    def begin(self, batch: AlignedBatch) -> None:
        """The next pass is over this batch."""
        self._batch = batch

    def residual(self, layer: int, hidden: Tensor) -> None:
        """The residual stream [B, T, E] that enters a layer."""
        self._residual[layer] = hidden

    def attended(self, module: nn.Module, weights: Tensor, value: Tensor, output: Tensor) -> None:
        """One layer has attended (``model.attention.Observer``)."""
        if self._batch is None:
            raise RuntimeError("a pass began without its batch")
        layer = self._grid.index_of(module)
        view = LayerView(
            self._batch,
            self._grid.layers[layer],
            weights,
            value,
            output,
            self._residual.pop(layer),
        )
        for statistic in self._statistics:
            statistic.add(view)

    def end(self) -> None:
        """The pass over the batch is over."""
        if self._batch is None:
            raise RuntimeError("a pass ended that never began")
        for statistic in self._statistics:
            statistic.finish(self._batch)
        self._batch = None

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
