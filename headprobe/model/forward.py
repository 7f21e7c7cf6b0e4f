"""Passes of the model over tokens that lie flat."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from headprobe.align.batches import Batcher, Chunk
from headprobe.align.flat import Block, Flat
from headprobe.model.attention import Finished, Observer, Pass
from headprobe.model.heads import HeadGrid

ROWS = 16
"""Rows of logits that are read at once, so that a large vocabulary stays in a CPU's cache."""


class PassObserver(Observer, Protocol):
    """An observer that is told of chunks too."""

    def begin(self, chunk: Chunk) -> None: ...
    def residual(self, layer: int, hidden: Tensor) -> None: ...
    def end(self) -> None: ...


def run_chunks(
    grid: HeadGrid,
    batcher: Batcher,
    plan: Sequence[Sequence[Block]],
    observer: PassObserver,
    advance: Callable[[Chunk], None],
    *,
    score: bool = False,
) -> float:
    """One pass over each chunk; the observer sees every layer.

    The pass ends after the last layer's attention; with ``score`` it goes on to the logits, and
    the bits that the model needs for the text's tokens, start tokens given, are returned (else 0).
    """
    bits = 0.0
    with torch.inference_mode(), grid.residuals(observer.residual):
        for blocks in plan:
            chunk = batcher.build(blocks)
            observer.begin(chunk)
            if score:
                logits = run_flat(grid.model, chunk.flat, observer, None).logits
                bits += _bits(logits[0], chunk.flat, batcher.starts)
            else:
                observe_flat(grid, chunk.flat, observer)
            observer.end()
            advance(chunk)
    return bits


def observe_flat(grid: HeadGrid, flat: Flat, observer: Observer) -> None:
    """One pass of the base model, up to the last layer's attention."""
    with torch.inference_mode(), suppress(Finished):
        run_flat(grid.model.base_model, flat, observer, grid.layers[-1].module)


def run_flat(model: nn.Module, flat: Flat, observer: Observer, last: nn.Module | None) -> Any:
    """What ``model`` makes of a flat run; ``Finished`` after the attention of ``last``."""
    return model(
        input_ids=flat.token_ids,
        position_ids=flat.positions,
        use_cache=False,
        flat=Pass(flat.rectangles, observer, last),
    )


def _bits(logits: Tensor, flat: Flat, starts: int) -> float:
    """Cross-entropy of the text's tokens, in bits."""
    told = (flat.positions[0, 1:] >= starts).nonzero().flatten()
    nats = torch.zeros((), device=logits.device)
    for rows in told.split(ROWS):
        of_rows = logits.index_select(0, rows).float()
        expected = of_rows.gather(1, flat.token_ids[0, rows + 1, None])
        nats += (torch.logsumexp(of_rows, 1, keepdim=True) - expected).sum()
    return float(nats) / math.log(2)
