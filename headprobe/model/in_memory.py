"""A model that the caller has in memory: a scan borrows it and leaves it unchanged."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from headprobe.errors import HeadprobeError
from headprobe.model.devices import input_device

REMEDY = "Save it with save_pretrained (the tokenizer, too) and name the folder"
"""The remedy where a model in memory cannot be used."""


@dataclass(frozen=True, eq=False)
class InMemoryModel:
    """A causal language model and its tokenizer, as the caller gave them."""

    model: PreTrainedModel
    tokenizer: Any
    adapter: str | None = None
    """The names of the active adapters."""

    @classmethod
    def of(cls, model: Any, tokenizer: Any) -> Self:
        """Accept a transformers model, or a ``PeftModel`` whose adapter changes weights.

        Raises HeadprobeError for anything else.
        """
        adapter = None
        if hasattr(model, "get_base_model") and hasattr(model, "peft_config"):
            if any(each.is_prompt_learning for each in model.peft_config.values()):
                raise HeadprobeError(
                    "model",
                    "its adapter adds trained vectors before the text",
                    "Use an adapter that changes weights, such as LoRA",
                )
            adapter = ", ".join(model.active_adapters)
            model = model.get_base_model()
        if not isinstance(model, PreTrainedModel):
            raise HeadprobeError(
                "model",
                f"is a {type(model).__name__}, not a transformers model",
                "Give a PreTrainedModel, a folder or a Hub id",
            )
        if tokenizer is None:
            raise HeadprobeError(
                "tokenizer", "is missing", "A model in memory needs its own: tokenizer=..."
            )
        if model.get_output_embeddings() is None:
            raise HeadprobeError(
                "model",
                f"{type(model).__name__} has no output embeddings",
                "Give a causal language model, as loaded by AutoModelForCausalLM",
            )
        if model.device.type == "meta" and not hasattr(model, "hf_device_map"):
            raise HeadprobeError("model", "has no weights: it is on the meta device", "Load them")
        return cls(model, tokenizer, adapter)

    @property
    def name(self) -> str:
        """The model's ``name_or_path``, or its class where that is empty."""
        return str(self.model.name_or_path or type(self.model).__name__)

    def device(self, requested: str) -> torch.device:
        """The model's device; raises HeadprobeError where another one is requested."""
        device = input_device(self.model)
        if requested != "auto" and torch.device(requested).type != device.type:
            raise HeadprobeError(
                f"device={requested!r}",
                f"the model is on {device}, and a scan does not move it",
                f"Move it with model.to({requested!r}), or leave device out",
            )
        return device

    def dtype(self, requested: str) -> torch.dtype:
        """The model's dtype; raises HeadprobeError where another one is requested."""
        name = str(self.model.dtype).removeprefix("torch.")
        if requested not in ("auto", name):
            raise HeadprobeError(
                f"dtype={requested!r}",
                f"the model is in {name}, and a scan does not convert it",
                f"Convert it with model.to(torch.{requested}), or leave dtype out",
            )
        return self.model.dtype

    @contextmanager
    def lent(self) -> Iterator[PreTrainedModel]:
        """The model in evaluation mode while open; afterwards it is restored (``restored``)."""
        with restored(self.model):
            self.model.eval()
            yield self.model

    def sha256(self) -> str:
        """The SHA-256 of the model's weights.

        It covers the name, dtype, shape and bytes of every tensor of the state dictionary, in order
        of name, and for adapters which of them are active and their scaling.
        """
        entries = []
        for path, module in self.model.named_modules():
            prefix = f"{path}." if path else ""
            with align_module_device(module):  # loads weights that are offloaded
                state: dict[str, Any] = {}
                module._save_to_state_dict(state, prefix, keep_vars=False)
                entries += [
                    f"{name} {_describe(value)}"
                    for name, value in state.items()
                    if isinstance(value, Tensor)
                ]
            active = {key: getattr(module, key, None) for key in ("active_adapters", "scaling")}
            if all(active.values()):  # a layer of peft
                entries.append(f"{prefix} {active} {module.disable_adapters} {module.merged}")
        return hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()


def _describe(tensor: Tensor) -> str:
    """A tensor's dtype, shape and hash of its bytes; for a tensor subclass those of its parts."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, context = tensor.__tensor_flatten__()
        parts = [f"{name}={_describe(getattr(tensor, name))}" for name in names]
        return f"{type(tensor).__name__} {context} {' '.join(parts)}"
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.sha256(flat.numpy().data).hexdigest()
    return f"{tensor.dtype} {tuple(tensor.shape)} {digest}"


@contextmanager
def restored(model: PreTrainedModel) -> Iterator[None]:
    """Restore the model's modules and configurations on exit, also after an exception.

    Every attribute is restored: hooks, training mode, the attention implementation of each
    configuration. So are the values of non-persistent buffers, because rotary embeddings that grow
    with the text change theirs during a pass. Weights are not copied, because a scan does not
    change them.
    """
    modules = list(model.modules())
    owners: list[Any] = [*modules, *_configurations(modules)]
    attributes = [
        {key: (value, _entries(value)) for key, value in vars(owner).items()} for owner in owners
    ]
    buffers = [
        (buffer, buffer.clone())
        for module in modules
        for name in module._non_persistent_buffers_set
        if (buffer := module._buffers.get(name)) is not None and buffer.device.type != "meta"
    ]
    try:
        yield
    finally:
        for owner, saved in zip(owners, attributes, strict=True):
            current = vars(owner)
            for key in current.keys() - saved.keys():
                del current[key]
            for key, (value, entries) in saved.items():
                current[key] = value
                if entries is not None:
                    value.clear()
                    value.update(entries)
        with torch.no_grad():
            for buffer, values in buffers:
                buffer.copy_(values)


def _entries(value: Any) -> dict[Any, Any] | set[Any] | None:
    """A copy of a dictionary or set, such as a module's hooks; None for other values."""
    return value.copy() if isinstance(value, dict | set) else None


def _configurations(modules: list[nn.Module]) -> list[PreTrainedConfig]:
    """The configurations of ``modules``, and those nested in them, each once."""
    configurations: dict[int, PreTrainedConfig] = {}
    pending = [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, PreTrainedConfig)
    ]
    while pending:
        config = pending.pop()
        if id(config) not in configurations:
            configurations[id(config)] = config
            pending += [
                each for each in vars(config).values() if isinstance(each, PreTrainedConfig)
            ]
    return list(configurations.values())
