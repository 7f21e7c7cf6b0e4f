"""Checks of a checkpoint's JSON files, made before libraries use them.

A damaged size makes transformers divide by zero or build layers without end; a few rules of a
tokenizer can turn one letter into more text than fits into memory.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from headprobe.errors import HeadprobeError
from headprobe.model.devices import count_weights
from headprobe.model.load_errors import friendly_load_errors, quote

LARGEST = {
    "num_hidden_layers": 1_300,
    "num_attention_heads": 1 << 14,
    "num_key_value_heads": 1 << 14,
    "head_dim": 1 << 16,
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 24,
    "vocab_size": 1 << 26,
    "max_position_embeddings": 1 << 40,
    "num_labels": 1 << 20,
}
"""The largest accepted sizes, each more than ten times that of any published model (126 layers of
128 heads, 16,384 wide). A larger size is damage, and building such a model would not end."""

_MODULES = re.compile(r"(?:num|n)_(?:\w+_)?(?:layers?|blocks|experts|heads|groups)")
"""Settings that count parts of the model, in any family."""

MOST_MODULES = 1 << 14
"""The largest accepted number of parts of one kind, for settings that ``LARGEST`` does not list."""

WEIGHTS_PER_BYTE = 16
"""The most weights that a byte of a file can give. The densest published formats store five in a
byte (1.6 bits each)."""

HARMLESS = 1 << 27
"""The number of weights that fit into any machine's memory (512 MiB)."""

_ALIASES = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "hidden_size": ("n_embd", "d_model"),
    "max_position_embeddings": ("n_positions", "n_ctx"),
}
"""Names of the same settings in the config.json of older families."""

_IN_GGUF = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "expert_count": "num_attention_heads",
    "vocab_size": "vocab_size",
}
"""Names of the same settings in the header of a GGUF file, after the name of the architecture; the
number of experts has the limit of the number of heads."""

_MAY_BE_ZERO = {"intermediate_size", "feed_forward_length", "expert_count", "num_labels"}
"""Settings that are 0 in models of experts, or in models without."""

_REMEDY = "The file is damaged; get another copy"


def check_raw(name: str, values: Any) -> None:
    """Raise HeadprobeError where ``values``, the contents of a config.json, are impossible.

    Call it before transformers builds a configuration from them, which divides by the number of
    heads and makes one entry per layer.
    """
    if not isinstance(values, Mapping):
        raise HeadprobeError(name, "its config.json contains no settings", "Get another copy")
    quantization = values.get("quantization_config")
    if quantization is not None and not isinstance(quantization, Mapping):
        raise HeadprobeError(
            name,
            f"its config.json gives quantization_config as {quote(repr(quantization))}",
            _REMEDY,
        )
    for part in (values, values.get("text_config")):
        if isinstance(part, Mapping):
            for canonical, largest in LARGEST.items():
                for key in (canonical, *_ALIASES.get(canonical, ())):
                    _check(name, key, part.get(key), largest)
            for key, value in part.items():
                if str(key).startswith("__"):
                    # transformers makes attributes of all settings, and would replace a method
                    what = f"its config.json has the setting {quote(repr(key))}"
                    raise HeadprobeError(name, what, _REMEDY)
                if _MODULES.fullmatch(str(key)) and isinstance(value, int) and value > MOST_MODULES:
                    _check(name, key, value, MOST_MODULES)


def check_header(name: str, architecture: str, values: Mapping[str, Any]) -> None:
    """Raise HeadprobeError where ``values``, the header of a GGUF file, have an impossible size."""
    for key, canonical in _IN_GGUF.items():
        value = values.get(f"{architecture}.{key}")
        if value is not None:
            _check(name, key, value, LARGEST[canonical], "header")


def check_sizes(name: str, text: Any) -> None:
    """Raise HeadprobeError where the text decoder's configuration has an impossible size."""
    for key, largest in LARGEST.items():
        _check(name, key, getattr(text, key, None), largest)
    heads = getattr(text, "num_attention_heads", None)
    groups = getattr(text, "num_key_value_heads", None)
    if isinstance(heads, int) and isinstance(groups, int) and heads % groups:
        raise HeadprobeError(
            name, f"its config.json divides {heads} heads among {groups} key/value heads", _REMEDY
        )


MOST_GROWTH = 1000
"""The most characters that the normalizer of a tokenizer may make of one."""


