"""Passes of the model over tokens that lie flat."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headprobe.align.batches import Batcher, Chunk
from headprobe.align.flat import Block, Flat
from headprobe.model.attention import Finished, Observer, Pass
from headprobe.model.heads import HeadGrid


class PassObserver(Observer, Protocol):
    """An observer that is told of chunks too."""

    def begin(self, chunk: Chunk) -> None: ...
    def end(self) -> None: ...


def run_chunk(
    grid: HeadGrid,
    batcher: Batcher,
    blocks: Sequence[Block],
    observer: PassObserver,
    scored_rows: int | None = None,
) -> float:
    """One pass over a chunk; the observer sees every layer.

    The pass ends after the last layer's attention; with ``scored_rows`` it goes on to the logits,
    of so many rows at a time, and the bits that the model needs for the text's tokens, start tokens
    given, are returned (else 0).
    """
    bits, chunk = 0.0, batcher.build(blocks)
    with torch.inference_mode():
        observer.begin(chunk)
        if scored_rows is None:
            observe_flat(grid, chunk.flat, observer)
        else:
            found = run_flat(grid.model.base_model, chunk.flat, observer, None)
            nats = score(grid.model, found, chunk.flat.token_ids[0], chunk.told, scored_rows)
            bits = float(nats) / math.log(2)
        observer.end()
    return bits


def score(model: PreTrainedModel, found: Any, token_ids: Tensor, told: Tensor, rows: int) -> Tensor:
    """The cross-entropy, in nats, of the tokens at places ``told`` [M] of a run [N], given what its
    base model ``found``.

    Logits of so many ``rows`` exist at a time. It is the model's own forward that makes them (it
    may scale or cap them), with ``found`` in the place of what its base model would say.
    """
    nats = torch.zeros((), device=token_ids.device)
    for places in told.split(rows):
        piece = replace(found, last_hidden_state=found.last_hidden_state[:, places - 1])
        with _answering(model.base_model, piece):
            logits = model(input_ids=token_ids[None, places], use_cache=False).logits[0]
        nats += torch.nn.functional.cross_entropy(
            logits.float(), token_ids[places].to(logits.device), reduction="sum"
        ).to(nats.device)
    return nats


@contextmanager
def _answering(module: nn.Module, found: Any) -> Iterator[None]:
    """While open, a module answers without looking."""
    own = module.__dict__.get("forward")  # accelerate puts one there
    module.forward = lambda *_, **__: found
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


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
