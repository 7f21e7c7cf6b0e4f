"""Passes of the model over the corpus."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.align.batches import AlignedBatch, Batcher
from headprobe.model.attention import Observer
from headprobe.model.heads import HeadGrid


class PassObserver(Observer, Protocol):
    """An observer that is told of batches too."""

    def begin(self, batch: AlignedBatch) -> None: ...
    def residual(self, layer: int, hidden: Tensor) -> None: ...
    def end(self) -> None: ...


def run_batches(
    grid: HeadGrid,
    batcher: Batcher,
    plan: Sequence[NDArray[np.int64]],
    observer: PassObserver,
    advance: Callable[[AlignedBatch], None],
) -> None:
    """One pass of the base model (no output layer) over each batch; the observer sees every layer."""
    with torch.inference_mode(), grid.residuals(observer.residual):
        for passages in plan:
            batch = batcher.build(passages)
            observer.begin(batch)
            grid.model.base_model(
                input_ids=batch.token_ids,
                attention_mask=batch.real,
                use_cache=False,
                observe=observer,
            )
            observer.end()
            advance(batch)


def run_scored(
    grid: HeadGrid,
    batcher: Batcher,
    plan: Sequence[NDArray[np.int64]],
    observer: PassObserver,
    advance: Callable[[AlignedBatch], None],
) -> float:
    """The same with the output layer: returns the bits that the model needs for the batches' tokens,
    start tokens given. No passage goes through the model twice."""
    bits = 0.0
    with torch.inference_mode(), grid.residuals(observer.residual):
        for passages in plan:
            batch = batcher.build(passages)
            observer.begin(batch)
            logits = grid.model(
                input_ids=batch.token_ids,
                attention_mask=batch.real,
                use_cache=False,
                observe=observer,
            ).logits
            observer.end()
            bits += _bits(logits, batch)
            advance(batch)
    return bits


def _bits(logits: Tensor, batch: AlignedBatch) -> float:
    given = slice(batch.starts - 1, -1)
    told = slice(batch.starts, None)
    real = batch.real[:, told].bool()
    nats = torch.nn.functional.cross_entropy(
        logits[:, given][real].float(), batch.token_ids[:, told][real], reduction="sum"
    )
    return float(nats) / float(np.log(2))
