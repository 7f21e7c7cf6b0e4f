"""Quantised checkpoints: how their weights are stored, and whether they can be loaded here.

transformers knows the formats and loads them. This module names them, and reports a missing library
before the weights are read.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from headprobe.errors import HeadprobeError
from headprobe.model.chatter import hold_back_chatter
from headprobe.model.load_errors import friendly_load_errors, quote

LIBRARIES = {
    "aqlm": "aqlm[cpu]",
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "eetq": "kernels",
    "fbgemm_fp8": "fbgemm-gpu",
    "fouroversix": "fouroversix",
    "fp_quant": "fp_quant",
    "gptq": "gptqmodel optimum",
    "higgs": "flute-kernel fast_hadamard_transform",
    "hqq": "hqq",
    "metal": "kernels",
    "mxfp4": "kernels",
    "nvfp4": "kernels",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "sinq": "sinq",
    "spqr": "spqr_quant",
    "torchao": "torchao",
    "vptq": "vptq",
}
"""The packages that transformers needs to load each format, as arguments of ``pip install``."""

_BITS = ("bits", "w_bit", "num_bits", "nbits")
"""Settings that give the number of bits."""

_ACTIVATION_SETTINGS = ("input_activations", "output_activations", "kv_cache_scheme")
"""Settings that are about activations, not weights."""

_SIZE_IN_NAME = re.compile(r"(?:int|float|fp|nf)(\d+)", re.IGNORECASE)


def describe_quantization(config: Any) -> str | None:
    """How the weights are stored, such as ``4-bit (bitsandbytes)``; None for ordinary weights."""
    values = _values(config)
    if values is None:
        return None
    method = _method(values)
    bits = _bits(method, values)
    return f"quantised ({method})" if bits is None else f"{bits}-bit ({method})"


def check_quantization(name: str, config: Any) -> None:
    """Raise HeadprobeError where the weights are quantised in a format that cannot be loaded."""
    values = _values(config)
    if values is None:
        return
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer

    method = _method(values)
    known = {each.split("_4bit")[0].split("_8bit")[0] for each in AUTO_QUANTIZATION_CONFIG_MAPPING}
    if method not in known:
        by = f"by {quote(repr(method))}" if method else "by an unnamed method"
        raise HeadprobeError(
            name,
            f"is quantised {by}, which the installed transformers cannot read",
            "Upgrade transformers, or name the original checkpoint without quantisation",
        )
    library = LIBRARIES.get(method, method)
    with (
        friendly_load_errors(name, f"is quantised by {method} and cannot be loaded here"),
        hold_back_chatter(),
    ):
        try:
            quantizer = AutoHfQuantizer.from_config(deepcopy(dict(values)), pre_quantized=True)
            quantizer.validate_environment(device_map=None)
        except ImportError as error:
            raise HeadprobeError(
                name,
                f"is quantised by {method}, and a library is not installed ({quote(error)})",
                f"Install it: pip install {library}",
            ) from error


def _values(config: Any) -> Any:
    """The quantisation settings as a mapping (or as whatever they are), or None."""
    values: Any = getattr(config, "quantization_config", None)
    if values is None:
        values = getattr(config.get_text_config(), "quantization_config", None)
    return values.to_dict() if hasattr(values, "to_dict") else values


def _method(values: Mapping[str, Any]) -> str:
    if values.get("load_in_4bit") or values.get("load_in_8bit"):
        return "bitsandbytes"
    method = values.get("quant_method") or ""
    return str(getattr(method, "value", method))


def _bits(method: str, values: Mapping[str, Any]) -> int | None:
    if method == "bitsandbytes":
        return 4 if values.get("load_in_4bit") else 8
    if (stated := _stated_bits(values)) is not None:
        return stated
    types = [values.get("weights"), values.get("quant_type"), method]  # quanto, torchao, fp8
    match = next(filter(None, (_SIZE_IN_NAME.search(str(each)) for each in types)), None)
    return None if match is None else int(match[1])


def _stated_bits(values: Mapping[str, Any]) -> int | None:
    """The number of bits of the weights that the settings give, at any depth; None without one."""
    for key in _BITS:
        if isinstance(values.get(key), int):
            return int(values[key])
    for key, value in values.items():
        if isinstance(value, Mapping) and key not in _ACTIVATION_SETTINGS:
            bits = _stated_bits(value)
            if bits is not None:
                return bits
    return None
