"""GGUF files of tiny models, as llama.cpp's converter would write them."""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
from transformers import PreTrainedModel

from tests.helpers.checkpoints import toy_tokenizer
from tests.helpers.tiny import build, tiny_model

KINDS = {"llama-gqa": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3_text": "gemma3"}


def make_model(name: str) -> PreTrainedModel:
    """transformers reads no head size from a qwen3 file: 128, as in every released one."""
    return (
        build("qwen3", {"head_dim": 128, "hidden_size": 256})
        if name == "qwen3"
        else tiny_model(name)
    )


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """The order in which llama.cpp's converter writes the rows of a Llama's q and k."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def write_pieces(writer: gguf.GGUFWriter) -> None:
    """A SentencePiece vocabulary with bytes, as Gemma's."""
    special, space = ["<pad>", "<s>", "</s>", "<unk>"], "\u2581"
    letters = [space, *"etaoinshrdlucmfwygpbvk", space + "t", space + "th", space + "the", "ed"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    tokens += [f"<unused{number}>" for number in range(300 - len(tokens))]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types([3, 3, 3, 2, *[6] * 256, *[1] * (len(tokens) - 260)])
    writer.add_unk_token_id(3)


def write_tokenizer(writer: gguf.GGUFWriter) -> None:
    backend = json.loads(toy_tokenizer().backend_tokenizer.to_str())["model"]
    tokens = sorted(backend["vocab"], key=backend["vocab"].__getitem__)
    special = {"<pad>", "<s>", "</s>"}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in backend["merges"]])


def write_gguf(
    path: Path,
    name: str = "llama-gqa",
    *,
    file_type: gguf.LlamaFileType | None = gguf.LlamaFileType.ALL_F32,
    architecture: str | None = None,
    tensors: bool = True,
    spoil: Callable[[gguf.GGUFWriter], None] = lambda _: None,
) -> Path:
    """A tiny model as llama.cpp's converter would write it."""
    model, kind = make_model(name), KINDS[name]
    config = model.config
    writer = gguf.GGUFWriter(str(path), architecture or kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if kind == "gemma3":
        writer.add_sliding_window(config.sliding_window)
    else:
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if file_type is not None:
        writer.add_file_type(file_type)
    (write_pieces if kind == "gemma3" else write_tokenizer)(writer)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    spoil(writer)
    names = gguf.get_tensor_name_map(
        next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == kind),
        config.num_hidden_layers,
    )
    tied = config.tie_word_embeddings
    for key, tensor in model.state_dict().items() if tensors else ():
        if tied and key == "lm_head.weight":
            continue
        stem, suffix = key.rsplit(".", 1)
        values = tensor.numpy()
        if kind == "llama" and ".q_proj" in key:
            values = permute(values, config.num_attention_heads)
        if kind == "llama" and ".k_proj" in key:
            values = permute(values, config.num_key_value_heads)
        if kind == "gemma3" and "norm" in stem:
            values = values + 1
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
