"""Forward passes of the model over packed sequences, and the cross-entropy of a text.

``run_chunk`` is the pass of a scan. It stops after the last layer's attention, unless the bits that
the text costs the model are wanted: then ``score`` computes them from a few logits at a time.
"""

import math
from collections.abc import Callable, Iterator, Sequence
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
from headprobe.batching.layout import Block, PackedSequence
from headprobe.model.attention import Observer, Pass, PassFinished
from headprobe.model.heads import ObservedModel

MAX_CPU_LOGITS = 1 << 18
"""The largest number of logits computed at once on a CPU: as many as fit into its cache."""


def score(
    model: PreTrainedModel, outputs: Any, ids: Tensor, scored_tokens: Tensor, logits: int
) -> Tensor:
    """The summed cross-entropy, in nats, of some tokens of a packed sequence.

    ``outputs`` are the base model's outputs for the sequence's ``ids`` [N]; ``scored_tokens`` [M]
    are the places of the tokens to score, each predicted from the hidden state before it.
    """
    home = outputs.last_hidden_state.device  # that of the last layer
    nats, places = torch.zeros((), device=home), scored_tokens.to(home)
    for piece in token_losses(model, outputs, places - 1, ids.to(home)[places], logits):
        nats += piece.sum()
    return nats


def token_losses(
    model: PreTrainedModel, outputs: Any, rows: Tensor, targets: Tensor, logits: int
) -> Iterator[Tensor]:
    """Yield the cross-entropy, in nats, of the token ids ``targets`` [M], each predicted at one of
    the ``rows`` [M] of a packed sequence; ``outputs`` are the base model's for that sequence.

    At most ``logits`` logits exist at a time, never all M x vocabulary of them. They are a block of
    some tokens by some words of the vocabulary, from these words' rows of the output layer. Where
    the output layer is no plain matrix, or the model's code is its own (see ``_plain_head``), a
    block has all words and at least one token. The model's own forward computes the logits, with
    ``outputs`` in place of its base model, so that models that scale or cap their logits do so.
    """
    home = outputs.last_hidden_state.device
    head = _plain_head(model)
    if head is None:
        words = words_per_call = model.config.get_text_config().vocab_size
        tokens_per_call = max(1, logits // words)
    else:
        # Square blocks, of about as many tokens as words
        words = len(head[1].weight)
        room = min(logits, MAX_CPU_LOGITS) if rows.device.type == "cpu" else logits
        tokens_per_call = max(1, min(len(rows), math.isqrt(room)))
        words_per_call = room // tokens_per_call
    for some, wanted in zip(
        rows.to(home).split(tokens_per_call),
        targets.to(home).split(tokens_per_call),
        strict=True,
    ):
        piece = replace(outputs, last_hidden_state=outputs.last_hidden_state[:, some])
        # log(sum(exp)) over the vocabulary and the target's own logit, block by block
        target_logit = torch.zeros_like(wanted, dtype=torch.float32)
        log_sum = torch.full_like(target_logit, -math.inf)
        for first in range(0, words, words_per_call):
            block = _logits(model, piece, head, slice(first, first + words_per_call)).to(home)
            log_sum = torch.logaddexp(log_sum, block.logsumexp(-1))
            # The target's logit is in exactly one block: in the others gather any and add
            # 0, because to select rows by a mask would make the host wait for a GPU
            column = wanted - first
            is_here = (column >= 0) & (column < block.shape[-1])
            column = column.clamp(0, block.shape[-1] - 1)
            target_logit += torch.where(is_here, block.gather(-1, column[:, None])[:, 0], 0)
        yield log_sum - target_logit


class _FixedOutput(nn.Module):
    """Takes the place of a submodule and returns what ``answer`` makes of its inputs."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        super().__init__()
        self._answer = answer

    @property
    def decoder(self) -> "_FixedOutput":
        """Itself: some models (OPT) call the decoder of their base model, not the base model."""
        return self

    def forward(self, *inputs: Tensor, **_: Any) -> Any:
        return self._answer(*inputs)


def _logits(
    model: PreTrainedModel, outputs: Any, head: tuple[str, nn.Linear] | None, words: slice
) -> Tensor:
    """Logits [M, words] in float32 from the base model's ``outputs`` [1, M, E]; those of all words
    where there is no plain ``head``.

    A shallow copy of the model computes them, in which the base model and the output layer are
    replaced: other threads may be running the model itself.
    """
    replaced: dict[str, nn.Module] = {model.base_model_prefix: _FixedOutput(lambda *_: outputs)}
    if head is not None:
        name, layer = head
        weight, bias = layer.weight[words], None if layer.bias is None else layer.bias[words]
        replaced[name] = _FixedOutput(lambda hidden: F.linear(hidden, weight, bias))
    shallow = copy(model)
    # accelerate sets a forward on the instance, which is bound to the model and not to its copy
    shallow.__dict__.pop("forward", None)
    shallow._modules = {**model._modules, **replaced}
    hidden = outputs.last_hidden_state
    # The ids do not matter: the replaced base model ignores them
    placeholder = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    logits: Tensor = shallow(input_ids=placeholder, use_cache=False).logits[0]
    return logits.float()


def _plain_head(model: PreTrainedModel) -> tuple[str, nn.Linear] | None:
    """The name and the output layer whose rows can be used separately, or None.

    None where the layer is not an ordinary linear one, where it has hooks (they would not be
    called), and where the model's code is its own (which may do anything with logits).
    """
    if type(model).__module__.startswith(TRANSFORMERS_DYNAMIC_MODULE_NAME):
        return None
    for name, layer in model._modules.items():
        if layer is model.get_output_embeddings() and type(layer) is nn.Linear:
            hooked = hasattr(layer, "_hf_hook") or layer._forward_hooks or layer._forward_pre_hooks
            is_tensor = not hasattr(layer.weight, "__tensor_flatten__")  # torchao's are subclasses
            return (name, layer) if is_tensor and not hooked else None
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
    """Run one chunk through the model; the observer receives every layer's attention.

    Without ``logits`` the pass ends after the last layer's attention and 0 is returned. With
    ``logits`` it continues to the output layer, with at most so many logits at a time, and the bits
    are returned that the model needs for the text's tokens, given the start tokens.
    """
    chunk = batcher.build(blocks)
    with torch.inference_mode():
        observer.begin(chunk)
        if logits is None:
            observe_packed(observed, chunk.flat, observer)
            observer.end()
            return 0.0
        outputs = run_flat(observed.model.base_model, chunk.flat, observer, None)
        observer.end()  # before the logits, because other threads may wait for the observer
        nats = score(observed.model, outputs, chunk.flat.token_ids[0], chunk.scored_tokens, logits)
    return float(nats) / math.log(2)


def observe_packed(observed: ObservedModel, flat: PackedSequence, observer: Observer) -> None:
    """Run the base model over ``flat``, up to the last layer's attention."""
    with torch.inference_mode(), suppress(PassFinished):
        run_flat(observed.model.base_model, flat, observer, observed.layers[-1].module)


def run_flat(
    model: nn.Module, flat: PackedSequence, observer: Observer, last: nn.Module | None
) -> Any:
    """Run ``model`` over ``flat`` and return its outputs; raises ``PassFinished`` after the
    attention of ``last``, where that is given."""
    with Pass(flat.tiles, observer, last).running():
        return model(input_ids=flat.token_ids, position_ids=flat.positions, use_cache=False)
