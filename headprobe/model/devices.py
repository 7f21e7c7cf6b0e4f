"""Placing a model's weights: on one device where they fit, else wherever there is memory."""

from contextlib import suppress
from copy import deepcopy
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

HOST = torch.device("cpu")
"""The device of the host's memory."""

OFFLOADED = {"cpu", "disk"}
"""Places where accelerate keeps weights that fit on no accelerator."""

FREE_SHARE = 0.2
"""The share of a device's free memory that stays free for measuring when weights are spread."""


def free_memory(device: torch.device) -> int:
    """The free memory of a device, in bytes, including what torch has reserved and does not use."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    return int(psutil.virtual_memory().available)


def weight_bytes(config: Any, dtype: torch.dtype) -> int:
    """The bytes of the weights of a model with this configuration, without allocating them."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(deepcopy(config), dtype=dtype)
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def count_weights(config: Any) -> int:
    """The number of weights of a model with this configuration, without allocating them."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(deepcopy(config))
    return sum(parameter.numel() for parameter in model.parameters())


def weight_memory(config: Any, device: torch.device, dtype: torch.dtype) -> dict[Any, int] | None:
    """How many bytes of weights each place may hold, or None where the model fits on ``device``.

    The places are the accelerators, by number, and ``cpu``; accelerate reads weights that fit on
    none of them from disk, layer by layer. A ``device`` with a number is the only accelerator, as
    in one of several processes; without a number all accelerators are used.
    """
    if weight_bytes(config, dtype) <= free_memory(device) * (1 - FREE_SHARE):
        return None
    free: dict[Any, int] = {}
    if device.type == "cuda":
        numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
        for number in numbers:
            with suppress(RuntimeError):  # another process has it for itself
                free[number] = free_memory(torch.device("cuda", number))
    free["cpu"] = free_memory(HOST)
    return {place: int(size * (1 - FREE_SHARE)) for place, size in free.items()}


def input_device(model: PreTrainedModel) -> torch.device:
    """The device where passes begin: the first accelerator that holds a part of the model, else the
    host."""
    accelerators = [place for place in _placement(model) if place not in OFFLOADED]
    return torch.device(accelerators[0]) if accelerators else HOST


def describe_placement(model: PreTrainedModel, name: str, device: torch.device) -> str:
    """A warning about where the weights are, for a model that did not fit on ``device``; empty
    where there is nothing to say."""
    places = _placement(model)
    if places == ["cpu"]:
        return "" if device == HOST else f"{name} does not fit on {device}: it runs on the CPU"
    if OFFLOADED & set(places):
        where = "the rest of its weights is read from the host's memory or from disk"
        return f"{name} does not fit on {device}: {where} in every pass"
    if len(places) == 1:
        return ""
    return f"{name} does not fit on one device: its layers are on {', '.join(places)}, in turn"


def _placement(model: PreTrainedModel) -> list[str]:
    """The places that hold parts of the model, in the order of the parts."""
    whole = HOST if model.device.type == "meta" else model.device  # for a model in one place
    parts: dict[str, Any] = getattr(model, "hf_device_map", {"": whole})
    names = (f"cuda:{place}" if isinstance(place, int) else str(place) for place in parts.values())
    return list(dict.fromkeys(names))
