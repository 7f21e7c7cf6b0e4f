"""GGUF files: read by transformers, converted once to an ordinary checkpoint folder, and cached.

transformers parses every token and merge of a GGUF file each time it loads a configuration, a
tokenizer or weights from it, which takes far longer than loading the same model from safetensors.
So a file is converted once. Its copies lie in the user's cache, one folder a file, named by the
file's SHA-256:

``<cache>/gguf/<sha256>/text``       configuration and tokenizer, all that ``--dry-run`` needs
``<cache>/gguf/<sha256>/<dtype>``    the weights, dequantised to that dtype, with both of the above

Each copy is written beside its place and renamed, by one process at a time, and lists its files
with their hashes and the versions that made it (``copy.json``). A copy that differs from its list,
or was made by other versions, is made anew. Without a usable cache the GGUF file is loaded itself.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from filelock import FileLock, Timeout
from gguf import GGMLQuantizationType, LlamaFileType
from platformdirs import user_cache_path
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers import modeling_gguf_pytorch_utils as legacy_loader
from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS
from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata

from headprobe.errors import HeadprobeError

CACHE_VARIABLE = "HEADPROBE_CACHE"
"""The environment variable that names the cache folder."""

FORMAT = 1
"""Rises whenever the conversion below could give other files."""

LIST = "copy.json"
TEXT = "text"
_TENSORS = "names of the tensors"

WAIT = 1800.0
"""Seconds for which another process may convert the same file before this one stops waiting."""

_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_AGAIN = "Download it again"
_FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
)
"""What transformers and gguf raise where a file's contents contradict each other."""


def cache_folder() -> Path:
    """``$HEADPROBE_CACHE``, else the platform's cache folder for this user."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else user_cache_path("headprobe")


def is_gguf(path: Path) -> bool:
    """Whether a file is, or by its name claims to be, a GGUF file."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"GGUF"
    except OSError:
        return False


