"""The loaded model as a grid of heads, whose structure one verified pass reveals.

Nothing here depends on the architecture: the attention modules are those that call the attention
function, and the output projection is the module that receives the heads' outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.hub import TRANSFORMERS_DYNAMIC_MODULE_NAME

from headprobe.model.attention import RUNNING
from headprobe.model.devices import input_device
from headprobe.model.verify import (
    HALF_TOLERANCE,
    CaptureCheck,
    refusal,
    refuse_on_error,
    verify_capture,
)


@dataclass(frozen=True)
class Layer:
    """One attention layer: its modules, and what is needed to measure what its heads write."""

    index: int
    """The layer's number, from 0."""
    module: nn.Module
    """The attention module."""
    block: nn.Module
    """The block around it, whose input is the residual stream."""
    output: nn.Module
    """The output projection of the concatenated heads (``o_proj``, ``dense``, ``c_proj``), found by
    its input and not by its name."""
    norm_map: Tensor
    """[H, V, U]: takes a head's output z to coordinates whose norm is the norm after ``W_O``. It is
    R^T of the QR decomposition ``W_O^T = Q R``, for Q keeps norms: ``||z W_O|| = ||z R^T||``. At
    most V wide, it is smaller than ``W_O`` [V, E]."""

    def value_norm(self, value: Tensor) -> Tensor:
        """The norms [N, H] after ``W_O`` of values [N, G, V], as each query head reads them."""
        # The S query heads of a group read the same values, through maps of their own: join the
        # maps [G, S, V, U] to [G, V, S * U], so that one product per group serves all of them
        maps = self.norm_map.unflatten(0, (value.shape[1], -1)).transpose(1, 2).flatten(2)
        written = torch.bmm(value.float().transpose(0, 1), maps)  # [G, N, S * U]
        norms: Tensor = written.unflatten(-1, (-1, self.norm_map.shape[-1])).norm(dim=-1)
        return norms.transpose(0, 1).flatten(1)  # [G, N, S] -> [N, H]

    def projection(self, size: int, seed: int) -> Tensor:
        """[H, V, size]: ``W_O`` followed by a seeded random projection to ``size`` dimensions.

        The random projection is the same for all layers, and preserves cosines approximately
        (Johnson and Lindenstrauss 1984). Where the residual stream is not wider than ``size``, the
        result is ``W_O`` itself.
        """
        output_map = projection_map(self.output, *self.norm_map.shape[:2]).to(self.norm_map.device)
        width = output_map.shape[-1]
        if width <= size:
            return output_map
        # Drawn on the CPU, so that it does not depend on the device
        generator = torch.Generator().manual_seed(seed)
        squeeze = torch.randn(width, size, generator=generator) / size**0.5
        return torch.matmul(output_map, squeeze.to(output_map.device))


@dataclass(frozen=True)
class ObservedModel:
    """A causal language model whose every head can be observed."""

    model: PreTrainedModel
    layers: tuple[Layer, ...]
    n_heads: int
    """Query heads per layer."""
    n_kv_heads: int
    """Key/value heads per layer, shared among the query heads."""
    head_dim: int
    """The width V of the values; queries and keys may have another."""
    learned_sinks: bool
    """Whether rows of attention sum to less than one by design."""

    @property
    def device(self) -> torch.device:
        """The device on which heads are observed, wherever the weights are."""
        return self.layers[0].norm_map.device

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """The devices that compute: the one on which heads are observed, then the other
        accelerators that hold layers."""
        holding = {parameter.device for parameter in self.model.parameters()} - {self.device}
        others = (device for device in holding if device.type not in ("cpu", "meta"))
        return self.device, *sorted(others, key=str)

    @cached_property
    def is_stateless(self) -> bool:
        """Whether a pass leaves the model unchanged, so that several passes may run at once.

        False where accelerate's hooks move weights during a pass, where rotary positions are scaled
        by the longest sequence of the pass, and where that is unknown: for a checkpoint's own code
        and for quantisation libraries.
        """
        return not getattr(self.model, "is_quantized", False) and not any(
            hasattr(module, "_hf_hook")
            or _SCALED & _rope_types(module)
            or type(module).__module__.startswith(TRANSFORMERS_DYNAMIC_MODULE_NAME)
            for module in self.model.modules()
        )

    @property
    def context(self) -> int | None:
        """The longest sequence that the model reads, start tokens included; None without limit."""
        limit: int | None = getattr(
            self.model.config.get_text_config(), "max_position_embeddings", None
        )
        return limit

    def index_of(self, module: nn.Module) -> int:
        """The number of the layer that an attention module belongs to."""
        return int(module.layer_idx)  # type: ignore[arg-type]


