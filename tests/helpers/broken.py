"""Ways to break a checkpoint that is intact: each takes its folder and changes files in it."""

import io
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Breaker = Callable[[Path], object]

WEIGHTS = "model.safetensors"
SHARD = "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"


def edit(name: str, change: Callable[[Any], object]) -> Breaker:
    """Replace the contents of a JSON file by what ``change`` makes of them."""

    def write(folder: Path) -> None:
        path = folder / name
        values = json.loads(path.read_text("utf-8")) if path.exists() else {}
        path.write_text(json.dumps(change(values)), encoding="utf-8")

    return write


def config(**changes: object) -> Breaker:
    """Replace values of config.json."""
    return edit("config.json", lambda values: values | changes)


def settings(**changes: object) -> Breaker:
    """Replace values of tokenizer_config.json."""
    return edit("tokenizer_config.json", lambda values: values | changes)


def tokenizer(**changes: object) -> Breaker:
    """Replace parts of tokenizer.json."""
    return edit("tokenizer.json", lambda values: values | changes)


def model(**changes: object) -> Breaker:
    """Replace parts of the model in tokenizer.json, which is a BPE."""
    return edit("tokenizer.json", lambda values: values | {"model": values["model"] | changes})


def content(name: str, data: bytes) -> Breaker:
    """Replace a file by one of these bytes."""
    return lambda folder: (folder / name).write_bytes(data)


def both(*breakers: Breaker) -> Breaker:
    def each(folder: Path) -> None:
        for breaker in breakers:
            breaker(folder)

    return each


def remove(*names: str) -> Breaker:
    def unlink(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return unlink


def pickled(data: bytes) -> Breaker:
    """Weights as ``pytorch_model.bin`` of these bytes."""
    return both(remove(WEIGHTS), content("pytorch_model.bin", data))


def torch_file(value: object, **options: Any) -> bytes:
    """The bytes of ``torch.save``."""
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def index(weight_map: object, **changes: object) -> Breaker:
    """Weights in one shard, ``SHARD``, and an index with this map."""

    def write(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / SHARD)
        values = {"metadata": {}, "weight_map": weight_map} | changes
        (folder / INDEX).write_text(json.dumps(values))

    return write


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Breaker:
    """Change the weights by name."""

    def write(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    return write


def header(change: Callable[[dict[str, Any]], object]) -> Breaker:
    """Change the header of the safetensors file and leave its data."""

    def write(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        values = json.loads(data[8 : 8 + size])
        change(values)
        text = json.dumps(values).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return write


def in_place_of(name: str, make: Callable[[Path], object]) -> Breaker:
    """Put something other than a plain file in a file's place."""

    def replace(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return replace


def sparse(size: int) -> Callable[[Path], None]:
    """A file of this size that takes no room on the disk."""

    def make(path: Path) -> None:
        with path.open("wb") as stream:
            stream.truncate(size)

    return make


def fifo(path: Path) -> None:
    """A named pipe, which nobody writes to: opening it waits for ever."""
    os.mkfifo(path)
