"""A twin of the model with random initial weights: the model before any training."""

from copy import deepcopy
from typing import Any

import torch
from accelerate import dispatch_model, infer_auto_device_map
from transformers import AutoModelForCausalLM, PreTrainedModel

from headprobe.model.devices import weight_memory
from headprobe.model.load import ATTENTION, CheckpointSource, offload_folder, quiet_libraries
from headprobe.model.load_errors import friendly_load_errors


def build_twin(
    source: CheckpointSource,
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
    *,
    spread: bool = False,
) -> PreTrainedModel:
    """Build a model of the same configuration with transformers' initial weights.

    The model is in evaluation mode. The same seed gives the same weights on the same kind of
    device, and the state of torch's global generators does not change. ``spread`` is as for
    ``load_model``.
    """
    room = weight_memory(config, device, dtype) if spread else None
    place = device if room is None else torch.device("cpu")
    devices = [device] if device.type == "cuda" else []
    with (
        friendly_load_errors(source.name, "its untrained twin cannot be built"),
        quiet_libraries(),
        torch.random.fork_rng(devices),
        place,
    ):
        torch.manual_seed(seed)
        if source.in_memory is not None:
            own_class: Any = type(source.in_memory.model)
            model: Any = own_class._from_config(
                deepcopy(config), attn_implementation=ATTENTION, dtype=dtype
            )
        else:
            model = AutoModelForCausalLM.from_config(
                deepcopy(config),
                attn_implementation=ATTENTION,
                dtype=dtype,
                trust_remote_code=source.trust_remote_code,
            )
    twin: PreTrainedModel = model.to(place).eval()
    if room is None:
        return twin
    parts = infer_auto_device_map(
        twin, max_memory=room, no_split_module_classes=list(twin._no_split_modules or ())
    )
    dispatch_model(twin, parts, offload_dir=offload_folder())
    return twin
