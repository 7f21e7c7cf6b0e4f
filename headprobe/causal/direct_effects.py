"""Direct effects of heads: what the loss owes to their terms in the final residual stream.

In most architectures the residual stream that enters the final norm is a sum, to which each head
adds its output through the output projection. The *direct effect* of a head is the change of the
loss when only this term is replaced by its mean. The norm keeps the scale that it has in the intact
run: else an ablation that makes the stream shorter would look as if other heads wrote more
(Rushing and Nanda 2024, Explorations of Self-Repair in Language Models, arXiv:2402.15390).

Where a block changes what its heads write before it adds it (a norm after the projection, a
multiplier), or where the final norm is not found, there are no direct effects.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from headprobe.causal.ablation import FlatSequences, Head
from headprobe.measure.memory import BatchLimits
from headprobe.model.attention import Observer
from headprobe.model.forward import run_flat, token_losses
from headprobe.model.heads import ObservedModel, projection_map

TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
"""How far, relative to the largest entry, a sum may be from what the model computes, in float32 and
in half precision."""

HIDDEN_BYTES = 64 << 20
"""The most memory that the hidden states of a batch of heads take."""


@dataclass(frozen=True)
class FinalNorm:
    """The final norm, with its scale under control.

    Norms of the common kinds compute ``s(x) * (x - c(x)) * g + b``, with a number s per row (the
    inverse root mean square or standard deviation) and c the mean or nothing. g up to a factor, b
    and the kind of c are read off its outputs, so no architecture is named here.
    """

    module: nn.Module | None
    """None where the stream reaches the output layer without a norm."""
    gain: Tensor
    """[E]: g, up to a factor."""
    bias: Tensor
    """[E]: b."""
    is_centred: bool

    @classmethod
    def of(cls, module: nn.Module | None, width: int, like: Tensor) -> "FinalNorm":
        """Probe a norm of ``width`` entries; ``like`` has the dtype and device of its inputs."""
        places = torch.arange(width, device=like.device)
        probe = (1 - 2 * (places % 2)) * (1 + places / width)
        if module is None:
            return cls(None, torch.ones_like(probe), torch.zeros_like(probe), is_centred=False)

        def call(row: Tensor) -> Tensor:
            normed: Tensor = _first(module(row.to(like.dtype)[None, None]))[0, 0]
            return normed.to(torch.float32)

        bias = call(torch.zeros_like(probe))
        ones = call(torch.ones_like(probe)) - bias
        centred = bool(ones.abs().max() < 1e-2)
        deviation = probe - probe.mean() if centred else probe
        return cls(module, (call(probe) - bias) / deviation, bias, centred)

    def frozen(self, streams: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """Normalise ``streams`` [..., N, E] with the scale [N] of another stream (``scale``)."""
        if self.module is None:
            return streams
        normed = self._normed(streams, dtype)
        ratio = scale / self._scale(streams, normed)
        return (normed - self.bias) * ratio[..., None] + self.bias

    def scale(self, streams: Tensor, dtype: torch.dtype) -> Tensor:
        """The scale s [N] of streams [N, E], up to a factor."""
        if self.module is None:
            return streams.new_ones(len(streams))
        return self._scale(streams, self._normed(streams, dtype))

    def _normed(self, streams: Tensor, dtype: torch.dtype) -> Tensor:
        flat = streams.reshape(1, -1, streams.shape[-1]).to(dtype)
        module = self.module or nn.Identity()
        return _first(module(flat)).float().reshape(streams.shape)

    def _scale(self, streams: Tensor, normed: Tensor) -> Tensor:
        deviation = streams - streams.mean(-1, keepdim=True) if self.is_centred else streams
        scale: Tensor = (normed - self.bias).norm(dim=-1) / (deviation * self.gain).norm(dim=-1)
        return scale


def _first(result: Any) -> Tensor:
    tensor: Tensor = result[0] if isinstance(result, tuple) else result
    return tensor


class DirectEffects:
    """Computes direct effects of the heads of a model."""

    def __init__(self, observed: ObservedModel, norm: FinalNorm, mean: Tensor) -> None:
        self._observed, self._norm = observed, norm
        self._limits = BatchLimits.of(observed.device)
        maps = [
            projection_map(layer.output, observed.n_heads, observed.head_dim).to(observed.device)
            for layer in observed.layers
        ]
        self._maps = maps
        """By layer [H, V, E]."""
        self._mean = mean

    @classmethod
    def of(
        cls, observed: ObservedModel, run: FlatSequences, mean: Tensor
    ) -> "DirectEffects | None":
        """Check on ``run`` that heads add to the stream; None where they do not.

        ``mean`` [L, H, V] are the heads' mean outputs.
        """
        norm = find_final_norm(observed, run)
        return None if norm is None else cls(observed, norm, mean)

    def losses(
        self,
        outputs: Any,
        stream: Tensor,
        terms: Tensor,
        others: Tensor | None,
        heads: Sequence[Head],
        scale: Tensor,
        targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the losses with the norm's scale frozen: [N], and [K, N] with each head's output
        replaced by that in ``others``, or by its mean.

        ``outputs`` are the base model's, ``stream`` [N, E] and ``terms`` [N, L, H, V] the final
        residual stream and the heads' outputs at N rows, ``others`` [N, L, H, V] other outputs,
        ``scale`` [N] that of the intact run and ``targets`` [N] the tokens predicted there.
        """
        dtype = outputs.last_hidden_state.dtype
        whole = self._losses(outputs, self._norm.frozen(stream, scale, dtype)[None], targets)[0]
        size = max(1, HIDDEN_BYTES // (stream.numel() * 4))
        parts = []
        for first in range(0, len(heads), size):
            changed = []
            for layer, head in heads[first : first + size]:
                new = self._mean[layer, head] if others is None else others[:, layer, head].float()
                moved = terms[:, layer, head].float() - new
                changed.append(stream - moved @ self._maps[layer][head])
            streams = torch.stack(changed)
            parts.append(self._losses(outputs, self._norm.frozen(streams, scale, dtype), targets))
        without = torch.cat(parts) if parts else stream.new_zeros(0, len(stream))
        return whole, without

    def scale(self, stream: Tensor, dtype: torch.dtype) -> Tensor:
        """The final norm's scale [N] on streams [N, E]."""
        return self._norm.scale(stream, dtype)

    def _losses(self, outputs: Any, hidden: Tensor, targets: Tensor) -> Tensor:
        """[K, N]: the losses of hidden states [K, N, E]."""
        count, rows, width = hidden.shape
        dtype, home = outputs.last_hidden_state.dtype, outputs.last_hidden_state.device
        flat = hidden.reshape(1, count * rows, width).to(home, dtype)
        pieces = token_losses(
            self._observed.model,
            replace(outputs, last_hidden_state=flat),
            torch.arange(count * rows, device=home),
            targets.to(home).repeat(count),
            self._limits.logits,
        )
        return torch.cat(list(pieces)).view(count, rows).to(hidden.device)


class StreamKeeper(Observer):
    """Keeps heads' outputs and the final residual stream at some rows of a pass.

    Another observer, which may change the outputs, is called first.
    """

    def __init__(self, observed: ObservedModel, rows: Tensor, first: Observer | None) -> None:
        self._observed, self._rows, self._first = observed, rows, first
        self.stream_rows = rows
        """The rows whose final stream is kept; the same as those of the outputs by default."""
        self.terms: dict[int, Tensor] = {}
        """By layer the outputs [N, H, V] of its heads."""
        self.stream: Tensor
        """[N, E]: what leaves the last block."""

    def residual(self, layer: int, hidden: Tensor) -> None:
        if self._first is not None:
            self._first.residual(layer, hidden)

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        if self._first is not None:
            self._first.begin_layer(module, value)

    def attended(self, *arguments: Any) -> None:
        if self._first is not None:
            self._first.attended(*arguments)

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        if self._first is not None:
            self._first.end_layer(module, output)
        self.terms[self._observed.index_of(module)] = output[self._rows].clone()

    def listening(self) -> ExitStack:
        """Keep the output of the last block while the stack is open."""
        stack = ExitStack()
        block = self._observed.layers[-1].block

        def keep(_: nn.Module, __: Any, result: Any) -> None:
            self.stream = _first(result)[0, self.stream_rows].float().clone()

        stack.callback(block.register_forward_hook(keep).remove)
        return stack


def find_final_norm(observed: ObservedModel, run: FlatSequences) -> FinalNorm | None:
    """Return the final norm of a model whose heads add to the residual stream, else None.

    Both are checked on a pass over ``run``: every block's output is its input plus the output of
    its projection plus that of one of its modules, and one module, or none, maps the last block's
    output to the base model's.
    """
    recorder = _BlockRecorder(observed)
    with torch.inference_mode(), recorder.listening():
        outputs = run_flat(observed.model.base_model, run.flat, Observer(), None)
        if not all(recorder.adds_up(layer.index) for layer in observed.layers):
            return None
        last = outputs.last_hidden_state
        stream = recorder.outputs[observed.layers[-1].index]
        width = stream.shape[-1]
        if last.shape == stream.shape and _equal(last, stream):
            return FinalNorm.of(None, width, stream)
        for module, given, result in recorder.after:
            if given.shape != stream.shape or result.shape != last.shape:
                continue
            if _equal(given, stream) and _equal(result, last):
                norm = FinalNorm.of(module, width, stream)
                return norm if _is_norm(norm, stream[0].float(), last[0]) else None
    return None


def _is_norm(norm: FinalNorm, stream: Tensor, last: Tensor) -> bool:
    """Whether g, b and c describe the module: it is its own frozen form."""
    deviation = stream - stream.mean(-1, keepdim=True) if norm.is_centred else stream
    scale = norm._scale(stream, last.float())
    return _equal(deviation * norm.gain * scale[:, None] + norm.bias, last)


def _equal(one: Tensor, other: Tensor, scale: Tensor | None = None) -> bool:
    """Whether two tensors are equal up to rounding, relative to ``scale`` or the largest entry."""
    largest = float((other.abs().max() if scale is None else scale).clamp(min=1e-6))
    tolerance = TOLERANCE if other.dtype == torch.float32 else HALF_TOLERANCE
    return float((one.float() - other.float()).abs().max()) <= tolerance * largest


class _BlockRecorder:
    """Records what enters and leaves blocks, what their modules return, and what comes after."""

    def __init__(self, observed: ObservedModel) -> None:
        self._observed = observed
        self.inputs: dict[int, Tensor] = {}
        self.outputs: dict[int, Tensor] = {}
        self.projected: dict[int, Tensor] = {}
        self.parts: dict[int, list[Tensor]] = {layer.index: [] for layer in observed.layers}
        self.after: list[tuple[nn.Module, Tensor, Tensor]] = []

    def listening(self) -> ExitStack:
        """Record while the stack is open."""
        stack = ExitStack()

        def add(module: nn.Module, hook: Callable[[Any, Any, Any], None]) -> None:
            stack.callback(module.register_forward_hook(hook).remove)

        inside: set[nn.Module] = set()
        for layer in self._observed.layers:
            inside.update(layer.block.modules())
            add(layer.output, self._keep(self.projected, layer.index))
            add(layer.block, self._keep(self.outputs, layer.index))
            hook = layer.block.register_forward_pre_hook(
                self._keep_input(layer.index), with_kwargs=True
            )
            stack.callback(hook.remove)
            for module in layer.block.modules():
                if module not in (layer.block, layer.output):
                    add(module, self._keep_part(layer.index))
        for module in self._observed.model.base_model.modules():
            if module not in inside and not any(True for _ in module.children()):
                add(module, self._keep_after)
        return stack

    def _keep(self, into: dict[int, Tensor], layer: int) -> Callable[[Any, Any, Any], None]:
        def keep(_: nn.Module, __: Any, result: Any) -> None:
            into[layer] = _first(result).clone()

        return keep

    def _keep_input(self, layer: int) -> Callable[[Any, Any, Any], None]:
        def keep(_: nn.Module, given: Any, named: Any) -> None:
            hidden = given[0] if given else named.get("hidden_states")
            if isinstance(hidden, Tensor):
                self.inputs[layer] = hidden.clone()

        return keep

    def _keep_part(self, layer: int) -> Callable[[Any, Any, Any], None]:
        def keep(_: nn.Module, __: Any, result: Any) -> None:
            tensor = result[0] if isinstance(result, tuple) and result else result
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.parts[layer].append(tensor.clone())

        return keep

    def _keep_after(self, module: nn.Module, given: Any, result: Any) -> None:
        tensor = given[0] if given else None
        if isinstance(tensor, Tensor) and isinstance(result, Tensor) and tensor.is_floating_point():
            self.after.append((module, tensor.clone(), result.clone()))

    def adds_up(self, layer: int) -> bool:
        """Whether a block adds its projection's output, unchanged, to the stream."""
        given, result = self.inputs.get(layer), self.outputs[layer]
        projected = self.projected.get(layer)
        if given is None or projected is None or projected.numel() != result.numel():
            return False
        rest = result - given - projected.reshape(result.shape)
        scale = result.abs().max()
        if float(rest.abs().max()) <= TOLERANCE * float(scale):
            return True
        return any(
            part.numel() == rest.numel() and _equal(part.reshape(rest.shape), rest, scale)
            for part in self.parts[layer]
        )
