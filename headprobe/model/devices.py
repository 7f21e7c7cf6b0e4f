"""Where a model's weights go: on one device where they fit, else wherever there is room."""

from contextlib import suppress
from copy import deepcopy
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

HOST = torch.device("cpu")

OFFLOADED = {"cpu", "disk"}
"""Where accelerate puts what no accelerator has room for."""

FREE_SHARE = 0.2
"""The part of a device's free memory that is left to measuring when weights are spread."""


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    return int(psutil.virtual_memory().available)


def weight_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of the weights of a model with this configuration, which is not made for it."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(deepcopy(config), dtype=dtype)
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def weight_memory(config: Any, device: torch.device, dtype: torch.dtype) -> dict[Any, int] | None:
    """None where the model fits on the device; else the bytes of weights that accelerators (by
    number) and the host's memory may hold, what does not fit there being read from disk layer by
    layer. Accelerators are all that can be used, but one of several processes has only its own,
    whose device has a number."""
    if weight_bytes(config, dtype) <= free_memory(device) * (1 - FREE_SHARE):
        return None
    free: dict[Any, int] = {}
    if device.type == "cuda":
        numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
        for number in numbers:
            with suppress(RuntimeError):  # it is another's
                free[number] = free_memory(torch.device("cuda", number))
    free["cpu"] = free_memory(HOST)
    return {place: int(size * (1 - FREE_SHARE)) for place, size in free.items()}


def input_device(model: PreTrainedModel) -> torch.device:
    """Where its passes begin: on the first accelerator that holds some of it, else on the host."""
    accelerators = [place for place in _placement(model) if place not in OFFLOADED]
    return torch.device(accelerators[0]) if accelerators else HOST


def describe_placement(model: PreTrainedModel, name: str, device: torch.device) -> str:
    """What a user should know of where weights are that were not to fit on the device; nothing
    where they did."""
    places = _placement(model)
    if places == ["cpu"]:
        return "" if device == HOST else f"{name} does not fit on {device}: it runs on the CPU"
    if OFFLOADED & set(places):
        where = "what is left of its weights is read from the host's memory, or from disk"
        return f"{name} does not fit on {device}: {where}, in every pass"
    if len(places) == 1:
        return ""
    return f"{name} does not fit on one device: its layers are on {', '.join(places)}, in turn"


def _placement(model: PreTrainedModel) -> list[str]:
    """The devices that hold a part of it, in the order of its parts, and ``OFFLOADED`` ones."""
    whole = HOST if model.device.type == "meta" else model.device  # one place need not be told
    parts: dict[str, Any] = getattr(model, "hf_device_map", {"": whole})
    names = (f"cuda:{place}" if isinstance(place, int) else str(place) for place in parts.values())
    return list(dict.fromkeys(names))
