"""The number format in which a model runs, and why that one."""

from collections.abc import Mapping
from typing import Any

import torch

from headprobe.errors import HeadprobeError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Number formats in which models are run; statistics are float32, sums float64."""

NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""The capabilities (``torch.cpu.get_capabilities``) of x86 and Arm processors that multiply
bfloat16 themselves. Others convert each number, which is slower than float32."""

NARROW = 512
"""Hidden size below which most of a scan's time on a CPU is measuring, which is float32 anyway: 16
bits would only round the model's outputs. (The demo model, of hidden size 192, is scanned in the
same time in either; SmolLM2-135M, of 576, is measured in half the time.)"""


def choose_dtype(
    asked: str, config: Any, device: torch.device, *, stored_below_32: bool = False
) -> tuple[torch.dtype, str]:
    """The dtype and, where ``asked`` is ``auto``, the reason for it (else an empty string).

    ``auto`` takes the checkpoint's dtype on an accelerator. On a CPU it takes bfloat16 where the
    processor multiplies it natively, the weights are stored in 16 bits (in fewer than 32:
    ``stored_below_32``, for files whose configuration names no dtype), and the model is not
    ``NARROW``; else float32.
    """
    if asked != "auto":
        if asked not in DTYPES:
            raise HeadprobeError(
                f"--dtype {asked}",
                "models do not run in it here",
                "Use auto, float32, bfloat16 or float16",
            )
        return DTYPES[asked], ""
    text = config.get_text_config()
    own: Any = getattr(text, "dtype", None)
    if device.type != "cpu":
        if isinstance(own, torch.dtype) and own in DTYPES.values():
            return own, "auto: the checkpoint's"
        return torch.float32, "auto: the checkpoint names no other"
    return _choose_on_cpu(text, own, stored_below_32)


def _choose_on_cpu(text: Any, own: Any, stored_below_32: bool) -> tuple[torch.dtype, str]:
    if not (stored_below_32 or own in (torch.bfloat16, torch.float16)):
        return torch.float32, "auto: stored in 32 bits"
    if not multiplies_bfloat16():
        return torch.float32, "auto: this processor does not multiply 16 bits natively"
    if getattr(text, "hidden_size", NARROW) < NARROW:
        return torch.float32, "auto: the model is too small to gain from 16 bits"
    bits = "fewer than 32 bits" if stored_below_32 else "16 bits"
    return torch.bfloat16, f"auto: stored in {bits}, native on this processor"


def multiplies_bfloat16() -> bool:
    """Whether this machine's CPU multiplies bfloat16 natively; False where torch cannot tell."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in NATIVE)