_SCALED = frozenset({"dynamic", "longrope"})
"""Kinds of rotary embeddings that depend on the longest sequence of a pass."""


def _rope_types(module: nn.Module) -> set[str]:
    kinds = getattr(module, "rope_type", None)
    return set(kinds.values()) if isinstance(kinds, dict) else {str(kinds)}


def observe_model(model: PreTrainedModel, where: str, ids: Tensor) -> ObservedModel:
    """Switch the model to the observing attention function and verify it (``model.verify``) on
    ``ids`` [T]; raises HeadprobeError for a model that cannot be measured correctly."""
    check = verify_capture(model, where, ids.to(input_device(model)))
    heads, groups, width = check.shapes[0]
    layers = _layers(check, where)
    for layer in layers:
        layer.block.register_forward_pre_hook(_residual_hook(layer.index), with_kwargs=True)
    return ObservedModel(model, layers, heads, groups, width, check.learned_sinks)


def _residual_hook(layer: int) -> Callable[..., None]:
    """A hook for a block that hands the residual stream to the observer of the thread's pass."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if (flat := RUNNING.get(None)) is not None:
            hidden = args[0] if args else kwargs["hidden_states"]
            flat.observer.residual(layer, hidden.to(flat.device))

    return hook


def _layers(check: CaptureCheck, where: str) -> tuple[Layer, ...]:
    heads, _, width = check.shapes[0]
    layers = []
    for index, module in enumerate(check.modules):
        output, outputs = check.projections[module], check.outputs[module]
        with refuse_on_error(where, _not_linear(output)):
            output_map = projection_map(output, heads, width)
            _check_matrix(where, output, output_map, outputs)
        # QR of each head's W_O^T [E, V] on the CPU, once per load
        triangle = torch.linalg.qr(output_map.transpose(1, 2).cpu(), mode="r").R  # [H, U, V]
        norm_map = triangle.transpose(1, 2).contiguous().to(outputs.device)  # [H, V, U]
        layers.append(Layer(index, module, check.blocks[module], output, norm_map))
    return tuple(layers)


def _check_matrix(where: str, output: nn.Module, output_map: Tensor, heads: Tensor) -> None:
    """Refuse a model whose ``output`` of the heads' outputs [N, H, V] is not the matrix
    ``output_map`` [H, V, E], such as a norm that some models put before the projection."""
    if type(output) is nn.Linear:
        return
    with torch.inference_mode():
        given = heads.flatten(1)
        result = output(given).float() - output(torch.zeros_like(given[:1])).float()
    expected = given.float() @ output_map.flatten(0, 1).to(given.device)
    difference = (result.to(given.device) - expected).norm() / expected.norm()
    # A matrix with one entry per column scales its input, as a norm does to unit vectors
    elementwise = int(output_map.count_nonzero()) <= output_map.shape[-1]
    # The tolerance is that of half precision, because quantised layers may round their input
    if elementwise or not float(difference) <= HALF_TOLERANCE:
        raise refusal(where, _not_linear(output))


def _not_linear(output: nn.Module) -> str:
    return f"{type(output).__name__}, which receives its heads' outputs, is not a linear projection"


def projection_map(output: Any, heads: int, width: int) -> Tensor:
    """``W_O`` [H, V, E] of an output projection in float32.

    A linear layer's weight is read. Other modules (GPT-2's, quantised, offloaded, with adapters)
    are applied to unit vectors, less the result for zeros, which is the bias. The result is not
    cached, because it is as large as the weights themselves.
    """
    # torchao's tensor subclasses are no plain weights
    if type(output) is nn.Linear and not hasattr(output.weight, "__tensor_flatten__"):
        with align_module_device(output):  # loads a weight that is offloaded
            if output.weight.device.type != "meta":
                return output.weight.detach().T.float().reshape(heads, width, -1)
    parameter = next(iter(output.parameters()), None)
    dtype = parameter.dtype if parameter is not None and parameter.is_floating_point() else None
    device = parameter.device if parameter is not None else None
    if device is not None and device.type == "meta":
        device = None
    with torch.inference_mode():
        units = torch.eye(heads * width, device=device, dtype=dtype)
        rows: Tensor = output(units).float() - output(torch.zeros_like(units[:1])).float()
    return rows.view(heads, width, -1)
