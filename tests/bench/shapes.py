"""Models of known shapes with random weights, in float32."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPES = {
    "6-layer": (6, 288, 6, 6, 768, 32000),
    "135M": (30, 576, 9, 3, 1536, 49152),
    "1.1B": (22, 2048, 32, 4, 5632, 32000),
}
"""Layers, width, heads, KV heads, width of the MLP, vocabulary."""


def build(name: str) -> LlamaForCausalLM:
    """The model, with the seed 0."""
    layers, width, heads, groups, inner, vocabulary = SHAPES[name]
    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        intermediate_size=inner,
        vocab_size=vocabulary,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()
