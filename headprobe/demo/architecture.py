"""The demo model's shape, and the attention it is trained with on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM

from headprobe.demo.tokenizer import BEGIN_ID, END_ID, save_tokenizer

CONTEXT = 512
BLOCK = 256
FUTURE = torch.full((BLOCK, BLOCK), -30000.0).triu(1)


def demo_config(vocabulary: int) -> LlamaConfig:
    """6 layers of 8 query heads over 4 key/value heads, width 192: 3.2 M parameters.

    The heads together are wider (256) than the model: more seats for jobs at the same cost.
    """
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=448,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=BEGIN_ID,
        eos_token_id=END_ID,
        rms_norm_eps=1e-6,
    )


def blocked_attention(
    module: nn.Module,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    scaling: float = 1.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention in blocks of 256 query rows.

    query [B, H, T, D], key and value [B, G, T, D] -> [B, T, H, D]. Small matrix products beat the
    fused kernel on a CPU, whose backward pass took over half of a training step.
    """
    batch, heads, length, size = query.shape
    group = heads // key.shape[1]
    keys = key.repeat_interleave(group, 1).flatten(0, 1)
    values = value.repeat_interleave(group, 1).flatten(0, 1)
    queries = (query * scaling).flatten(0, 1)
    parts = []
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        scores = torch.bmm(queries[:, start:end], keys[:, :end].transpose(1, 2))
        future = FUTURE[: end - start, : end - start].to(scores)
        weights = torch.softmax((scores + functional.pad(future, (start, 0))).float(), -1)
        parts.append(torch.bmm(weights.to(values.dtype), values[:, :end]))
    together = torch.cat(parts, 1).reshape(batch, heads, length, size)
    return together.transpose(1, 2), None


def no_mask(*_: Any, **__: Any) -> None:
    """The attention above is causal by itself, and padding stands only at the end."""


def build_model(config: LlamaConfig, device: torch.device) -> LlamaForCausalLM:
    """A model with fresh random weights, on its training attention."""
    model = LlamaForCausalLM(config)
    if device.type == "cpu":
        AttentionInterface.register("demo_blocked", blocked_attention)
        AttentionMaskInterface.register("demo_blocked", no_mask)
        model.set_attn_implementation("demo_blocked")
    nn.Module.to(model, device)
    return model


def save_model(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a plain `from_pretrained` folder: bfloat16 weights, config, tokenizer."""
    half = LlamaForCausalLM(LlamaConfig.from_dict(model.config.to_dict()))
    half.load_state_dict(model.state_dict())
    nn.Module.to(half, torch.bfloat16)
    half.config.dtype = torch.bfloat16
    half.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
