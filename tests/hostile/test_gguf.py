"""Hostile GGUF files, one cause each."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from tests.helpers.broken import Breaker, fifo, in_place_of, sparse
from tests.helpers.gguf import write_gguf
from tests.hostile.driver import Attack, Case, Workplace, assert_promise

FILE = "model.gguf"
STRING, ARRAY, UINT32, UINT64 = 8, 9, 4, 10


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / FILE)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADPROBE_CACHE", str(tmp_path_factory.mktemp("cache")))


def data(change: Callable[[bytes], bytes]) -> Breaker:
    return lambda folder: (folder / FILE).write_bytes(change((folder / FILE).read_bytes()))


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(tensors: int, *entries: bytes, count: int | None = None) -> Breaker:
    """A file of these metadata and nothing else."""
    start = struct.pack("<4sIQQ", b"GGUF", 3, tensors, len(entries) if count is None else count)
    return lambda folder: (folder / FILE).write_bytes(start + b"".join(entries))


def spoilt(spoil: Callable[[gguf.GGUFWriter], None], **options: object) -> Breaker:
    """A file that is complete but for what ``spoil`` changes."""
    return lambda folder: write_gguf(folder / FILE, spoil=spoil, **options)


def size(key: str, value: object) -> Breaker:
    """Another number in the metadata of the model."""

    def change(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0][f"llama.{key}"].value = value

    return spoilt(change)


def token(key: str, value: object) -> Breaker:
    def change(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0][f"tokenizer.ggml.{key}"].value = value

    return spoilt(change)


NAME = text(b"general.architecture") + struct.pack("<I", STRING)

EVERY: dict[str, Breaker] = {
    "an empty file": data(lambda _: b""),
    "another magic": data(lambda all_: b"GGML" + all_[4:]),
    "version 9": data(lambda all_: all_[:4] + struct.pack("<I", 9) + all_[8:]),
    "a stub": data(lambda all_: all_[:20]),
    "half of the metadata": data(lambda all_: all_[:3000]),
    "cut short": data(lambda all_: all_[:-5000]),
    "noise after the start": data(lambda all_: all_[:24] + b"\xff" * 4000),
    "no metadata": header(0),
    "2**60 settings": header(0, count=1 << 60),
    "2**60 tensors": header(1 << 60),
    "a key of 2**60 letters": header(0, struct.pack("<Q", 1 << 60)),
    "a key that is not UTF-8": header(0, text(b"\xff\xfe") + struct.pack("<II", UINT32, 1)),
    "a text of 2**60 letters": header(0, NAME + struct.pack("<Q", 1 << 60)),
    "an array of 2**60 numbers": header(
        0, text(b"a") + struct.pack("<IIQ", ARRAY, UINT64, 1 << 60)
    ),
    "arrays in arrays": header(0, text(b"a") + struct.pack("<I", ARRAY) * 5000),
    "a setting of an unknown type": header(0, text(b"a") + struct.pack("<I", 99)),
    "an unknown architecture": spoilt(lambda _: None, architecture="zorkmid"),
    "an architecture of control characters": spoilt(lambda _: None, architecture="z\x1b[31m\n"),
    "a projector": spoilt(lambda _: None, architecture="clip"),
    "an adapter": spoilt(lambda writer: writer.add_type("adapter")),
    "a part of three": spoilt(lambda writer: writer.add_uint16("split.count", 3)),
    "no weights": spoilt(lambda _: None, tensors=False),
    "tokens of numbers": token("tokens", [1, 2, 3]),
    "merges of unknown tokens": token("merges", ["zork mid"]),
    "an unknown tokenizer": token("model", "zork"),
    "no layers": size("block_count", 0),
    "a billion layers": size("block_count", 1_000_000_000),
    "no heads": size("attention.head_count", 0),
    "a billion heads": size("attention.head_count", 1_000_000_000),
    "a billion wide": size("embedding_length", 1_000_000_000),
    "no context": size("context_length", 0),
    "more layers than weights": size("block_count", 5),
    "another width": size("embedding_length", 64),
    "a pipe": in_place_of(FILE, fifo),
    "a folder": in_place_of(FILE, Path.mkdir),
    "a link to itself": in_place_of(FILE, lambda path: path.symlink_to(path.name)),
    "zeros": in_place_of(FILE, sparse(1 << 20)),
}


def broken(breaker: Breaker, intact: Path) -> Attack:
    def attack(workplace: Workplace) -> list[str]:
        shutil.copyfile(intact, workplace.here / FILE)
        breaker(workplace.here)
        return workplace.scan(model=FILE)

    return attack


@pytest.mark.parametrize("name", EVERY)
def test_hostile_gguf_files(name: str, workplace: Workplace, intact: Path) -> None:
    assert_promise(Case(name, broken(EVERY[name], intact), r"^(path .)?model\.gguf"), workplace)
