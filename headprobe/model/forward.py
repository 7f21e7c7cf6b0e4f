"""Passes of the model over tokens that lie flat.

What a text costs a model in bits, from logits of which only a few exist at a time.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.hub import TRANSFORMERS_DYNAMIC_MODULE_NAME

from headprobe.batching.batches import Batcher, Chunk
from headprobe.batching.layout import Block, Flat
from headprobe.model.attention import Observer, Pass, PassFinished
from headprobe.model.heads import ObservedModel

MAX_CPU_LOGITS = 1 << 18
"""So many logits lie in a CPU's cache, where there may be more of them."""


def score(
    model: PreTrainedModel, outputs: Any, ids: Tensor, scored_tokens: Tensor, logits: int
) -> Tensor:
    """The cross-entropy, in nats, of the tokens at the places ``scored_tokens`` [M] of a run of
    ``ids`` [N], given what the base model ``outputs``.

    So many ``logits`` exist at a time: of some tokens for some words of the vocabulary, by these
    words' rows of the output layer; or for all words (of one token at least), where that is no
    plain matrix or the model's code its own. It is the model's own forward that makes them, and may
    scale or cap each, with ``outputs`` in the place of what its base model would say.
    """
    head = _plain_head(model)
    if head is None:
        words = words_per_call = model.config.get_text_config().vocab_size
        rows = max(1, logits // words)
    else:
        words = len(head[1].weight)
        room = min(logits, MAX_CPU_LOGITS) if ids.device.type == "cpu" else logits
        rows = max(1, min(len(scored_tokens), math.isqrt(room)))
        words_per_call = room // rows
    home = outputs.last_hidden_state.device  # the last layer's
    nats, ids = torch.zeros((), device=home), ids.to(home)
    for places in scored_tokens.to(home).split(rows):
        piece = replace(outputs, last_hidden_state=outputs.last_hidden_state[:, places - 1])
        targets = ids[places]
        own = torch.zeros_like(targets, dtype=torch.float32)
        total = torch.full_like(own, -math.inf)
        for first in range(0, words, words_per_call):
            some = _logits(model, piece, head, slice(first, first + words_per_call)).to(home)
            total = torch.logaddexp(total, some.logsumexp(-1))
            place = targets - first
            there = (place >= 0) & (place < some.shape[-1])
            place = place.clamp(0, some.shape[-1] - 1)
            own += torch.where(there, some.gather(-1, place[:, None])[:, 0], 0)
        nats += (total - own).sum()
    return nats


class _FixedOutput(nn.Module):
    """Stands where a module would be asked."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        super().__init__()
        self._answer = answer

    @property
    def decoder(self) -> "_FixedOutput":
        """Some models (OPT) call this part of their base model and not all of it."""
        return self

    def forward(self, *asked: Tensor, **_: Any) -> Any:
        return self._answer(*asked)


def _logits(
    model: PreTrainedModel, outputs: Any, head: tuple[str, nn.Linear] | None, words: slice
) -> Tensor:
    """[M, words] in float32, of what the base model ``outputs`` [1, M, E]; all words without a
    plain ``head``. The model is left as it is, for others may pass through it."""
    answering: dict[str, nn.Module] = {model.base_model_prefix: _FixedOutput(lambda *_: outputs)}
    if head is not None:
        name, layer = head
        weight, bias = layer.weight[words], None if layer.bias is None else layer.bias[words]
        answering[name] = _FixedOutput(lambda hidden: F.linear(hidden, weight, bias))
    other = copy(model)
    other.__dict__.pop("forward", None)  # accelerate's is the model's, not its copy's
    other._modules = {**model._modules, **answering}
    hidden = outputs.last_hidden_state
    asked = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    logits: Tensor = other(input_ids=asked, use_cache=False).logits[0]
    return logits.float()


def _plain_head(model: PreTrainedModel) -> tuple[str, nn.Linear] | None:
    """The output layer and its name, where its rows may be used apart: hooks would not hear of it,
    and a model's own code might do anything with logits."""
    own = type(model).__module__.startswith(TRANSFORMERS_DYNAMIC_MODULE_NAME)
    for name, layer in model._modules.items():
        if layer is model.get_output_embeddings() and type(layer) is nn.Linear and not own:
            watched = hasattr(layer, "_hf_hook") or layer._forward_hooks or layer._forward_pre_hooks
            sliced = not hasattr(layer.weight, "__tensor_flatten__")  # not one of torchao's
            return (name, layer) if sliced and not watched else None
    return None


class PassObserver(Observer):
    """An observer that is also called at the beginning and the end of each chunk's pass."""

    def begin(self, chunk: Chunk) -> None:
        """Called before the pass over a chunk."""

    def end(self) -> None:
        """Called after the pass over a chunk."""


def run_chunk(
    observed: ObservedModel,
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
            observe_flat(observed, chunk.flat, observer)
            observer.end()
            return 0.0
        outputs = run_flat(observed.model.base_model, chunk.flat, observer, None)
        observer.end()  # others may wait for it
        nats = score(observed.model, outputs, chunk.flat.token_ids[0], chunk.scored_tokens, logits)
    return float(nats) / math.log(2)


def observe_flat(observed: ObservedModel, flat: Flat, observer: Observer) -> None:
    """One pass of the base model, up to the last layer's attention."""
    with torch.inference_mode(), suppress(PassFinished):
        run_flat(observed.model.base_model, flat, observer, observed.layers[-1].module)


def run_flat(model: nn.Module, flat: Flat, observer: Observer, last: nn.Module | None) -> Any:
    """What ``model`` makes of a flat run; ``PassFinished`` after the attention of ``last``."""
    with Pass(flat.tiles, observer, last).running():
        return model(input_ids=flat.token_ids, position_ids=flat.positions, use_cache=False)
