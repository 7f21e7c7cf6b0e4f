"""GGUF files, which transformers converts once to an ordinary checkpoint folder in a cache.

transformers parses every token and merge of a GGUF file each time it loads a configuration, a
tokenizer or weights from it, which takes far longer than loading the same model from safetensors.
Therefore a file is converted once. Its copies are in the user's cache, in a folder named by the
file's SHA-256:

``<cache>/gguf/<sha256>/text``       configuration and tokenizer, all that ``--dry-run`` needs
``<cache>/gguf/<sha256>/<dtype>``    the weights, dequantised to that dtype, with both of the above

Each copy is written to a temporary folder and renamed, by one process at a time. It lists its files
with their hashes and the versions of the libraries that wrote it (``copy.json``). A copy that
differs from its list, or that other versions wrote, is written again. Without a usable cache the
GGUF file itself is loaded.
"""

import hashlib
import importlib.metadata
import json
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
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers import modeling_gguf_pytorch_utils as legacy_loader
from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS
from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata

from headprobe.errors import HeadprobeError
from headprobe.model.configuration import check_header
from headprobe.resources import cache_folder

FORMAT = 1
"""The version of the conversion; increase it when the conversion would write other files."""

LIST = "copy.json"
"""The file in which a copy lists its files."""

TEXT = "text"
"""The name of the copy of configuration and tokenizer."""

_TENSORS = "names of the tensors"
"""The key of the tensors' names in ``GgufFile.header``; no key of GGUF metadata has spaces."""

WAIT = 1800.0
"""Seconds to wait for another process that converts the same file."""

_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
"""The end of the name of one of several parts: its number and the number of parts."""

_AGAIN = "Download it again"

_INCOMPLETE = "The file is incomplete, or transformers misreads it; name the original checkpoint"

_FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Types of GGUF weights that are not quantised, and their dtypes."""

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
"""The errors that transformers and gguf raise for a file whose contents are inconsistent."""


def is_gguf(path: Path) -> bool:
    """Whether a file is a GGUF file by its first bytes or by its name."""
    try:
        if not path.is_file():
            return False
        if path.suffix.lower() == ".gguf":
            return True
        with path.open("rb") as stream:
            return stream.read(4) == b"GGUF"
    except OSError:
        return False


def list_gguf(folder: Path) -> list[str]:
    """The names of a folder's GGUF files, without vision projectors."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() == ".gguf" and not path.name.lower().startswith("mmproj")
    )


