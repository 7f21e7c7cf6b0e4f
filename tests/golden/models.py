"""Tiny checkpoints whose weights are the same on every machine and with every release of torch."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

SHAPE: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "sliding_window": 24}
KINDS: dict[str, dict[str, Any]] = {"llama": {}, "gpt_oss": EXPERTS}

PIECES = "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le"


def save_tiny(folder: Path, kind: str) -> None:
    """A checkpoint of this ``model_type`` with random weights, wide enough that attention is far
    from even, and a byte-level tokenizer of a few merges."""
    config = AutoConfig.for_model(kind, **SHAPE, **KINDS[kind])
    model = AutoModelForCausalLM.from_config(config).eval()
    # numpy's generator promises its stream; torch's depends on the processor and the release
    rng = np.random.default_rng(15)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1 or "sinks" in name:
                scale = 1.0 if "sinks" in name else 0.2
                values = rng.standard_normal(tuple(parameter.shape)) * scale
                parameter.copy_(torch.from_numpy(values))
            elif name.endswith("bias"):
                parameter.zero_()  # some are random when a model is built
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = PIECES.split()
    tokens = ["<pad>", "<s>", "</s>", *alphabet, *pieces]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[(piece[0], piece[1]) for piece in pieces],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
