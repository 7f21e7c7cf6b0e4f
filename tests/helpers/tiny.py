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
_ROUTED = {
    "num_experts": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "head_dim": 8,
    "v_head_dim": 12,
}
_ONE_TO_ONE = {"num_key_value_heads": 4}
_OPT = {"ffn_dim": 64, "word_embed_proj_dim": 48}

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
    "apertus": ("apertus", {}),
    "arcee": ("arcee", {}),
    "biogpt": ("biogpt", _ONE_TO_ONE),
    "cohere": ("cohere", {}),
    "ctrl": ("ctrl", {**_ONE_TO_ONE, "dff": 64}),
    "deepseek_v2": ("deepseek_v2", {**_ROUTED, **_LATENT}),
    "deepseek_v3": ("deepseek_v3", {**_ROUTED, **_LATENT}),
    "dots1": ("dots1", _ROUTED),
    "ernie4_5": ("ernie4_5", {"head_dim": 12}),
    "exaone4": ("exaone4", {"sliding_window": 6}),
    "gemma": ("gemma", {"head_dim": 16}),
    "glm": ("glm", {"head_dim": 12}),
    "glm4": ("glm4", {"head_dim": 12}),
    "gpt2": ("gpt2", _ONE_TO_ONE),
    "gpt_bigcode": ("gpt_bigcode", {"num_key_value_heads": 1}),
    "gpt_neox": ("gpt_neox", _ONE_TO_ONE),
    "gpt_neox-sequential": ("gpt_neox", {**_ONE_TO_ONE, "use_parallel_residual": False}),
    "granitemoe": ("granitemoe", _EXPERTS),
    "helium": ("helium", {"head_dim": 12}),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", {"head_dim": 12}),
    "ministral3": ("ministral3", {"head_dim": 12}),
    "modernbert-decoder": ("modernbert-decoder", _ONE_TO_ONE),
    "olmo": ("olmo", {}),
    "olmo3": ("olmo3", {"sliding_window": 6}),
    "olmoe": ("olmoe", _ROUTED),
    "opt": ("opt", {**_ONE_TO_ONE, **_OPT}),
    "opt-narrow-embeddings": ("opt", {**_ONE_TO_ONE, **_OPT, "word_embed_proj_dim": 24}),
    "persimmon": ("persimmon", _ONE_TO_ONE),
    "phi": ("phi", {}),
    "phimoe": ("phimoe", _EXPERTS),
    "qwen2_moe": ("qwen2_moe", _ROUTED),
    "qwen3_moe": ("qwen3_moe", {**_ROUTED, "head_dim": 12}),
    "seed_oss": ("seed_oss", {"head_dim": 12}),
    "stablelm": ("stablelm", {"hidden_size": 64}),
    "starcoder2": ("starcoder2", {"sliding_window": 6}),
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