@dataclass(frozen=True)
class GgufFile:
    """A local GGUF file."""

    path: Path
    name: str
    """The file's name in messages."""
    use_cache: bool = True
    """Whether converted copies are read and written."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file's bytes, computed once per process unless the file changes."""
        return _hash_file(self.path, _state(self.path))

    @property
    def header(self) -> dict[str, Any]:
        """The metadata by key, with the lengths of long arrays instead of the arrays.

        Raises HeadprobeError for a file without a language model, and for one that transformers
        cannot load.
        """
        return _check(self.path, self.name, _state(self.path))

    @property
    def quantization(self) -> str:
        """The type of the weights as llama.cpp names it, such as ``Q4_1`` or ``Q4_K_M``: the one
        that the metadata gives, else the type of most of the values."""
        number = self.header.get("general.file_type")
        if number is not None and number in set(LlamaFileType) - {LlamaFileType.GUESSED}:
            return LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")
        with _readable(self.name):
            values: Counter[int] = Counter()
            for tensor in GgufHeader.from_file(str(self.path)).tensors:
                values[tensor.ggml_type] += prod(tensor.shape)
            return GGMLQuantizationType(values.most_common(1)[0][0]).name

    def describe(self, dtype: str) -> str:
        """The type of the weights for manifest and reports: ``Q4_1, dequantised to float32``."""
        stored = _FLOATS.get(self.quantization)
        if stored is None:
            return f"{self.quantization}, dequantised to {dtype}"
        return (
            self.quantization if stored == dtype else f"{self.quantization}, converted to {dtype}"
        )

    def text_place(self) -> tuple[str, dict[str, Any]]:
        """Where ``from_pretrained`` finds the configuration and the tokenizer, and its options."""
        copy, _ = self._copy(TEXT, self._save_text)
        return self._direct() if copy is None else (str(copy), {})

    def weights_place(
        self, config: Any, dtype: torch.dtype, warn: Callable[[str], None]
    ) -> tuple[str, dict[str, Any]]:
        """Where ``from_pretrained`` finds the weights, and its options; warns where the converted
        copy cannot be written."""
        name = str(dtype).removeprefix("torch.")
        copy, problem = self._copy(name, lambda folder: self._save_weights(folder, config, dtype))
        if self._loses_rope_scaling:
            warn(
                f"{self.name}: transformers does not read a GGUF file's scaled rotary positions; "
                "attention may differ from the original checkpoint's, especially over long spans"
            )
        if problem:
            folder = cache_folder()
            warn(f"{self.name}: the converted copy cannot be written to {folder} ({problem})")
        if copy is not None:
            return str(copy), {}
        place, options = self._direct()
        return place, {**options, "quantization_config": GgufConfig(dequantize=True)}

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Turn the errors that transformers raises for a damaged file into one line."""
        self.header  # noqa: B018 - raises more precise errors than transformers
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
        """The place and the options for loading the GGUF file itself."""
        # An absolute path: transformers prefers a file of that name in the working directory.
        path = self.path.absolute()
        return str(path.parent), {"gguf_file": str(path)}

    def _copy(self, kind: str, save: Callable[[Path], None]) -> tuple[Path | None, str]:
        """A valid copy, written by ``save`` if there is none, and an empty string; or None and the
        reason where the cache cannot be used (empty where it shall not be)."""
        if not self.use_cache:
            return None, ""
        self.header  # noqa: B018 - no folder in the cache for a file that cannot be loaded
        home = cache_folder() / "gguf" / self.sha256
        copy = home / kind
        if _is_valid(copy):
            return copy, ""
        try:
            home.mkdir(parents=True, exist_ok=True)
            # One process converts; the others wait and use its copy.
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
        """Write a copy to a temporary folder and rename it. The lock is held, so any other folder
        with the temporary prefix is from a process that died."""
        for stale in copy.parent.glob(f".{copy.name}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        with TemporaryDirectory(
            prefix=f".{copy.name}-", dir=copy.parent, ignore_cleanup_errors=True
        ) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            save(new)
            _write_list(new)
            if copy.exists():
                copy.rename(Path(temporary) / "old")
            new.rename(copy)

    def _save_text(self, folder: Path) -> None:
        place, options = self._direct()
        with self.loading():
            config = AutoConfig.from_pretrained(place, **options)
            tokenizer = AutoTokenizer.from_pretrained(place, use_fast=True, **options)
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    def _save_weights(self, folder: Path, config: Any, dtype: torch.dtype) -> None:
        size, free = self._weight_bytes(dtype), shutil.disk_usage(folder).free
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
        check_complete(self.name, model, report, _INCOMPLETE)
        forget_blocks(model)
        model.save_pretrained(folder)
        text, _ = self._copy(TEXT, self._save_text)
        if text is not None:  # with a tokenizer the copy is a complete checkpoint
            for path in text.iterdir():
                if not (folder / path.name).exists() and path.name != LIST:
                    shutil.copyfile(path, folder / path.name)

    def _weight_bytes(self, dtype: torch.dtype) -> int:
        """The bytes of the dequantised weights; 0 where they cannot be counted."""
        with _readable(self.name):
            try:
                tensors = GgufHeader.from_file(str(self.path)).tensors
            except ValueError:  # a type that only the gguf package knows
                return 0
        return sum(prod(tensor.shape) for tensor in tensors) * dtype.itemsize


def forget_blocks(model: Any) -> None:
    """Remove the quantisation settings of a dequantised model, with which transformers refuses to
    save it."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def check_complete(name: str, model: Any, report: Any, remedy: str) -> None:
    """Raise HeadprobeError where the loading ``report`` lists missing weights, for which
    transformers makes random ones."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise HeadprobeError(
            name,
            f"weights of {type(model).__name__} are missing ({len(missing)}, first {missing[0]})",
            remedy,
        )


State = tuple[int, int, int]
"""The size, modification time and inode of a file."""


def _state(path: Path) -> State:
    """The file's state, a key of the caches below: it changes when the file changes."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


