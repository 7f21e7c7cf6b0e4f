"""Where a model's weights go: on one device where they fit, else wherever there is room."""

from copy import deepcopy
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

LEFT_FREE = 0.2
"""The part of a device's free memory that is left to measuring when weights are spread."""


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on a device."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    return int(psutil.virtual_memory().available)


def weigh_model(config: Any, dtype: torch.dtype) -> int:
    """Bytes of the weights of a model with this configuration, which is not made for it."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(deepcopy(config), dtype=dtype)
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def room_beside(config: Any, device: torch.device, dtype: torch.dtype) -> dict[Any, int] | None:
    """None where the model fits on the device; else the bytes of weights that accelerators (by
    number) and the host's memory may hold, what does not fit there being read from disk layer by
    layer. Accelerators are all there are, but one of several processes has only its own, whose
    device has a number."""
    if weigh_model(config, dtype) <= free_memory(device) * (1 - LEFT_FREE):
        return None
    places: dict[Any, torch.device] = {"cpu": torch.device("cpu")}
    if device.type == "cuda":
        numbers = range(torch.cuda.device_count()) if device.index is None else [device.index]
        places = {**{number: torch.device("cuda", number) for number in numbers}, **places}
    return {name: int(free_memory(place) * (1 - LEFT_FREE)) for name, place in places.items()}


def tell_places(model: PreTrainedModel, name: str, device: torch.device) -> str:
    """What a user should know of where weights are that were not to fit on the device; nothing
    where they did."""
    parts: dict[str, Any] = vars(model)["hf_device_map"]
    places = [str(place) for place in dict.fromkeys(parts.values())]
    if len(places) < 2 and places != ["disk"]:
        return ""
    if {"cpu", "disk"} & set(places):
        where = "what is left of its weights is read from the host's memory, or from disk"
        return f"{name} does not fit on {device}: {where}, in every pass"
    accelerators = ", ".join(f"{device.type}:{place}" for place in places)
    return f"{name} does not fit on one device: its layers are on {accelerators}, in turn"
