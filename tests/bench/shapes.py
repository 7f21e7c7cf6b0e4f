"""Models of known shapes with random weights."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

_SIX = (6, 288, 6, 6, 768, 32000)

SHAPES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "6-layer": ("llama", _SIX, {}),
    "135M": ("llama", (30, 576, 9, 3, 1536, 49152), {}),
    "1.1B": ("llama", (22, 2048, 32, 4, 5632, 32000), {}),
    "6-layer-window": ("mistral", _SIX, {"sliding_window": 64}),
    "6-layer-cap": ("gemma2", _SIX, {"head_dim": 48, "query_pre_attn_scalar": 48}),
    "6-layer-sinks": (
        "gpt_oss",
        _SIX,
        {
            "head_dim": 48,
            "num_local_experts": 1,
            "num_experts_per_tok": 1,
            "max_position_embeddings": 131072,
        },
    ),
}
"""Kind, sizes and what is special: every layer has a window, or soft caps, or learned sinks (and
every other one a window of 128; with one expert, for plain passes as cheap as the others')."""

_SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
)


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build(name: str, dtype: str) -> PreTrainedModel:
    """The model in one of ``DTYPES``, with the seed 0."""
    kind, sizes, special = SHAPES[name]
    options = {**dict(zip(_SIZES, sizes, strict=True)), "max_position_embeddings": 8192, **special}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, tie_word_embeddings=True, **options)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype])
    return model.eval()
