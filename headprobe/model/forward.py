"""Passes of the model over the corpus."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

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
    *,
    score: bool = False,
) -> float:
    """One pass over each batch; the observer sees every layer.

    The pass is the base model's, without output layer; with ``score`` it is the language model's,
    and the bits that it needs for the batches' tokens, start tokens given, are returned (else 0).
    """
    model = grid.model if score else grid.model.base_model
    bits = 0.0
    with torch.inference_mode(), grid.residuals(observer.residual):
        for passages in plan:
            batch = batcher.build(passages)
            observer.begin(batch)
            result = _attend(model, batch.token_ids, batch.real, observer)
            observer.end()
            if score:
                bits += _bits(result.logits, batch)
            advance(batch)
    return bits


def run_tokens(grid: HeadGrid, token_ids: Tensor, real: Tensor, observer: Observer) -> None:
    """One pass of the base model over sequences [B, T] that are no passages."""
    with torch.inference_mode():
        _attend(grid.model.base_model, token_ids, real, observer)


def _attend(model: nn.Module, token_ids: Tensor, real: Tensor, observer: Observer) -> Any:
    return model(input_ids=token_ids, attention_mask=real, use_cache=False, observe=observer)


def _bits(logits: Tensor, batch: AlignedBatch) -> float:
    """Cross-entropy of the text's tokens, in bits."""
    given, told = slice(batch.starts - 1, -1), slice(batch.starts, None)
    real = batch.real[:, told].bool()
    nats = torch.nn.functional.cross_entropy(
        logits[:, given][real].float(), batch.token_ids[:, told][real], reduction="sum"
    )
    return float(nats) / math.log(2)