def list_gguf(folder: Path) -> list[str]:
    """The names of a folder's GGUF files, without vision projectors."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() == ".gguf" and not path.name.lower().startswith("mmproj")
    )


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file on this machine. ``name`` is what messages call it; without ``use_cache`` no
    converted copy is read or written."""

    path: Path
    name: str
    use_cache: bool = True

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes, computed once per process while the file stays the same."""
        return _hash_file(self.path, _state(self.path))

    @property
    def header(self) -> dict[str, Any]:
        """The metadata by key, long arrays by their lengths only; HeadprobeError for a file that
        holds no language model or that transformers cannot load."""
        return _check(self.path, self.name, _state(self.path))

    @property
    def quantization(self) -> str:
        """The type of the weights as llama.cpp names it, such as ``Q4_1`` or ``Q4_K_M``: what the
        file says of itself, else the type that holds most of its values."""
        number = self.header.get("general.file_type")
        if number is not None and number in set(LlamaFileType) - {LlamaFileType.GUESSED}:
            return LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")
        with _readable(self.name):
            values: Counter[int] = Counter()
            for tensor in GgufHeader.from_file(str(self.path)).tensors:
                values[tensor.ggml_type] += prod(tensor.shape)
            return GGMLQuantizationType(values.most_common(1)[0][0]).name

    def describe(self, dtype: str) -> str:
        """The weights for the manifest and the page: ``Q4_1, dequantised to float32``."""
        stored = _FLOATS.get(self.quantization)
        if stored is None:
            return f"{self.quantization}, dequantised to {dtype}"
        return (
            self.quantization if stored == dtype else f"{self.quantization}, converted to {dtype}"
        )

    def text_place(self) -> tuple[str, dict[str, Any]]:
        """Where ``from_pretrained`` finds configuration and tokenizer, and its options."""
        copy, _ = self._copy(TEXT, self._save_text)
        return self._direct() if copy is None else (str(copy), {})

    def weights_place(
        self, config: Any, dtype: torch.dtype, warn: Callable[[str], None]
    ) -> tuple[str, dict[str, Any]]:
        """Where ``from_pretrained`` finds the weights, and its options; warns where no copy could
        be kept."""
        name = str(dtype).removeprefix("torch.")
        copy, trouble = self._copy(name, lambda folder: self._save_weights(folder, config, dtype))
        if self._loses_rope_scaling:
            warn(
                f"{self.name}: transformers does not read a GGUF file's scaled rotary positions: "
                "attention may differ from the original checkpoint's, most of all over long spans"
            )
        if trouble:
            warn(f"{self.name}: the converted copy cannot be kept in {cache_folder()} ({trouble})")
        if copy is not None:
            return str(copy), {}
        place, options = self._direct()
        return place, {**options, "quantization_config": GgufConfig(dequantize=True)}

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Turn what a damaged file makes transformers raise into one line."""
        self.header  # noqa: B018 - says more than transformers about a file that cannot be loaded
        with _readable(self.name), _without_bar():
            yield

    @property
    def _loses_rope_scaling(self) -> bool:
        """Whether the file scales rotary positions, which transformers reads for gpt-oss only."""
        if self.header["general.architecture"] == "gpt-oss":
            return False
        kind = next((v for k, v in self.header.items() if k.endswith(".rope.scaling.type")), "none")
        return kind != "none" or "rope_freqs.weight" in self.header[_TENSORS]

    def _direct(self) -> tuple[str, dict[str, Any]]:
        # An absolute path: transformers prefers a file of that name in the working directory.
        path = self.path.absolute()
        return str(path.parent), {"gguf_file": str(path)}

    def _copy(self, kind: str, save: Callable[[Path], None]) -> tuple[Path | None, str]:
        """A valid copy, made where there is none; None, and why, where the cache cannot be used."""
        if not self.use_cache:
            return None, ""
        self.header  # noqa: B018 - a file that cannot be loaded leaves no folder in the cache
        home = cache_folder() / "gguf" / self.sha256
        copy = home / kind
        if _is_valid(copy):
            return copy, ""
        try:
            home.mkdir(parents=True, exist_ok=True)
            # One process converts; the others wait and use what it made.
            with FileLock(home / f"{kind}.lock", timeout=WAIT):
                if not _is_valid(copy):
                    self._make(copy, save)
        except Timeout:
            return None, "another process holds it"
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            return None, str(reason)
        return copy, ""

    def _make(self, copy: Path, save: Callable[[Path], None]) -> None:
        """Write a copy under another name and rename it. The lock is held, so that whatever else
        has its prefix was left by a process that died."""
        for stale in copy.parent.glob(f".{copy.name}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        with TemporaryDirectory(
            prefix=f".{copy.name}-", dir=copy.parent, ignore_cleanup_errors=True
        ) as temporary:
            made = Path(temporary) / "new"
            made.mkdir()
            save(made)
            _write_list(made)
            if copy.exists():
                copy.rename(Path(temporary) / "old")
            made.rename(copy)

    def _save_text(self, folder: Path) -> None:
        place, options = self._direct()
        with self.loading():
            config = AutoConfig.from_pretrained(place, **options)
            tokenizer = AutoTokenizer.from_pretrained(place, use_fast=True, **options)
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    def _save_weights(self, folder: Path, config: Any, dtype: torch.dtype) -> None:
        size, free = self._weigh(dtype), shutil.disk_usage(folder).free
        if size > free * 0.95:
            raise OSError(f"it takes {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free")
        place, options = self._direct()
        with self.loading():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place,
                config=config,
                dtype=dtype,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                **options,
            )
        model, report = loaded
        check_complete(self.name, model, report)
        forget_blocks(model)
        model.save_pretrained(folder)
        text, _ = self._copy(TEXT, self._save_text)
        if text is not None:  # with a tokenizer the copy is a checkpoint of its own
            for path in text.iterdir():
                if not (folder / path.name).exists() and path.name != LIST:
                    shutil.copyfile(path, folder / path.name)

    def _weigh(self, dtype: torch.dtype) -> int:
        """Bytes of the dequantised weights."""
        with _readable(self.name):
            try:
                tensors = GgufHeader.from_file(str(self.path)).tensors
            except ValueError:  # a type that only the gguf package knows
                return 0
        return sum(prod(tensor.shape) for tensor in tensors) * dtype.itemsize


def forget_blocks(model: Any) -> None:
    """Make a dequantised model an ordinary one: transformers refuses to save a model that says it
    is quantised."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def check_complete(name: str, model: Any, report: Any) -> None:
    """HeadprobeError where the file lacks weights: transformers makes random ones instead."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise HeadprobeError(
            name,
            f"weights of {type(model).__name__} are missing ({len(missing)}, {missing[0]} first)",
            "The file is incomplete, or transformers maps it wrongly; name the original checkpoint",
        )


State = tuple[int, int, int]


