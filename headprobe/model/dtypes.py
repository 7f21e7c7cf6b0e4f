"""The choice of the dtype in which a model runs."""

from collections.abc import Mapping
from typing import Any

import torch

from headprobe.errors import HeadprobeError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""The dtypes in which models can run. Statistics are float32 and sums float64 with all of them."""

NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""The capabilities (``torch.cpu.get_capabilities``) of x86 and Arm processors that multiply
bfloat16 natively. Other processors convert each number, which is slower than float32."""

NARROW = 512
"""The hidden size below which bfloat16 gains nothing on a CPU. Most of the time is then spent on
measuring, which is float32 anyway, and 16 bits would only round the model's outputs. (The demo
model, of hidden size 192, takes the same time in both; SmolLM2-135M, of 576, half the time.)"""


def choose_dtype(
    requested: str, config: Any, device: torch.device, *, stored_below_32: bool = False
) -> tuple[torch.dtype, str]:
    """The dtype and, where ``requested`` is ``auto``, the reason for it (else an empty string).

    On an accelerator ``auto`` means the checkpoint's dtype. On a CPU it means bfloat16 where the
    processor multiplies it natively, the weights are stored in 16 bits, and the model is not
    narrower than ``NARROW``; else float32. ``stored_below_32`` says that the weights are stored in
    fewer than 32 bits, for files whose configuration names no dtype.
    """
    if requested != "auto":
        if requested not in DTYPES:
            raise HeadprobeError(
                f"--dtype {requested}",
                "headprobe does not run models in it",
                "Use auto, float32, bfloat16 or float16",
            )
        return DTYPES[requested], ""
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
