"""Sizes in a configuration that no model can have, refused before anything is made of them."""

from collections.abc import Iterator, Mapping
from typing import Any

from headprobe.errors import HeadprobeError
from headprobe.model.load_errors import quote

LARGEST = {
    "num_hidden_layers": 5_000,
    "num_attention_heads": 1 << 14,
    "num_key_value_heads": 1 << 14,
    "head_dim": 1 << 16,
    "hidden_size": 1 << 20,
    "intermediate_size": 1 << 24,
    "vocab_size": 1 << 26,
    "max_position_embeddings": 1 << 40,
}
"""Sizes more than ten times as large as in any published model (126 layers of 128 heads, 16,384
wide): a larger one is damage, and making such a model would not end."""

_ALIASES = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "hidden_size": ("n_embd", "d_model"),
    "max_position_embeddings": ("n_positions", "n_ctx"),
}
"""Names that older families use in config.json."""

_REMEDY = "The file is damaged; get another copy"


def check_raw(name: str, values: Any) -> None:
    """HeadprobeError where ``values``, the content of a config.json, hold what cannot be.

    It comes before transformers makes a configuration of them, which divides by the number of heads
    and makes one entry for each layer.
    """
    if not isinstance(values, Mapping):
        raise HeadprobeError(name, "its config.json holds no settings", "Get another copy")
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


def check_sizes(name: str, text: Any) -> None:
    """HeadprobeError where the text decoder's configuration holds a size that cannot be."""
    for key, largest in LARGEST.items():
        _check(name, key, getattr(text, key, None), largest)
    heads = getattr(text, "num_attention_heads", None)
    groups = getattr(text, "num_key_value_heads", None)
    if isinstance(heads, int) and isinstance(groups, int) and heads % groups:
        raise HeadprobeError(
            name, f"its config.json shares {groups} key/value heads among {heads} heads", _REMEDY
        )


def _check(name: str, key: str, value: Any, largest: int) -> None:
    for size in _numbers(value):
        if not isinstance(size, int) or isinstance(size, bool):
            what = f"its config.json gives {key} as {quote(repr(size))}, which is no whole number"
        elif size < (0 if key == "intermediate_size" else 1):  # some experts do without
            what = f"its config.json gives {key} as {quote(size)}: at least 1 is needed"
        elif size > largest:
            what = f"its config.json gives {key} as {_short(size)}: at most {largest:,} is possible"
        else:
            continue
        raise HeadprobeError(name, what, _REMEDY)


def _numbers(value: Any) -> Iterator[Any]:
    """One number for all layers, or one for each; nothing where the family says it otherwise."""
    if isinstance(value, list | tuple):
        yield from value
    elif value is not None and not isinstance(value, Mapping):
        yield value


def _short(size: int) -> str:
    return f"{size:,}" if size < 10**18 else "more than 10**18"