def _state(path: Path) -> State:
    """What changes where the file does; the key of what is remembered of it."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@lru_cache(maxsize=8)
def _hash_file(path: Path, state: State) -> str:  # noqa: ARG001
    return _digest(path)


def _versions() -> dict[str, Any]:
    """What a copy depends on besides the file."""
    packages = ("transformers", "gguf", "tokenizers")
    return {"format": FORMAT, **{name: importlib.metadata.version(name) for name in packages}}


def _write_list(folder: Path) -> None:
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    text = json.dumps({"versions": _versions(), "files": files}, indent=2)
    (folder / LIST).write_text(text + "\n", encoding="utf-8")


def _is_valid(folder: Path) -> bool:
    """Whether a copy was made by these versions and holds exactly what was written."""
    try:
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))
        if listed["versions"] != _versions():
            return False
        files: dict[str, str] = listed["files"]
        there = {path.name for path in folder.iterdir()} - {LIST}
        return there == files.keys() and all(
            _digest(folder / name) == digest for name, digest in files.items()
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _without_bar() -> Iterator[None]:
    """Hold back the progress bar of transformers' GGUF loader, which none of its settings rules."""
    module: Any = legacy_loader
    bar, module.tqdm = module.tqdm, lambda items, **_: items
    try:
        yield
    finally:
        module.tqdm = bar


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except HeadprobeError:
        raise
    except _BROKEN as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = re.sub(r"\s+", " ", lines[0])[:200].rstrip(".")
        raise HeadprobeError(name, f"the GGUF file is damaged ({reason})", _AGAIN) from error


@lru_cache(maxsize=8)
def _check(path: Path, name: str, state: State) -> dict[str, Any]:
    """The metadata of a file that can be loaded."""
    size = state[0]
    if not size:
        raise HeadprobeError(name, "the file is empty", _AGAIN)
    with path.open("rb") as stream:
        start = stream.read(8)
    if start[:4] != b"GGUF":
        raise HeadprobeError(
            name, "is no GGUF file (it does not begin with GGUF)", "Download it again"
        )
    split = _SPLIT.search(path.name)
    if split is not None and int(split[2]) > 1:
        _refuse_split(name, path, int(split[2]))
    if len(start) == 8 and struct.unpack("<I", start[4:])[0] not in (2, 3):
        raise HeadprobeError(
            name,
            "is a GGUF file of a version other than 2 or 3, or of big-endian byte order",
            "Convert the original checkpoint with a current llama.cpp",
        )
    with _readable(name):
        metadata: dict[str, Any]
        metadata, tensors = read_gguf_metadata(str(path))
        _refuse_other_kinds(name, path, metadata, len(tensors))
        _refuse_truncated(name, path, size)
    return {**metadata, _TENSORS: tensors}


def _refuse_other_kinds(name: str, path: Path, metadata: dict[str, Any], tensors: int) -> None:
    architecture, kind = str(metadata["general.architecture"]), metadata.get("general.type")
    if metadata.get("split.count", 1) > 1:
        _refuse_split(name, path, int(metadata["split.count"]))
    if architecture == "clip" or kind == "mmproj":
        raise HeadprobeError(
            name,
            "holds a vision or audio projector, no language model",
            "Name the language model's own GGUF file",
        )
    if kind not in (None, "model"):
        raise HeadprobeError(name, f"holds no model but {kind}", "Name the model's own GGUF file")
    if architecture not in legacy_loader.GGUF_SUPPORTED_ARCHITECTURES and architecture not in (
        *GGUF_CONFIG_ARCHS,
        *_RENAMED,
    ):
        version = importlib.metadata.version("transformers")
        raise HeadprobeError(
            name,
            f"transformers {version} cannot load GGUF files of architecture {architecture!r}",
            "Name the original checkpoint instead, a Hub id or a folder with safetensors",
        )
    if not tensors:
        raise HeadprobeError(
            name, "holds a vocabulary and no weights", "Name the model's own GGUF file"
        )
    if not metadata.get("tokenizer.ggml.tokens"):
        raise HeadprobeError(
            name, "holds no tokenizer", "Convert the original checkpoint again, with its tokenizer"
        )


_RENAMED = ("qwen2moe", "qwen3moe", "gpt-oss", "minimax-m2", "t5encoder")
"""Architectures that transformers' table of them has under another name."""


def _refuse_split(name: str, path: Path, parts: int) -> None:
    first = _SPLIT.sub(rf"-00001-of-{parts:05}.gguf", path.name)
    raise HeadprobeError(
        name,
        f"is one of {parts} parts, which transformers cannot load",
        f"Join them: llama-gguf-split --merge {first} WHOLE.gguf (llama.cpp), and name WHOLE.gguf",
    )


def _refuse_truncated(name: str, path: Path, size: int) -> None:
    try:
        header = GgufHeader.from_file(str(path))
    except ValueError as error:
        if "not supported yet" in str(error):  # a type that only the gguf package reads
            return
        raise
    end = max(header.data_start + tensor.offset + tensor.nbytes for tensor in header.tensors)
    if end > size:
        raise HeadprobeError(
            name, f"the GGUF file is truncated: {size:,} of {end:,} bytes are there", _AGAIN
        )
