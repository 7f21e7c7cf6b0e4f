"""The choice of dtype, and the reason given for it."""

import pytest
import torch
from transformers import LlamaConfig

from headprobe.errors import HeadprobeError
from headprobe.model import dtypes
from headprobe.model.dtypes import choose_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


def config(dtype: torch.dtype | None, hidden_size: int = 1024) -> LlamaConfig:
    return LlamaConfig(dtype=dtype, hidden_size=hidden_size)


@pytest.mark.parametrize(
    ("stored", "native", "below_32", "expected", "reason"),
    [
        (BF16, True, False, BF16, "stored in 16 bits, native on this processor"),
        (F16, True, False, BF16, "stored in 16 bits, native"),
        (None, True, True, BF16, "fewer than 32 bits, native"),
        (F32, True, False, F32, "stored in 32 bits"),
        (None, True, False, F32, "stored in 32 bits"),
        (BF16, False, False, F32, "does not multiply 16 bits"),
        (None, False, True, F32, "does not multiply 16 bits"),
    ],
)
def test_auto_dtype_on_a_cpu(monkeypatch, stored, native, below_32, expected, reason) -> None:
    monkeypatch.setattr(dtypes, "multiplies_bfloat16", lambda: native)
    dtype, why = choose_dtype("auto", config(stored), CPU, stored_below_32=below_32)
    assert dtype is expected
    assert why.startswith("auto: ")
    assert reason in why


def test_auto_dtype_of_narrow_models_is_float32(monkeypatch) -> None:
    monkeypatch.setattr(dtypes, "multiplies_bfloat16", lambda: True)
    assert choose_dtype("auto", config(BF16, 512), CPU)[0] is BF16
    assert choose_dtype("auto", config(BF16, 448), CPU) == (
        F32,
        "auto: the model is too small to gain from 16 bits",
    )


@pytest.mark.parametrize(
    ("stored", "expected"), [(BF16, BF16), (F16, F16), (F32, F32), (None, F32)]
)
def test_auto_dtype_on_an_accelerator_is_that_of_the_checkpoint(stored, expected) -> None:
    assert choose_dtype("auto", config(stored), CUDA)[0] is expected


def test_named_dtype_is_used_without_a_reason() -> None:
    assert choose_dtype("float32", config(BF16), CPU) == (F32, "")
    with pytest.raises(HeadprobeError, match=r"--dtype int8.*Use auto"):
        choose_dtype("int8", config(BF16), CPU)


@pytest.mark.parametrize(
    ("capabilities", "native"),
    [
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"architecture": "aarch64", "bf16": True}, True),
        ({"architecture": "aarch64", "neon": True}, False),
    ],
)
def test_multiplies_bfloat16_follows_the_capabilities_of_the_processor(
    monkeypatch, capabilities, native
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert dtypes.multiplies_bfloat16() is native


def test_multiplies_bfloat16_is_false_if_torch_reports_no_capabilities(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not dtypes.multiplies_bfloat16()
