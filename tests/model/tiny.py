"""Tiny random models of the real architectures."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 300
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"num_key_value_heads": 4}),
    "llama-gqa": ("llama", {}),
    "llama-mqa-wide-heads": ("llama", {"num_key_value_heads": 1, "head_dim": 20}),
    "mistral-window": ("mistral", {"sliding_window": 6}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 20}),
    "gemma2": ("gemma2", {"head_dim": 16, "sliding_window": 6, "attn_logit_softcapping": 5.0}),
    "gemma3_text": ("gemma3_text", {"head_dim": 16, "sliding_window": 6}),
    "phi3": ("phi3", {}),
    "olmo2": ("olmo2", {}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0, 1]}),
    "granite": ("granite", {"attention_multiplier": 0.3}),
    "cohere2": ("cohere2", {"sliding_window": 6}),
    "mixtral": ("mixtral", _EXPERTS),
    "gpt_oss": ("gpt_oss", {**_EXPERTS, "head_dim": 16, "sliding_window": 6}),
}


def tiny_model(name: str, seed: int = 0) -> PreTrainedModel:
    """A random model in float32 whose attention is far from uniform."""
    kind, options = ARCHITECTURES[name]
    return build(kind, options, seed)


def build(kind: str, options: dict[str, Any], seed: int = 0) -> PreTrainedModel:
    """A causal language model of this kind."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **{**_COMMON, **options})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
            elif "sinks" in parameter_name:
                torch.nn.init.normal_(parameter)
    return model


def random_ids(length: int, seed: int = 0) -> torch.Tensor:
    """[T] token ids that start with the beginning token."""
    ids = torch.randint(3, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed))
    ids[0] = 1
    return ids