@lru_cache(maxsize=8)
def _hash_file(path: Path, state: State) -> str:  # noqa: ARG001
    return _digest(path)


def _versions() -> dict[str, Any]:
    """The versions on which a copy depends besides the file."""
    packages = ("transformers", "gguf", "tokenizers")
    return {"format": FORMAT, **{name: importlib.metadata.version(name) for name in packages}}


def _write_list(folder: Path) -> None:
    """Write ``LIST``: the versions, and the files of ``folder`` with their hashes."""
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    text = json.dumps({"versions": _versions(), "files": files}, indent=2)
    (folder / LIST).write_text(text + "\n", encoding="utf-8")


def _is_valid(folder: Path) -> bool:
    """Whether these versions wrote the copy, and its files are exactly those in its list."""
    try:
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))
        if listed["versions"] != _versions():
            return False
        files: dict[str, str] = listed["files"]
        present = {path.name for path in folder.iterdir()} - {LIST}
        return present == files.keys() and all(
            _digest(folder / name) == digest for name, digest in files.items()
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _without_bar() -> Iterator[None]:
    """Suppress the progress bar of transformers' GGUF loader, which no setting turns off."""
    module: Any = legacy_loader
    bar, module.tqdm = module.tqdm, lambda items, **_: items
    try:
        yield
    finally:
        module.tqdm = bar


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn the errors of reading a damaged GGUF file into one line."""
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
    """``GgufFile.header``, remembered while the file is unchanged."""
    size = state[0]
    if not size:
        raise HeadprobeError(name, "the file is empty", _AGAIN)
    with path.open("rb") as stream:
        start = stream.read(8)
    if start[:4] != b"GGUF":
        raise HeadprobeError(
            name, "is not a GGUF file (it does not begin with GGUF)", "Download it again"
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
        check_header(name, str(metadata["general.architecture"]), metadata)
        _refuse_truncated(name, path, size)
    return {**metadata, _TENSORS: tensors}


def _refuse_other_kinds(name: str, path: Path, metadata: dict[str, Any], tensors: int) -> None:
    architecture, kind = str(metadata["general.architecture"]), metadata.get("general.type")
    if metadata.get("split.count", 1) > 1:
        _refuse_split(name, path, int(metadata["split.count"]))
    if architecture == "clip" or kind == "mmproj":
        raise HeadprobeError(
            name,
            "contains a vision or audio projector, not a language model",
            "Name the language model's own GGUF file",
        )
    if kind not in (None, "model"):
        raise HeadprobeError(
            name, f"contains no model but {kind}", "Name the model's own GGUF file"
        )
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
            name, "contains a vocabulary but no weights", "Name the model's own GGUF file"
        )
    if not metadata.get("tokenizer.ggml.tokens"):
        raise HeadprobeError(
            name,
            "contains no tokenizer",
            "Convert the original checkpoint again, with its tokenizer",
        )


_RENAMED = ("qwen2moe", "qwen3moe", "gpt-oss", "minimax-m2", "t5encoder")
"""Architectures that transformers' table has under another name."""


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
        if "not supported yet" in str(error):  # a type that only the gguf package knows
            return
        raise
    end = max(header.data_start + tensor.offset + tensor.nbytes for tensor in header.tensors)
    if end > size:
        raise HeadprobeError(
            name, f"the GGUF file is truncated: it has {size:,} of {end:,} bytes", _AGAIN
        )
