"""Heads that copy: where the rows of repeated random tokens look (METHOD section 5)."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headprobe.model.heads import HeadGrid
from headprobe.store.copying import LAGS
from headprobe.tally.statistic import wide
from headprobe.tally.view import LayerView


def repeat_tokens(
    start: NDArray[np.integer],
    token_numbers: NDArray[np.integer],
    context: int | None,
    seed: int,
) -> list[NDArray[np.int64]]:
    """For each of ``LAGS`` a sequence: the start tokens, a run of as many different tokens, drawn
    from ``token_numbers`` (start tokens excepted), and the run again. Empty where the model's
    context is too short or the different tokens are too few."""
    ordinary = np.setdiff1d(token_numbers, start)
    sequences = []
    for lag in LAGS:
        tokens: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        if lag <= len(ordinary) and (context is None or len(start) + 2 * lag <= context):
            run = np.random.default_rng([seed, lag]).choice(ordinary, lag, replace=False)
            tokens = np.concatenate([start, run, run]).astype(np.int64)
        sequences.append(tokens)
    return sequences


class CopyingObserver:
    """Observes passes over batches of ``repeat_tokens``.

    A hit is a target whose raw attention is strictly the largest among the earlier tokens of the
    sequence, start tokens excepted; ``mass`` is that attention. The target of the *duplicate* is
    the row's token in the first run, that of *induction* the token after it.
    """

    def __init__(self, grid: HeadGrid, starts: int) -> None:
        self._grid, self._starts = grid, starts
        self._rows = torch.zeros(len(LAGS), dtype=torch.int64, device=grid.device)
        shape = (len(grid.layers), len(LAGS), grid.n_heads)
        device, kind = grid.device, wide(grid.device)
        self._hits = {name: torch.zeros(shape, dtype=torch.int64, device=device) for name in _STEPS}
        self._mass = {name: torch.zeros(shape, dtype=kind, device=device) for name in _STEPS}

    def begin(self, sequences: NDArray[np.int64]) -> None:
        """The next pass is over these (numbers of ``LAGS``), one in each row of the batch."""
        lags = np.array([LAGS[number] for number in sequences])
        passage = np.repeat(np.arange(len(lags)), lags)
        step = np.arange(len(passage)) - np.repeat(np.cumsum(lags) - lags, lags)
        row = self._starts + lags[passage] + step
        asked = (passage, row, row - lags[passage], sequences[passage])
        self._passage, self._row, self._copy, self._sequence = (
            torch.from_numpy(array.astype(np.int64)).to(self._grid.device) for array in asked
        )
        self._rows.index_add_(0, self._sequence, torch.ones_like(self._sequence))

    def attended(self, module: nn.Module, weights: Tensor, value: Tensor, output: Tensor) -> None:  # noqa: ARG002
        """One layer has attended (``model.attention.Observer``)."""
        layer = self._grid.index_of(module)
        places = torch.arange(weights.shape[-1], device=weights.device)
        earlier = (places >= self._starts) & (places < self._row[:, None])
        rows = weights[self._passage, :, self._row] * earlier[:, None, :]
        winner = LayerView.winners(rows)
        for name, step in _STEPS.items():
            target = (self._copy + step)[:, None]
            mass = rows.gather(-1, target[..., None].expand(-1, rows.shape[1], 1)).squeeze(-1)
            sums = self._mass[name][layer]
            sums.index_add_(0, self._sequence, mass.to(sums.dtype))
            hits = (winner == target).to(torch.int64)
            self._hits[name][layer].index_add_(0, self._sequence, hits)

    def sums(self) -> Mapping[str, Tensor]:
        """The arrays of ``store.tallies.AXES`` that tell of copying."""
        hits = {f"{name}_hits": sums.transpose(0, 1) for name, sums in self._hits.items()}
        mass = {f"{name}_mass": sums.transpose(0, 1) for name, sums in self._mass.items()}
        return {"copy_rows": self._rows, **hits, **mass}


_STEPS = {"duplicate": 0, "induction": 1}
"""How far after the earlier copy of a row's token each target stands."""
