"""Checks of the sizes in a config.json, made before transformers uses them.

A damaged size makes transformers divide by zero or build layers without end.
"""

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
"""The largest accepted sizes, each more than ten times that of any published model (126 layers of
128 heads, 16,384 wide). A larger size is damage, and building such a model would not end."""

_ALIASES = {
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "hidden_size": ("n_embd", "d_model"),
    "max_position_embeddings": ("n_positions", "n_ctx"),
}
"""Names of the same settings in the config.json of older families."""

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


def _check(name: str, key: str, value: Any, largest: int) -> None:
    for size in _numbers(value):
        if not isinstance(size, int) or isinstance(size, bool):
            what = (
                f"its config.json gives {key} as {quote(repr(size))}, which is not a whole number"
            )
        elif size < (0 if key == "intermediate_size" else 1):  # models of experts may have 0
            what = f"its config.json gives {key} as {quote(size)}, which must be at least 1"
        elif size > largest:
            what = (
                f"its config.json gives {key} as {_short(size)}, which must be at most {largest:,}"
            )
        else:
            continue
        raise HeadprobeError(name, what, _REMEDY)


def _numbers(value: Any) -> Iterator[Any]:
    """The sizes in a setting: one for all layers, or one per layer; none where a family stores the
    setting in another form."""
    if isinstance(value, list | tuple):
        yield from value
    elif value is not None and not isinstance(value, Mapping):
        yield value


def _short(size: int) -> str:
    return f"{size:,}" if size < 10**18 else "more than 10**18"
