"""Weights that half precision cannot hold: early checkpoints have many of them.

float16 has no normal numbers below 2^-14. Weights that are smaller lose digits or become zero, so
that a checkpoint that was stored in it is not the one that was trained.
"""

from typing import Any

import torch

from headprobe.model.files import weight_files
from headprobe.model.load import CheckpointSource
from headprobe.model.load_errors import friendly_load_errors

SHARE = 0.01
"""The share of such weights above which a warning is printed. Of normally distributed weights with
the standard deviation .02, with which most models start, .24 % are so small."""

_MOST = 1 << 20
"""The largest number of weights of a matrix that are looked at."""


def underflowing_share(source: CheckpointSource, config: Any, dtype: torch.dtype) -> float | None:
    """Return the share of the weights that float16 cannot hold as normal numbers.

    None where float16 plays no part: where the checkpoint is not stored in it, and not loaded in
    it (``dtype``). Only matrices in safetensors files count, since biases and norms often are zero.
    """
    small = total = 0
    for path in weight_files(source, config):
        if path.suffix != ".safetensors":
            continue
        from safetensors import safe_open

        with friendly_load_errors(source.name), safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                part = tensors.get_slice(name)
                if len(part.get_shape()) < 2:
                    continue
                if part.get_dtype() != "F16" and dtype != torch.float16:
                    continue
                rows = max(1, _MOST // max(1, part.get_shape()[1]))
                weights = part[:rows]
                small += int((weights.abs() < torch.finfo(torch.float16).tiny).sum())
                total += weights.numel()
    return small / total if total else None
