"""Broken checkpoints and tokenizers: any error of the libraries becomes one line with a remedy."""

import io
import json
import pickle
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from headprobe.errors import HeadprobeError
from headprobe.model.load import CheckpointSource, load_config, load_encoder, load_model
from headprobe.model.load_errors import MOST, friendly_load_errors, quote
from tests.helpers.checkpoints import save_checkpoint

Breaker = Callable[[Path], None]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("intact") / "model")


def config(**changes: object) -> Breaker:
    """Replace values of config.json."""
    return _edit("config.json", lambda values: values | changes)


def tokenizer(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Breaker:
    return _edit("tokenizer.json", change)


def part(name: str, value: object) -> Breaker:
    """Replace a part of tokenizer.json."""
    return tokenizer(lambda values: values | {name: value})


def model_part(**changes: object) -> Breaker:
    return tokenizer(lambda values: values | {"model": values["model"] | changes})


def _edit(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Breaker:
    def edit(folder: Path) -> None:
        values = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(json.dumps(change(values)), encoding="utf-8")

    return edit


def content(name: str, data: bytes) -> Breaker:
    return lambda folder: (folder / name).write_bytes(data) and None


def pickled(data: bytes) -> Breaker:
    """Weights as ``pytorch_model.bin`` of these bytes."""

    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(data)

    return write


def index(weight_map: object) -> Breaker:
    """Weights in shards, by this map."""

    def write(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        values = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(values))

    return write


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Breaker:
    def edit(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return edit


def _malicious() -> bytes:
    stream = io.BytesIO()
    torch.save({"a": Path("/")}, stream)
    return stream.getvalue()


WORD_LEVEL = {"type": "WordLevel", "vocab": {"a": 0, "<s>": 1}, "unk_token": "<unk>"}
QUANTISED = {"quantization_config": {"quant_method": "zork"}}
Q = "model.layers.0.self_attn.q_proj.weight"

CONFIGURATIONS: dict[str, Breaker] = {
    "hidden size as text": config(hidden_size="64"),
    "hidden size as a fraction": config(hidden_size=64.5),
    "no hidden size": config(hidden_size=None),
    "no context": config(max_position_embeddings=None),
    "context as text": config(max_position_embeddings="x"),
    "context of nothing": config(max_position_embeddings=0),
    "epsilon as text": config(rms_norm_eps="x"),
    "beginning as text": config(bos_token_id="x"),
    "unknown layer types": config(layer_types=["zork", "zork", "zork"]),
    "too few layer types": config(layer_types=["full_attention"]),
    "rope as a list": config(rope_scaling=[1], rope_parameters=[1]),
    "rope of an unknown type": config(rope_parameters={"rope_type": "zork", "rope_theta": 1.0}),
    "rope without a type": config(rope_parameters={"rope_theta": "x"}),
    "no heads": config(num_attention_heads=0),
    "negative heads": config(num_attention_heads=-4),
    "no key/value heads": config(num_key_value_heads=0),
    "key/value heads that do not divide": config(num_key_value_heads=3),
    "no head size": config(head_dim=0),
    "no layers": config(num_hidden_layers=0),
    "no words": config(vocab_size=0),
    "a billion layers": config(num_hidden_layers=1_000_000_000),
    "ten thousand layers": config(num_hidden_layers=10_000),
    "a billion wide": config(hidden_size=1_000_000_000),
    "a size without end": config(intermediate_size=10**400),
    "true layers": config(num_hidden_layers=True),
    "dtype of nothing": config(dtype="foo"),
    "padding beyond the words": config(pad_token_id=99_999),
    "quantised by a word": config(quantization_config="x"),
    "quantised by a list": config(quantization_config=[1]),
    "quantised by nobody": config(quantization_config={"bits": 4}),
    "quantised by an unknown method": config(**QUANTISED),
    "bitsandbytes of odd types": config(
        quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": "x"}
    ),
    "labels as text": config(id2label="x"),
    "an unknown activation": config(hidden_act="zork"),
    "an encoder-decoder": config(model_type="t5"),
    "no model type": config(model_type=None),
    "a list for a model type": config(model_type=[1]),
    "a configuration that is a list": content("config.json", b"[1]"),
    "a configuration that is null": content("config.json", b"null"),
    "a configuration cut short": content("config.json", b'{"model_type": "lla'),
    "a configuration that is not UTF-8": content("config.json", b'{"model_type": "\xff"}'),
    "a configuration nested too deep": content("config.json", b"[" * 100_000),
    "an empty configuration": content("config.json", b""),
    "control characters": config(model_type="zork\x1b[31m\u202e\n\nmid"),
}

WEIGHTS: dict[str, Breaker] = {
    "empty safetensors": content("model.safetensors", b""),
    "safetensors of text": content("model.safetensors", b"not weights at all"),
    "a header beyond the file": content("model.safetensors", struct.pack("<Q", 1 << 40) + b"{}"),
    "a header that is no JSON": content("model.safetensors", struct.pack("<Q", 4) + b"{{{{"),
    "an empty pickle": pickled(b""),
    "a pickle of text": pickled(b"hello"),
    "a pickle of a number": pickled(pickle.dumps(7)),
    "a pickle of code": pickled(_malicious()),
    "a pickle cut short": pickled(_malicious()[:60]),
    "an empty weight map": index({}),
    "a weight map of null": index(None),
    "a weight map of a list": index([1]),
    "a shard that is missing": index({Q: "model-00009-of-00009.safetensors"}),
    "an index that is no JSON": lambda folder: (
        index({})(folder),
        content("model.safetensors.index.json", b"{")(folder),
    )[1],
    "a weight of another shape": tensors(lambda all_: all_.update({Q: torch.zeros(3, 3)})),
    "a weight of no dimension": tensors(lambda all_: all_.update({Q: torch.tensor(1.0)})),
    "a weight that is missing": tensors(lambda all_: all_.pop(Q)),
    "a weight of NaN": tensors(lambda all_: all_[Q].fill_(float("nan"))),
    "a weight of infinity": tensors(lambda all_: all_[Q].fill_(float("inf"))),
}

TOKENIZERS: dict[str, Breaker] = {
    "a bad regex": part("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(("}}),
    "a bad regex to replace": part(
        "normalizer", {"type": "Replace", "pattern": {"Regex": "[z-a]"}, "content": ""}
    ),
    "an unknown normalizer": part("normalizer", {"type": "Zork"}),
    "an unknown decoder": part("decoder", {"type": "Zork"}),
    "no model": part("model", None),
    "no vocabulary": model_part(vocab=None),
    "merges of unknown tokens": model_part(merges=[["zork", "mid"]]),
    "merges that are no pairs": model_part(merges=["zorkmid"]),
    "words without an unknown one": part("model", WORD_LEVEL),
    "ids beyond 32 bits": model_part(vocab={"a": 1 << 32}, merges=[]),
    "negative ids": model_part(vocab={"a": -1}, merges=[]),
    "a start token that is not there": part(
        "post_processor",
        {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<zork>", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        },
    ),
    "added tokens as text": part("added_tokens", "x"),
    "an empty tokenizer": content("tokenizer.json", b""),
    "a tokenizer that is a list": content("tokenizer.json", b"[]"),
    "a tokenizer of bytes": content("tokenizer.json", bytes(range(256))),
    "an unknown tokenizer class": _edit(
        "tokenizer_config.json", lambda values: values | {"tokenizer_class": 7}
    ),
    "a beginning token of a number": _edit(
        "tokenizer_config.json", lambda values: values | {"bos_token": 7}
    ),
    "settings that are no JSON": content("tokenizer_config.json", b"{"),
}

BROKEN = {**CONFIGURATIONS, **WEIGHTS, **TOKENIZERS}
assert len(BROKEN) > 75


def load(folder: Path) -> None:
    """Read everything that a scan reads from a checkpoint."""
    source = CheckpointSource(str(folder))
    found = load_config(source)
    load_encoder(source)
    load_model(source, found, torch.device("cpu"), torch.float32, lambda _: None)


def test_intact_checkpoint_loads(intact: Path) -> None:
    load(intact)


@pytest.mark.parametrize("case", BROKEN)
def test_broken_checkpoint_gives_a_one_line_error(
    case: str, intact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(intact, folder)
    BROKEN[case](folder)
    before = time.monotonic()
    with pytest.raises(HeadprobeError) as raised:
        load(folder)
    assert time.monotonic() - before < 5
    error = raised.value
    assert error.where in (str(folder), f"{folder}/model.safetensors.index.json")
    line = str(error)
    assert line.isprintable()
    assert len(error.what) < MOST + 100
    assert error.what and error.remedy
    assert not (error.what + error.remedy).endswith(".")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("integer division or modulo by zero"),
        ImportError("flash_attn"),
        AttributeError("x"),
        AssertionError(),
        IndexError("list index out of range"),
        pickle.UnpicklingError("bad"),
        EOFError("Ran out of input"),
        MemoryError(),
        RecursionError("deep"),
        StopIteration(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        Exception("bare"),
        type("PanicException", (BaseException,), {})("called `Option::unwrap()` on a `None` value"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_exception_becomes_a_headprobe_error(error: BaseException) -> None:
    with pytest.raises(HeadprobeError) as raised, friendly_load_errors("a/b"):
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupt_and_exit_are_not_converted(error: type[BaseException]) -> None:
    with pytest.raises(error), friendly_load_errors("a/b"):
        raise error


def test_quoted_messages_are_short_and_printable() -> None:
    assert quote("one\n  two\x1b[31m\u202e\ud800.") == "one two\\x1b[31m\\u202e\\ud800"
    assert len(quote("x" * 10_000)) == MOST
