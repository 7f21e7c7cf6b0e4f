"""Which files headprobe wrote: these may be replaced and removed, anything else never is."""

import json
import stat
from collections.abc import Collection
from pathlib import Path

_MANIFEST_KEYS = {"schema_version", "model", "tokenizer", "probes", "rules_sha256", "fold_hash"}
"""Keys that the manifest of every version has."""

_SHARD_KEYS = {"index", "count", "terms", "skipped"}
_NAMED = 3  # of foreign files, in a message


def is_manifest(path: Path) -> bool:
    """Whether a file is a manifest that headprobe wrote, of this version or another one."""
    read = _read_object(path)
    return read.keys() >= _MANIFEST_KEYS and isinstance(read["schema_version"], int)


def is_shard_note(path: Path) -> bool:
    """Whether a file is the note of a shard that headprobe wrote."""
    return _read_object(path).keys() >= _SHARD_KEYS


def foreign_files(folder: Path, own: Collection[str]) -> list[str]:
    """The names in a folder that headprobe did not write there: all but plain files with one of
    the names ``own``. Links, folders and pipes are foreign whatever their name."""
    return sorted(path.name for path in folder.iterdir() if not _is_own(path, own))


def name_some(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def remove_own(folder: Path, own: Collection[str], heir: Path | None = None) -> None:
    """Remove a run folder that is out of use. Foreign files in it move to the folder ``heir``;
    where they cannot, they stay where they are, and the folder with them. No error is raised: the
    run itself is finished."""
    if folder.is_symlink():
        return
    try:
        for path in sorted(folder.iterdir()):
            if _is_own(path, own):
                path.unlink(missing_ok=True)
            elif heir is not None and heir.is_dir() and not _is_there(heir / path.name):
                path.rename(heir / path.name)
        folder.rmdir()
    except OSError:
        return


def _is_own(path: Path, own: Collection[str]) -> bool:
    return path.name in own and stat.S_ISREG(path.lstat().st_mode)


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _read_object(path: Path) -> dict[str, object]:
    """The JSON object in a plain file; an empty one where there is none."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return {}
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
