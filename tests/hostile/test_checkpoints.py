"""Hostile checkpoints: configurations and weights that cannot be used, one cause each."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from tests.helpers.broken import (
    INDEX,
    SHARD,
    WEIGHTS,
    Breaker,
    both,
    config,
    content,
    fifo,
    header,
    in_place_of,
    index,
    pickled,
    remove,
    sparse,
    tensors,
    torch_file,
)
from tests.hostile.driver import Attack, Case, Workplace, assert_promise

QUERY = "model.layers.0.self_attn.q_proj.weight"
NORM = "model.layers.1.input_layernorm.weight"


def quantised(**settings: object) -> Breaker:
    return config(quantization_config=settings)


def rope(**settings: object) -> Breaker:
    return config(rope_parameters=settings)


SIZES: dict[str, Breaker] = {
    "hidden size as text": config(hidden_size="64"),
    "hidden size as a fraction": config(hidden_size=64.5),
    "hidden size of null": config(hidden_size=None),
    "hidden size that heads do not divide": config(hidden_size=50, head_dim=None),
    "hidden size of a billion": config(hidden_size=1_000_000_000),
    "intermediate size of 400 digits": config(intermediate_size=10**400),
    "intermediate size below zero": config(intermediate_size=-1),
    "context of null": config(max_position_embeddings=None),
    "context as text": config(max_position_embeddings="x"),
    "context of zero": config(max_position_embeddings=0),
    "context of one token": config(max_position_embeddings=1),
    "no heads": config(num_attention_heads=0),
    "negative heads": config(num_attention_heads=-4),
    "heads as a mapping": config(num_attention_heads={"a": 4}),
    "no key/value heads": config(num_key_value_heads=0),
    "key/value heads that do not divide": config(num_key_value_heads=3),
    "more key/value heads than heads": config(num_key_value_heads=8),
    "head size of zero": config(head_dim=0),
    "odd head size": config(head_dim=7),
    "no layers": config(num_hidden_layers=0),
    "a billion layers": config(num_hidden_layers=1_000_000_000),
    "ten thousand layers": config(num_hidden_layers=10_000),
    "layers as true": config(num_hidden_layers=True),
    "a list of layers": config(num_hidden_layers=[2, 2]),
    "no vocabulary": config(vocab_size=0),
    "a vocabulary too large for memory": config(vocab_size=60_000_000, hidden_size=100_000),
    "layers too wide for memory": config(
        hidden_size=200_000, intermediate_size=1_000_000, num_hidden_layers=500, head_dim=12
    ),
    "a feed-forward layer too large for memory": config(intermediate_size=16_000_000),
    "a small vocabulary": config(vocab_size=20),
}

VALUES: dict[str, Breaker] = {
    "epsilon as text": config(rms_norm_eps="x"),
    "epsilon of NaN": config(rms_norm_eps=float("nan")),
    "epsilon below zero": config(rms_norm_eps=-1e9),
    "epsilon of infinity": config(rms_norm_eps=float("inf")),
    "beginning token as text": config(bos_token_id="x"),
    "padding beyond the vocabulary": config(pad_token_id=99_999),
    "layer types that do not exist": config(layer_types=["zork"] * 3),
    "too few layer types": config(layer_types=["full_attention"]),
    "layer types as a number": config(layer_types=7),
    "rope as a list": config(rope_scaling=[1], rope_parameters=[1]),
    "rope of an unknown type": rope(rope_type="zork", rope_theta=1.0),
    "rope base as text": rope(rope_theta="x"),
    "rope base of zero": rope(rope_type="default", rope_theta=0.0),
    "rope base of NaN": rope(rope_type="default", rope_theta=float("nan")),
    "rope base below zero": rope(rope_type="default", rope_theta=-10_000.0),
    "rope factor of zero": rope(rope_type="linear", rope_theta=1e4, factor=0.0),
    "yarn without a factor": rope(rope_type="yarn", rope_theta=1e4),
    "longrope of another length": rope(
        rope_type="longrope",
        rope_theta=1e4,
        short_factor=[1.0] * 4,
        long_factor=[1.0] * 4,
        factor=2.0,
    ),
    "llama3 rope without its parts": rope(rope_type="llama3", rope_theta=1e4, factor=8.0),
    "dtype that does not exist": config(dtype="foo"),
    "dtype of a list": config(dtype=[1]),
    "labels as text": config(id2label="x"),
    "a billion labels": config(num_labels=1_000_000_000),
    "a setting that hides how to copy": config(__deepcopy__=7),
    "a setting that hides the state": config(__getstate__=7),
    "an unknown activation": config(hidden_act="zork"),
    "an activation of null": config(hidden_act=None),
    "tied embeddings as text": config(tie_word_embeddings="x"),
    "dropout as text": config(attention_dropout="x"),
    "biases as text": config(attention_bias="x"),
    "weights named outside of the folder": config(transformers_weights="../other.safetensors"),
    "weights named by a number": config(transformers_weights=7),
    "weights named that do not exist": config(transformers_weights="zork.safetensors"),
}

KINDS: dict[str, Breaker] = {
    "an encoder-decoder": config(model_type="t5"),
    "an encoder": config(model_type="bert", architectures=["BertModel"]),
    "a model of images": config(model_type="vit", architectures=["ViTModel"]),
    "a model of speech": config(model_type="whisper"),
    "a model without attention": config(model_type="mamba", architectures=["MambaForCausalLM"]),
    "another decoder's name": config(model_type="gpt2"),
    "a decoder of experts": config(model_type="mixtral"),
    "model type of null": config(model_type=None),
    "model type of a list": config(model_type=[1]),
    "model type with control characters": config(model_type="zork\x1b[31m\u202e\n\nmid"),
    "model type of a million letters": config(model_type="z" * 1_000_000),
    "text part as a list": config(model_type="llava", text_config=[1]),
    "text part of an unknown type": config(model_type="llava", text_config={"model_type": "zork"}),
    "text part without heads": config(
        model_type="llava", text_config={"model_type": "llama", "num_attention_heads": 0}
    ),
    "code of its own": config(model_type="zork", auto_map={"AutoConfig": "c.C"}),
    "code as a number": config(model_type="zork", auto_map=7),
    "a configuration that is a list": content("config.json", b"[1]"),
    "a configuration that is null": content("config.json", b"null"),
    "a configuration that is text": content("config.json", b'"llama"'),
    "a configuration cut short": content("config.json", b'{"model_type": "lla'),
    "a configuration that is not UTF-8": content("config.json", b'{"model_type": "\xff"}'),
    "a configuration in UTF-16": content("config.json", '{"model_type": "llama"}'.encode("utf-16")),
    "a configuration nested too deep": content("config.json", b"[" * 100_000),
    "an empty configuration": content("config.json", b""),
    "a configuration of no settings": content("config.json", b"{}"),
    "a number of 5,000 digits": content(
        "config.json", b'{"model_type": "llama", "hidden_size": ' + b"9" * 5000 + b"}"
    ),
    "a lone surrogate": config(model_type="\ud800"),
    "a configuration that is a folder": in_place_of("config.json", Path.mkdir),
    "a configuration that is a pipe": in_place_of("config.json", fifo),
    "a configuration that links to nothing": in_place_of(
        "config.json", lambda path: path.symlink_to("nowhere")
    ),
    "a configuration that links to itself": in_place_of(
        "config.json", lambda path: path.symlink_to(path.name)
    ),
    "a configuration without an end": in_place_of(
        "config.json", lambda path: path.symlink_to("/dev/zero")
    ),
    "a configuration that is too large": in_place_of("config.json", sparse((1 << 27) + 1)),
}

QUANTISATION: dict[str, Breaker] = {
    "quantised by a word": config(quantization_config="x"),
    "quantised by a list": config(quantization_config=[1]),
    "quantised by nothing that is named": quantised(bits=4),
    "quantised by an unknown method": quantised(quant_method="zork"),
    "quantised by a method of a list": quantised(quant_method=[1]),
    "bitsandbytes settings of wrong types": quantised(
        quant_method="bitsandbytes", load_in_4bit="x"
    ),
    "bitsandbytes over plain weights": quantised(
        quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="zork"
    ),
    "gptq without its library": quantised(quant_method="gptq", bits=4),
    "gptq of 77 bits": quantised(quant_method="gptq", bits=77),
    "awq without its library": quantised(quant_method="awq", bits=4),
    "torchao without its library": quantised(quant_method="torchao", quant_type="int4_weight_only"),
    "hqq without its library": quantised(quant_method="hqq"),
    "aqlm without its library": quantised(quant_method="aqlm"),
    "quanto without its library": quantised(quant_method="quanto", weights="int8"),
    "compressed-tensors without its library": quantised(quant_method="compressed-tensors"),
    "eetq without its library": quantised(quant_method="eetq"),
    "fp8 without blocks": quantised(quant_method="fp8", weight_block_size=[0, 0]),
    "quantised in the text part only": config(
        model_type="llava", text_config={"model_type": "llama", "quantization_config": "x"}
    ),
}

SAFETENSORS: dict[str, Breaker] = {
    "empty safetensors": content(WEIGHTS, b""),
    "safetensors of text": content(WEIGHTS, b"not weights at all"),
    "a header beyond the file": content(WEIGHTS, struct.pack("<Q", 1 << 40) + b"{}"),
    "a header of 2**64 bytes": content(WEIGHTS, b"\xff" * 8 + b"{}"),
    "a header that is no JSON": content(WEIGHTS, struct.pack("<Q", 4) + b"{{{{"),
    "a header nested too deep": content(WEIGHTS, struct.pack("<Q", 50_000) + b"[" * 50_000),
    "a header without tensors": content(WEIGHTS, struct.pack("<Q", 2) + b"{}"),
    "an unknown dtype": header(lambda all_: all_[QUERY].update(dtype="F128")),
    "weights of text": header(lambda all_: all_[QUERY].update(dtype="STRING")),
    "a shape below zero": header(lambda all_: all_[QUERY].update(shape=[-1, 48])),
    "a shape beyond the data": header(lambda all_: all_[QUERY].update(shape=[1 << 40, 1 << 40])),
    "offsets out of order": header(lambda all_: all_[QUERY].update(data_offsets=[9216, 0])),
    "offsets that overlap": header(
        lambda all_: all_[QUERY].update(data_offsets=all_[NORM]["data_offsets"])
    ),
    "offsets beyond the file": header(
        lambda all_: all_[QUERY].update(data_offsets=[1 << 50, (1 << 50) + 9216])
    ),
    "a hole in the data": header(lambda all_: all_.pop(QUERY)),
    "metadata of numbers": header(lambda all_: all_.update(__metadata__={"format": 7})),
    "weights cut short": lambda folder: (folder / WEIGHTS).write_bytes(
        (folder / WEIGHTS).read_bytes()[:-100]
    ),
    "weights followed by others": lambda folder: (folder / WEIGHTS).write_bytes(
        (folder / WEIGHTS).read_bytes() * 2
    ),
    "a weight of another shape": tensors(lambda all_: all_.update({QUERY: torch.zeros(3, 3)})),
    "a weight of no dimension": tensors(lambda all_: all_.update({QUERY: torch.tensor(1.0)})),
    "a weight without elements": tensors(lambda all_: all_.update({QUERY: torch.zeros(0, 48)})),
    "a weight that is missing": tensors(lambda all_: all_.pop(QUERY)),
    "weights under other names": tensors(
        lambda all_: [all_.update({f"zork.{name}": all_.pop(name)}) for name in list(all_)]
    ),
    "a weight of NaN": tensors(lambda all_: all_[QUERY].fill_(float("nan"))),
    "a weight of infinity": tensors(lambda all_: all_[QUERY].fill_(float("inf"))),
    "a single NaN": tensors(lambda all_: all_[NORM].view(-1)[5].fill_(float("nan"))),
    "weights that overflow": tensors(lambda all_: all_[QUERY].fill_(3e38)),
    "norms that overflow": tensors(lambda all_: all_[NORM].fill_(3e38)),
    "weights that are a folder": in_place_of(WEIGHTS, Path.mkdir),
    "weights that are a pipe": in_place_of(WEIGHTS, fifo),
    "weights that link to nothing": in_place_of(WEIGHTS, lambda path: path.symlink_to("nowhere")),
    "weights that link to themselves": in_place_of(
        WEIGHTS, lambda path: path.symlink_to(path.name)
    ),
    "weights without an end": in_place_of(WEIGHTS, lambda path: path.symlink_to("/dev/zero")),
    "weights of zeros": in_place_of(WEIGHTS, sparse(10**6)),
}


def _stranger() -> bytes:
    return torch_file({"a": Path("/")})


def _old_pickle(text: bytes) -> bytes:
    return b"\x80\x02" + text


def _zip(*names: str) -> Breaker:
    """``pytorch_model.bin`` as a zip archive of small files of these names."""

    def write(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
            for name in names:
                archive.writestr(name, b"\x80\x02}q\x00.")

    return write


PICKLES: dict[str, Breaker] = {
    "an empty pickle": pickled(b""),
    "a pickle of text": pickled(b"hello"),
    "a pickle of a number": pickled(pickle.dumps(7)),
    "a pickle of a strange class": pickled(_stranger()),
    "a pickle that runs a command": pickled(
        _old_pickle(b"cposix\nsystem\nX\x05\x00\x00\x00touch\x85R.")
    ),
    "a pickle cut short": pickled(_stranger()[:60]),
    "a pickle of a list": pickled(torch_file([1, 2])),
    "a pickle of null": pickled(torch_file(None)),
    "a pickle of one tensor": pickled(torch_file(torch.zeros(3))),
    "a pickle of other values": pickled(torch_file({QUERY: "x"})),
    "a pickle of numbered weights": pickled(torch_file({1: torch.zeros(3)})),
    "a pickle without weights": pickled(torch_file({})),
    "an old pickle without weights": pickled(torch_file({}, _use_new_zipfile_serialization=False)),
    "an archive of other files": _zip("a.txt"),
    "an archive of an empty pickle": _zip("archive/data.pkl"),
    "an archive that leaves its folder": _zip("../../data.pkl", "../../version"),
    "weights of another framework": both(remove(WEIGHTS), content("tf_model.h5", b"x")),
    "no weights at all": remove(WEIGHTS),
    "pickled weights that are a folder": both(
        remove(WEIGHTS), in_place_of("pytorch_model.bin", Path.mkdir)
    ),
    "pickled weights that are a pipe": both(
        remove(WEIGHTS), in_place_of("pytorch_model.bin", fifo)
    ),
}

SHARDS: dict[str, Breaker] = {
    "an empty weight map": index({}),
    "a weight map of null": index(None),
    "a weight map of a list": index([1]),
    "a weight map of numbers": index({QUERY: 7}),
    "a weight map of lists": index({QUERY: [SHARD]}),
    "a weight map of nothing": index({QUERY: ""}),
    "a shard that is missing": index({QUERY: "model-00009-of-00009.safetensors"}),
    "a shard above the folder": index({QUERY: "../outside.safetensors"}),
    "a shard at an absolute path": index({QUERY: "/etc/passwd"}),
    "a shard named with a NUL": index({QUERY: "a\0b"}),
    "a shard with too long a name": index({QUERY: "z" * 300}),
    "a shard that is the folder": index({QUERY: "."}),
    "a shard that is the index": index({QUERY: INDEX}),
    "a shard that is a pipe": both(
        index({QUERY: "pipe.safetensors"}), in_place_of("pipe.safetensors", fifo)
    ),
    "an index that is no JSON": both(index({}), content(INDEX, b"{")),
    "an index of a list": both(index({}), content(INDEX, b"[]")),
    "an index nested too deep": both(index({}), content(INDEX, b"[" * 100_000)),
    "an index that is not UTF-8": both(index({}), content(INDEX, b'{"weight_map": "\xff"}')),
    "an index without a map": both(index({}), content(INDEX, b'{"metadata": {}}')),
    "an index that is a pipe": both(index({}), in_place_of(INDEX, fifo)),
    "an index that is too large": both(index({}), in_place_of(INDEX, sparse((1 << 27) + 1))),
    "pickled shards that are missing": both(
        remove(WEIGHTS),
        content(
            "pytorch_model.bin.index.json",
            json.dumps({"metadata": {}, "weight_map": {QUERY: "x.bin"}}).encode(),
        ),
    ),
    "a distributed checkpoint beside": content("shard-00001-model-00001-of-00002.safetensors", b""),
}

EVERY = {**SIZES, **VALUES, **KINDS, **QUANTISATION, **SAFETENSORS, **PICKLES, **SHARDS}


def broken(breaker: Breaker) -> Attack:
    """A scan of the checkpoint after ``breaker`` has changed its files."""

    def attack(workplace: Workplace) -> list[str]:
        breaker(workplace.model())
        return workplace.scan()

    return attack


CASES = [Case(name, broken(breaker), "^(model|passages of)") for name, breaker in EVERY.items()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_checkpoints(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)
