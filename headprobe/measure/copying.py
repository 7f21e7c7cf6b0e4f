"""Statistics for the copying roles: attention on repeated random tokens (docs/method.md, Roles).

Each sequence repeats a series of random tokens once. Series have different lengths, so that no
single distance explains many hits (``vocabulary.LAGS``).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headprobe.batching.layout import Block, on_device
from headprobe.measure.layer_view import winners
from headprobe.measure.statistics import sum_dtype
from headprobe.model.attention import Observer, TilePart
from headprobe.model.heads import ObservedModel
from headprobe.vocabulary import LAGS


def repeat_tokens(
    start: NDArray[np.integer],
    token_numbers: NDArray[np.integer],
    context: int | None,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Return one sequence of token ids per lag in ``LAGS``.

    A sequence is the start tokens ``start``, a series of ``lag`` different tokens, and the series
    again. The tokens are chosen with ``seed`` from the distinct ``token_numbers``, without start
    tokens. A sequence is empty if it would exceed the model's ``context``, or if there are too few
    tokens.
    """
    ordinary = np.setdiff1d(token_numbers, start)
    sequences = []
    for lag in LAGS:
        tokens: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        if lag <= len(ordinary) and (context is None or len(start) + 2 * lag <= context):
            series = np.random.default_rng([seed, lag]).choice(ordinary, lag, replace=False)
            tokens = np.concatenate([start, series, series]).astype(np.int64)
        sequences.append(tokens)
    return sequences


class CopyingObserver(Observer):
    """Observes passes over the sequences of ``repeat_tokens``.

    Rows are the tokens of the second series. The target of the *duplicate-token* role is the same
    token in the first series, and that of *induction* the token after it. A hit is a row whose
    target gets strictly more raw attention than every other earlier token, start tokens excepted;
    ``mass`` is the attention to the target.
    """

    def __init__(self, observed: ObservedModel, starts: int) -> None:
        self._observed, self._starts = observed, starts
        self._rows = torch.zeros(len(LAGS), dtype=torch.int64, device=observed.device)
        shape = (len(observed.layers), len(LAGS), observed.n_heads)
        device, kind = observed.device, sum_dtype(observed.device)
        self._hits = {name: torch.zeros(shape, dtype=torch.int64, device=device) for name in _STEPS}
        self._mass = {name: torch.zeros(shape, dtype=kind, device=device) for name in _STEPS}

    def begin(self, blocks: Sequence[Block]) -> None:
        """Called before a pass; the passages of ``blocks`` are indices into ``LAGS``."""
        self._rows_of_blocks = [self._index_rows(block) for block in blocks]

    def _index_rows(self, block: Block) -> tuple[Tensor, ...]:
        """Return the rows of second runs in a block, as four index vectors [N]: the passage of the
        block, the row of the block, the index of the earlier copy, and the index into ``LAGS``.
        The rows are counted."""
        lags = np.array([LAGS[number] for number in block.passages])
        passage = np.repeat(np.arange(len(lags)), lags)
        step = np.arange(len(passage)) - np.repeat(np.cumsum(lags) - lags, lags)
        row = self._starts + lags[passage] + step
        arrays = (passage, row - block.first, row - lags[passage], block.passages[passage])
        inside = (block.first <= row) & (row < block.stop)
        tensors = tuple(on_device(array[inside], self._observed.device) for array in arrays)
        self._rows.index_add_(0, tensors[-1], torch.ones_like(tensors[-1]))
        return tensors

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:  # noqa: ARG002
        """Called before a layer attends (``Observer``)."""
        self._layer = self._observed.index_of(module)

    def attended(
        self,
        number: int,
        part: TilePart,  # noqa: ARG002
        weights: Tensor,
        scores: Tensor,  # noqa: ARG002
    ) -> None:
        """Receive the attention of a whole tile, whose rows and keys are in the order of the
        sequence (``Observer``)."""
        passage, row, copy, sequence = self._rows_of_blocks[number]
        keys = weights.shape[2] - 1  # without the null key
        places = torch.arange(keys, device=weights.device)
        first = keys - weights.shape[4]  # the index of the block's first row in the sequence
        earlier = (places >= self._starts) & (places < first + row[:, None])
        selected = weights[:, :, :keys].permute(0, 4, 2, 1, 3)[passage, row].flatten(2)
        rows = selected * earlier[:, :, None]  # [N, T - 1, H]
        winner = winners(rows)
        for name, step in _STEPS.items():
            target = (copy + step)[:, None]
            mass = rows[torch.arange(len(rows), device=rows.device), target[:, 0]]
            sums = self._mass[name][self._layer]
            sums.index_add_(0, sequence, mass.to(sums.dtype))
            hits = (winner == target).to(torch.int64)
            self._hits[name][self._layer].index_add_(0, sequence, hits)

    def sums(self) -> Mapping[str, Tensor]:
        """The copying arrays of ``runs.sums.AXES``."""
        hits = {f"{name}_hits": sums.transpose(0, 1) for name, sums in self._hits.items()}
        mass = {f"{name}_mass": sums.transpose(0, 1) for name, sums in self._mass.items()}
        return {"copy_rows": self._rows, **hits, **mass}


_STEPS = {"duplicate": 0, "induction": 1}
"""Number of tokens from the earlier copy of a row's token to each target."""
