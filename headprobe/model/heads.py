"""The loaded model as a grid of heads, its structure found by running it once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headprobe.errors import HeadprobeError
from headprobe.model.attention import NAME, register

_ROW_SUM = {torch.float32: 1e-4, torch.float64: 1e-6}
_HIDDEN = {torch.float32: 1e-3, torch.float64: 1e-6}
_HALF = 0.08


@dataclass(frozen=True)
class Layer:
    """One attention layer: its module, the block around it, and what its heads write.

    ``norm_map`` [H, V, U] takes a head's output to coordinates whose plain norm is the norm after
    ``W_O`` (the triangle of its QR decomposition: ``||z W_O|| = ||z R^T||``).
    """

    index: int
    module: nn.Module
    block: nn.Module
    output_map: Tensor
    norm_map: Tensor

    def projection(self, size: int, seed: int) -> Tensor:
        """[H, V, size]: ``W_O`` followed by one seeded random projection, the same for all layers
        (or ``W_O`` itself where the residual stream is no wider); cosines survive it
        (Johnson and Lindenstrauss 1984)."""
        width = self.output_map.shape[-1]
        if width <= size:
            return self.output_map
        generator = torch.Generator().manual_seed(seed)
        squeeze = torch.randn(width, size, generator=generator) / size**0.5
        return torch.matmul(self.output_map, squeeze.to(self.output_map.device))


@dataclass(frozen=True)
class HeadGrid:
    """A causal language model whose every head can be observed.

    ``n_heads`` query heads in each layer read ``n_kv_heads`` key/value heads; ``head_dim`` is that
    of the values. ``learned_sinks``: rows sum to less than one by design.
    """

    model: PreTrainedModel
    layers: tuple[Layer, ...]
    n_heads: int
    n_kv_heads: int
    head_dim: int
    learned_sinks: bool

    @property
    def device(self) -> torch.device:
        return self.model.device

    def index_of(self, module: nn.Module) -> int:
        """The layer that an attention module belongs to."""
        return int(module.layer_idx)  # type: ignore[arg-type]

    @contextmanager
    def residuals(self, receive: Any) -> Iterator[None]:
        """While open, ``receive(layer, hidden)`` gets the residual stream [B, T, E] entering it."""

        def hook_for(layer: int) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                receive(layer, args[0] if args else kwargs["hidden_states"])

            return hook

        handles = [
            layer.block.register_forward_pre_hook(hook_for(layer.index), with_kwargs=True)
            for layer in self.layers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Witness:
    """Notes every call of the attention function during the proof."""

    def __init__(self) -> None:
        self.modules: list[nn.Module] = []
        self.shapes: list[tuple[int, int, int]] = []
        self.future = 0.0
        self.row_low, self.row_high = 1.0, 1.0
        self.outputs: dict[nn.Module, Tensor] = {}

    def attended(self, module: nn.Module, weights: Tensor, value: Tensor, output: Tensor) -> None:
        self.modules.append(module)
        self.shapes.append((weights.shape[1], value.shape[1], output.shape[-1]))
        self.future = max(self.future, float(weights.triu(1).max()))
        sums = weights.sum(-1)
        self.row_low = min(self.row_low, float(sums.min()))
        self.row_high = max(self.row_high, float(sums.max()))
        self.outputs[module] = output


def observe_heads(model: PreTrainedModel, where: str, ids: Tensor) -> HeadGrid:
    """Switch the model to the observing attention function; prove on ``ids`` [B, T] that it works.

    The proof: every layer attends exactly once; no weight lies above the diagonal; rows sum to one
    (to less with learned sinks); each ``o_proj`` reads the heads' outputs as they are; the last
    hidden states equal those of the attention the model came with. HeadprobeError where any of this
    fails, for what then cannot be measured rightly.
    """
    register()
    base = model.base_model
    with torch.inference_mode():
        own = base(input_ids=ids, use_cache=False)[0]
    witness, read = _Witness(), {}
    try:
        model.set_attn_implementation(NAME)
    except (ValueError, KeyError, AttributeError) as error:
        raise _refusal(where, "its attention cannot be observed") from error
    handles = [
        o_proj.register_forward_pre_hook(
            lambda _, args, module=module: read.update({module: args[0]})
        )
        for module in model.modules()
        if isinstance(o_proj := getattr(module, "o_proj", None), nn.Module)
    ]
    try:
        with torch.inference_mode():
            seen = base(input_ids=ids, use_cache=False, observe=witness)[0]
    except TypeError as error:
        raise _refusal(where, "its attention cannot be observed") from error
    finally:
        for handle in handles:
            handle.remove()
    _judge(model, where, witness, read, own, seen)
    layers = _layers(model, witness)
    heads, groups, width = witness.shapes[0]
    return HeadGrid(model, layers, heads, groups, width, witness.row_low < 1 - 1e-3)


def _judge(
    model: PreTrainedModel,
    where: str,
    witness: _Witness,
    read: dict[nn.Module, Tensor],
    own: Tensor,
    seen: Tensor,
) -> None:
    config = model.config.get_text_config()
    expected = list(range(config.num_hidden_layers))
    called = [getattr(module, "layer_idx", None) for module in witness.modules]
    if not called:
        raise _refusal(
            where, "none of its layers attends through transformers' attention functions"
        )
    if sorted(called, key=str) != sorted(expected, key=str):
        raise _refusal(where, f"{len(called)} of its {len(expected)} layers attend, not each once")
    if witness.future > 0:
        raise _refusal(where, "its attention looks at later tokens, as an encoder's does")
    if len(set(witness.shapes)) > 1:
        raise _refusal(where, "its layers differ in their number or size of heads")
    slack = _ROW_SUM.get(own.dtype, 1e-3)
    learned = any(getattr(module, "sinks", None) is not None for module in witness.modules)
    if witness.row_high > 1 + slack or (witness.row_low < 1 - slack and not learned):
        raise _refusal(where, "its attention rows do not sum to one")
    for module in witness.modules:
        if module not in read:
            raise _refusal(where, "its heads are not joined by an o_proj")
        joined = witness.outputs[module].reshape(read[module].shape)
        if not torch.equal(joined, read[module]):
            raise _refusal(where, "something changes its heads' outputs before o_proj")
    error = (own.float() - seen.float()).norm() / own.float().norm()
    if not float(error) <= _HIDDEN.get(own.dtype, _HALF):
        raise _refusal(where, f"observing it changes its hidden states by {float(error):.1e}")


def _layers(model: PreTrainedModel, witness: _Witness) -> tuple[Layer, ...]:
    names = {module: name for name, module in model.named_modules()}
    layers = []
    for module in sorted(witness.modules, key=lambda module: int(module.layer_idx)):  # type: ignore[arg-type]
        block = model.get_submodule(names[module].rpartition(".")[0])
        heads, _, width = witness.shapes[0]
        output_map = _output_map(module.o_proj, heads * width).view(heads, width, -1)  # type: ignore[arg-type]
        triangle = torch.linalg.qr(output_map.transpose(1, 2).cpu(), mode="r").R
        norm_map = triangle.transpose(1, 2).contiguous().to(output_map.device)
        layers.append(Layer(int(module.layer_idx), module, block, output_map, norm_map))  # type: ignore[arg-type]
    return tuple(layers)


def _output_map(o_proj: nn.Module, width: int) -> Tensor:
    """``W_O`` [H * V, E] in float32, read off the module's answers to unit vectors, so that it does
    not matter how the weight is stored (quantised, offloaded, with adapters)."""
    parameter = next(iter(o_proj.parameters()), None)
    dtype = parameter.dtype if parameter is not None and parameter.is_floating_point() else None
    device = parameter.device if parameter is not None else None
    if device is not None and device.type == "meta":
        device = None
    with torch.inference_mode():
        units = torch.eye(width, device=device, dtype=dtype)
        return o_proj(units).float() - o_proj(torch.zeros_like(units[:1])).float()  # type: ignore[no-any-return]


def _refusal(where: str, what: str) -> HeadprobeError:
    return HeadprobeError(
        where, what, "headprobe cannot measure it rightly; name a Llama-style decoder"
    )
