"""Where a model's weights go: on one device where they fit, else wherever there is room."""

from copy import deepcopy
from typing import Any

import psutil
import torch
from transformers import AutoModelForCausalLM

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
    """None where the model fits on the device; else the bytes of weights that the device and the
    host's memory may hold, what does not fit there being read from disk layer by layer."""
    if weigh_model(config, dtype) <= free_memory(device) * (1 - LEFT_FREE):
        return None
    places: dict[Any, torch.device] = {"cpu": torch.device("cpu")}
    if device.type == "cuda":
        places = {device.index or 0: device, **places}
    return {name: int(free_memory(place) * (1 - LEFT_FREE)) for name, place in places.items()}
