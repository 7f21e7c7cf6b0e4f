"""Passes of the model over tokens that lie flat."""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from headprobe.align.batches import Batcher, Chunk
from headprobe.align.flat import Block, Flat
from headprobe.model.attention import Finished, Observer, Pass
from headprobe.model.heads import HeadGrid
from headprobe.model.scoring import score


class PassObserver(Observer):
    """An observer that is also called at the beginning and the end of each chunk's pass."""

    def begin(self, chunk: Chunk) -> None:
        """Called before the pass over a chunk."""

    def end(self) -> None:
        """Called after the pass over a chunk."""


def run_chunk(
    grid: HeadGrid,
    batcher: Batcher,
    blocks: Sequence[Block],
    observer: PassObserver,
    logits: int | None = None,
) -> float:
    """One pass over a chunk; the observer sees every layer.

    The pass ends after the last layer's attention; with ``logits`` it goes on to these, so many at
    a time, and the bits that the model needs for the text's tokens, start tokens given, are
    returned (else 0).
    """
    chunk = batcher.build(blocks)
    with torch.inference_mode():
        observer.begin(chunk)
        if logits is None:
            observe_flat(grid, chunk.flat, observer)
            observer.end()
            return 0.0
        found = run_flat(grid.model.base_model, chunk.flat, observer, None)
        observer.end()  # others may wait for it
        nats = score(grid.model, found, chunk.flat.token_ids[0], chunk.told, logits)
    return float(nats) / math.log(2)


def observe_flat(grid: HeadGrid, flat: Flat, observer: Observer) -> None:
    """One pass of the base model, up to the last layer's attention."""
    with torch.inference_mode(), suppress(Finished):
        run_flat(grid.model.base_model, flat, observer, grid.layers[-1].module)


def run_flat(model: nn.Module, flat: Flat, observer: Observer, last: nn.Module | None) -> Any:
    """What ``model`` makes of a flat run; ``Finished`` after the attention of ``last``."""
    with Pass(flat.rectangles, observer, last).running():
        return model(input_ids=flat.token_ids, position_ids=flat.positions, use_cache=False)
