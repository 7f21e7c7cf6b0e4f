"""The same model before it learned anything."""

from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from headprobe.model.checkpoint import Source, quietly
from headprobe.model.faults import mended


def build_twin(
    source: Source, config: Any, device: torch.device, dtype: torch.dtype, seed: int
) -> PreTrainedModel:
    """A model of the same configuration with transformers' own initial weights, in evaluation mode.

    The same seed gives the same weights on the same kind of device; the generators of others stay
    as they are.
    """
    devices = [device] if device.type == "cuda" else []
    with (
        mended(source.name, "no twin of it can be built"),
        quietly(),
        torch.random.fork_rng(devices),
        torch.device(device),
    ):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(
            deepcopy(config), dtype=dtype, trust_remote_code=source.trust_remote_code
        )
    twin: PreTrainedModel = model.to(device).eval()
    return twin
