"""The files of a checkpoint: which ones transformers reads, and whether they can be read.

Everything here is checked before transformers opens a file. A named pipe, a device or a text file
of many gigabytes would otherwise keep it waiting, or fill the memory.
"""

import json
import stat
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from transformers.utils import SAFE_WEIGHTS_NAME, WEIGHTS_NAME
from transformers.utils.hub import cached_file

from headprobe.errors import HeadprobeError
from headprobe.model.load_errors import quote

if TYPE_CHECKING:
    from headprobe.model.load import CheckpointSource

LARGEST_TEXT = 1 << 27
"""The largest accepted size of a configuration, vocabulary or index, in bytes. They are read as a
whole; the largest published one has 33 MB."""

LONGEST_NAME = 255
"""The longest name of a file that file systems accept, in bytes."""

_DISTRIBUTED = "shard-*-model-*-of-*.safetensors"
"""The names of the files of a distributed checkpoint."""

_STEMS = (
    *("config", "generation_config", "model", "pytorch_model", "adapter_config", "adapter_model"),
    *("tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens", "chat_template"),
    *("spiece", "sentencepiece", "tekken", "tiktoken"),
)
"""The starts of the names of the files that transformers and peft read."""

_WEIGHTS = (".safetensors", ".bin")
"""The ends of the names of files of weights, which may be large."""


def local_path(name: str) -> Path | None:
    """The existing file or folder of this name, ``~`` expanded; None where there is none, and where
    the name cannot be one of a file (too long, or of an unknown user).

    Raises HeadprobeError where a folder on the way may not be entered.
    """
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except PermissionError as error:
        raise HeadprobeError(
            name, f"cannot be read ({error.strerror})", "Ask its owner for the right to read it"
        ) from None
    except (OSError, RuntimeError, ValueError):
        return None


def check_folder(name: str, folder: Path) -> None:
    """Raise HeadprobeError where a file of the checkpoint ``name`` cannot be read as a plain file.

    Links are followed. Files that neither transformers nor peft reads are not looked at.
    """
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(_STEMS):
            continue
        try:
            status = path.stat()
        except OSError as error:
            raise HeadprobeError(
                str(Path(name, path.name)),
                f"is a link that leads to no file ({error.strerror})",
                "Copy the checkpoint with the files that its links lead to",
            ) from None
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            raise HeadprobeError(
                str(Path(name, path.name)), "is not a plain file", "Get another copy"
            )
        if status.st_size > LARGEST_TEXT and path.suffix not in _WEIGHTS:
            raise HeadprobeError(
                str(Path(name, path.name)),
                f"has {status.st_size:,} bytes, more than any such file needs",
                "The file is damaged; get another copy",
            )


def weight_files(source: "CheckpointSource", config: Any) -> list[Path]:
    """The local files from which transformers loads the weights; for a Hub id the cached ones.

    They are the file that the configuration names (``transformers_weights``), else safetensors
    before pickles, and a single file before shards; then the files that the configuration's class
    adds. Raises HeadprobeError where a name points outside of the checkpoint, and where a file that
    an index in a folder names is missing. Links are followed, as the Hub's cache and shared disks
    need, so the files hashed are the files loaded.
    """
    folder = source.folder
    if folder is not None and any(folder.glob(_DISTRIBUTED)):
        raise HeadprobeError(
            source.name,
            "contains a distributed checkpoint, which would be loaded instead of its other weights",
            f"Save it with save_pretrained, or remove the files {_DISTRIBUTED} from the folder",
        )
    named = getattr(config, "transformers_weights", None)
    stems = [named] if named is not None else [SAFE_WEIGHTS_NAME, WEIGHTS_NAME]
    for stem in stems:
        _check_name(source, "config.json", stem)
        suffix = "" if named is not None else ".index.json"
        whole, index = local_file(source, stem), local_file(source, f"{stem}{suffix}")
        if whole is not None and not stem.endswith(".index.json"):
            return [whole, *_extra_files(source, config)]
        if index is not None:
            shards = {name: local_file(source, name) for name in _shards(source, index)}
            missing = [name for name, path in shards.items() if path is None]
            if missing and folder is not None:
                raise HeadprobeError(
                    str(Path(source.name, index.name)),
                    f"names weights that are missing ({len(missing)}, first {missing[0]})",
                    "Download the whole repository",
                )
            present = [path for path in shards.values() if path is not None]
            return [*present, *_extra_files(source, config)]
    return []


def _shards(source: "CheckpointSource", index: Path) -> list[str]:
    """The files that an index of shards names, each once."""
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (KeyError, TypeError, ValueError, RecursionError):
        weight_map = None
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise HeadprobeError(
            str(Path(source.name, index.name)), "is not an index of weights", "Get another copy"
        )
    for name in weight_map.values():
        _check_name(source, index.name, name)
    return sorted(set(weight_map.values()))


def _check_name(source: "CheckpointSource", where: str, name: object) -> None:
    """Raise HeadprobeError unless ``name`` can be the name of a file inside the checkpoint."""
    path = PurePath(name) if isinstance(name, str) and "\0" not in name else None
    if (
        path is None
        or not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or any(len(part.encode("utf-8", "replace")) > LONGEST_NAME for part in path.parts)
    ):
        raise HeadprobeError(
            str(Path(source.name, where)),
            f"names weights outside of the checkpoint ({quote(name)})",
            "Move them into its folder, and name them without a path",
        )


def _extra_files(source: "CheckpointSource", config: Any) -> list[Path]:
    names = getattr(type(config), "extra_files", ())
    return [path for name in names if (path := local_file(source, name)) is not None]


def local_file(source: "CheckpointSource", name: str) -> Path | None:
    """The local path of a file of the checkpoint, or None."""
    path = cached_file(
        source.place,
        name,
        revision=source.revision,
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else Path(path)
