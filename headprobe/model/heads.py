"""The loaded model as a grid of heads, its structure found by running it once."""

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
from headprobe.model.verify import HALF_TOLERANCE, CaptureCheck, refusal, verify_capture


@dataclass(frozen=True)
class Layer:
    """One attention layer: its module, the block around it, and what its heads write.

    ``output`` is the linear submodule that takes the concatenated heads (``o_proj``, ``dense``,
    ``c_proj``: found by what it is given, not by name).
    ``norm_map`` [H, V, U] takes a head's output to coordinates whose plain norm is the norm after
    ``W_O`` (the triangle of its QR decomposition: ``||z W_O|| = ||z R^T||``).
    """

    index: int
    module: nn.Module
    block: nn.Module
    output: nn.Module
    norm_map: Tensor

    def value_norm(self, value: Tensor) -> Tensor:
        """[N, H]: the norm after ``W_O`` of values [N, G, V], as each head reads them."""
        maps = self.norm_map.unflatten(0, (value.shape[1], -1)).transpose(1, 2).flatten(2)
        written = torch.bmm(value.float().transpose(0, 1), maps)
        norms: Tensor = written.unflatten(-1, (-1, self.norm_map.shape[-1])).norm(dim=-1)
        return norms.transpose(0, 1).flatten(1)

    def projection(self, size: int, seed: int) -> Tensor:
        """[H, V, size]: ``W_O`` followed by one seeded random projection, the same for all layers
        (or ``W_O`` itself where the residual stream is no wider); cosines survive it
        (Johnson and Lindenstrauss 1984)."""
        output_map = _output_map(self.output, *self.norm_map.shape[:2]).to(self.norm_map.device)
        width = output_map.shape[-1]
        if width <= size:
            return output_map
        generator = torch.Generator().manual_seed(seed)
        squeeze = torch.randn(width, size, generator=generator) / size**0.5
        return torch.matmul(output_map, squeeze.to(output_map.device))


@dataclass(frozen=True)
class ObservedModel:
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
        """Where heads are observed, wherever the weights are."""
        return self.layers[0].norm_map.device

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Where it is computed: that where heads are observed, then the others that hold layers."""
        found = {parameter.device for parameter in self.model.parameters()} - {self.device}
        others = (device for device in found if device.type not in ("cpu", "meta"))
        return self.device, *sorted(others, key=str)

    @cached_property
    def is_stateless(self) -> bool:
        """Whether passes leave the model as it is, so that several may run at once: not where
        weights come and go (accelerate's hooks), nor where positions are scaled by the longest
        sequence of the pass; and what a checkpoint's own code or that of a quantisation library
        keeps nobody knows."""
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
        """The layer that an attention module belongs to."""
        return int(module.layer_idx)  # type: ignore[arg-type]


_SCALED = frozenset({"dynamic", "longrope"})


def _rope_types(module: nn.Module) -> set[str]:
    found = getattr(module, "rope_type", None)
    return set(found.values()) if isinstance(found, dict) else {str(found)}


def observe_model(model: PreTrainedModel, where: str, ids: Tensor) -> ObservedModel:
    """Switch the model to the observing attention function, once it is proved (``model.verify``) on
    ``ids`` [T]; HeadprobeError for a model that cannot be measured rightly."""
    check = verify_capture(model, where, ids.to(input_device(model)))
    heads, groups, width = check.shapes[0]
    layers = _layers(check, where)
    for layer in layers:
        layer.block.register_forward_pre_hook(_tell_residual(layer.index), with_kwargs=True)
    return ObservedModel(model, layers, heads, groups, width, check.learned_sinks)


def _tell_residual(layer: int) -> Callable[..., None]:
    """A hook by which the pass that runs through a block tells its own observer."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if (flat := RUNNING.get(None)) is not None:
            hidden = args[0] if args else kwargs["hidden_states"]
            flat.observer.residual(layer, hidden.to(flat.device))

    return hook


def _layers(check: CaptureCheck, where: str) -> tuple[Layer, ...]:
    layers = []
    for index, module in enumerate(check.modules):
        output = check.projections[module]
        heads, _, width = check.shapes[0]
        output_map = _output_map(output, heads, width)
        _check_matrix(where, output, output_map, check.outputs[module])
        triangle = torch.linalg.qr(output_map.transpose(1, 2).cpu(), mode="r").R
        norm_map = triangle.transpose(1, 2).contiguous().to(check.outputs[module].device)
        layers.append(Layer(index, module, check.blocks[module], output, norm_map))
    return tuple(layers)


def _check_matrix(where: str, output: nn.Module, output_map: Tensor, heads: Tensor) -> None:
    """HeadprobeError where what takes the heads' outputs [N, H, V] is no matrix (a norm, say, which
    some models put before the projection)."""
    if type(output) is nn.Linear:
        return
    with torch.inference_mode():
        given = heads.flatten(1)
        made = output(given).float() - output(torch.zeros_like(given[:1])).float()
    expected = given.float() @ output_map.flatten(0, 1).to(given.device)
    apart = (made.to(given.device) - expected).norm() / expected.norm()
    one_to_one = int(output_map.count_nonzero()) <= output_map.shape[-1]
    if one_to_one or not float(apart) <= HALF_TOLERANCE:  # quantised ones may round their input
        what = f"{type(output).__name__}, which takes its heads' outputs, is no linear projection"
        raise refusal(where, what)


def _output_map(output: Any, heads: int, width: int) -> Tensor:
    """``W_O`` [H, V, E] of an output projection in float32. Where it is no plain weight (GPT-2's,
    quantised, offloaded, with adapters) it is read off what the module makes of unit vectors. Not
    kept: it is as large as the weights themselves."""
    if type(output) is nn.Linear and not hasattr(output.weight, "__tensor_flatten__"):  # torchao's
        with align_module_device(output):  # where it is offloaded
            if output.weight.device.type != "meta":
                return output.weight.detach().T.float().reshape(heads, width, -1)
    parameter = next(iter(output.parameters()), None)
    dtype = parameter.dtype if parameter is not None and parameter.is_floating_point() else None
    device = parameter.device if parameter is not None else None
    if device is not None and device.type == "meta":
        device = None
    with torch.inference_mode():
        units = torch.eye(heads * width, device=device, dtype=dtype)
        answers: Tensor = output(units).float() - output(torch.zeros_like(units[:1])).float()
    return answers.view(heads, width, -1)