def check_tokenizer(name: str, path: Path) -> None:
    """Raise HeadprobeError where the tokenizer.json at ``path`` multiplies text.

    Files that are no JSON are left to the library that reads them.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    for part in ("normalizer", "decoder"):
        if isinstance(values, Mapping) and _growth(values.get(part)) > MOST_GROWTH:
            raise HeadprobeError(
                name, f"the {part} of its tokenizer makes text too long", "Get another copy"
            )


def _growth(step: Any, depth: int = 0) -> float:
    """The most characters that a normalizer or decoder can make of one."""
    if not isinstance(step, Mapping) or depth > _DEEPEST:
        return 1.0
    growth = 1.0
    for part in ("normalizers", "decoders"):
        steps = step.get(part)
        for each in steps if isinstance(steps, list) else ():
            growth = min(growth * _growth(each, depth + 1), 2.0 * MOST_GROWTH)
    pattern, content = step.get("pattern"), step.get("content")
    if isinstance(pattern, Mapping) and isinstance(content, str):
        text = pattern.get("String")
        if isinstance(text, str) and text:
            growth *= max(1.0, len(content) / len(text))
        else:
            growth *= len(content) + 1.0  # a regular expression may match between all characters
    return growth


_DEEPEST = 16
"""The most lists of steps inside each other that are looked at."""


def check_amount(name: str, config: Any, files: Sequence[Path]) -> None:
    """Raise HeadprobeError where the model needs far more weights than its ``files`` can hold.

    Where no file is here yet, nothing is checked. Weights that are missing would otherwise be
    allocated before they are missed; so few that they do no harm get more precise errors later.
    """
    stored = sum(path.stat().st_size for path in files)
    most = max(WEIGHTS_PER_BYTE * stored, HARMLESS)
    if not files or _estimate(config) <= most:
        return
    number = _count(name, config)
    if number > most:
        raise HeadprobeError(
            name,
            f"its config.json describes {number:,} weights, but its files have {stored:,} bytes",
            "The weights belong to another configuration; get both from the same source",
        )


def check_memory(name: str, config: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Raise HeadprobeError where the weights alone need more memory than the machine has.

    Only for a model on the CPU, where the system would end the process. Quantised weights need less
    than ``dtype`` says and are not checked; nor are accelerators, which report their memory.
    """
    if device.type != "cpu" or getattr(config, "quantization_config", None) is not None:
        return
    available = psutil.virtual_memory().total + psutil.swap_memory().total
    if _estimate(config) * dtype.itemsize <= available:
        return
    size = _count(name, config) * dtype.itemsize
    if size > available:
        raise HeadprobeError(
            name,
            f"its weights need {size / 2**30:,.0f} GiB, and this machine has "
            f"{available / 2**30:,.0f} GiB of memory",
            "Use --device auto, which reads from disk what does not fit, or a smaller model",
        )


def _estimate(config: Any) -> int:
    """Roughly the number of weights, by the sizes that most families have. It only decides whether
    they are worth counting, which takes longer."""
    text = config.get_text_config()

    def size(*keys: str) -> int:
        return max((max(_whole(getattr(text, key, 0)), default=0) for key in keys), default=0)

    hidden = size("hidden_size")
    experts = max(1, size("num_local_experts", "num_experts", "n_routed_experts"))
    inner = size("intermediate_size", "moe_intermediate_size", "ffn_dim", "n_inner")
    heads = size("num_attention_heads") * size("head_dim")
    layer = hidden * (4 * max(hidden, heads) + 3 * inner * experts)
    return 2 * size("vocab_size") * hidden + size("num_hidden_layers") * layer


def _whole(value: Any) -> list[int]:
    return [number for number in _numbers(value) if isinstance(number, int)]


def _count(name: str, config: Any) -> int:
    with friendly_load_errors(name):
        return count_weights(config)


def _check(name: str, key: str, value: Any, largest: int, file: str = "config.json") -> None:
    for size in _numbers(value):
        if not isinstance(size, int) or isinstance(size, bool):
            what = f"as {quote(repr(size))}, which is not a whole number"
        elif size < (0 if key in _MAY_BE_ZERO else 1):
            what = f"as {_short(size)}, which must be at least 1"
        elif size > largest:
            what = f"as {_short(size)}, which must be at most {largest:,}"
        else:
            continue
        raise HeadprobeError(name, f"its {file} gives {key} {what}", _REMEDY)


def _numbers(value: Any) -> Iterator[Any]:
    """The sizes in a setting: one for all layers, or one per layer; none where a family stores the
    setting in another form."""
    if isinstance(value, list | tuple):
        yield from value
    elif value is not None and not isinstance(value, Mapping):
        yield value


def _short(size: int) -> str:
    return f"{size:,}" if abs(size) < 10**18 else "a number of more than 18 digits"
