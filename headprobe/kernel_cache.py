"""Compiled loops on disk, in files that are verified before they are used.

A compiled loop is machine code, stored as a pickle. Both run whatever they contain, so a file is
used only if

- it is in a folder that nobody but this user (or root) can write to, and belongs to one of them:
  ``NUMBA_CACHE_DIR``, else ``__pycache__`` beside the source, else the user's cache;
- it begins with the SHA-256 of the rest. The hash is not a secret; it detects damage, and the first
  rule keeps others away.

Anything else is compiled again. numba's own cache has neither rule.
"""

import hashlib
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import serialize
from numba.core.compiler import CompileResult

from headprobe.errors import HeadprobeError
from headprobe.resources import cache_folder

PACKAGE = Path(__file__).parent
"""The folder of this package."""

SUFFIX = ".nbc"

# Parts of numba without annotations
_CONFIG: Any = numba.config
_RESULT: Any = CompileResult
_SERIALIZE: Any = serialize

_DIGEST = hashlib.sha256().digest_size


class KernelCache:
    """The cache of one compiled function, with the methods that numba's dispatcher calls.

    Each signature has a file of its own, ``<function>.<stamp>.<signature>.nbc``. The stamp names
    the sources and the versions; files of another stamp are removed when one is written.
    """

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._folder = folder
        self._name = f"{function.__module__}.{function.__qualname__}".replace("<locals>.", "")
        versions = [numba.__version__, sys.implementation.cache_tag]
        sources = _stamps(_source_folder(function))
        self._stamp = _hash([sources, function.__code__.co_code, *versions])

    @property
    def cache_path(self) -> str:
        """The folder."""
        return str(self._folder)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled function of this signature, or None where there is no intact file."""
        target.refresh()
        content = _read(self._path(signature, target.codegen()))
        digest, payload = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(payload).digest() != digest:
            return None
        return _RESULT._rebuild(target, *pickle.loads(payload))  # noqa: S301

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Write the compiled function; nothing where there is no room for it."""
        if compiled.library.has_dynamic_globals:
            return
        payload: bytes = _SERIALIZE.dumps(compiled._reduce())
        path = self._path(signature, compiled.codegen)
        with suppress(OSError):
            self._remove_stale()
            _write(path, hashlib.sha256(payload).digest() + payload)

    def enable(self) -> None:
        """Part of numba's interface; the cache is always enabled."""

    disable = flush = enable

    def _path(self, signature: Any, codegen: Any) -> Path:
        key = _hash([str(signature), codegen.magic_tuple()])
        return self._folder / f"{self._name}.{self._stamp}.{key}{SUFFIX}"

    def _remove_stale(self) -> None:
        for path in self._folder.glob(f"{self._name}.*{SUFFIX}"):
            if not path.name.startswith(f"{self._name}.{self._stamp}."):
                path.unlink(missing_ok=True)


def find_folder() -> Path | None:
    """The first folder that is private and can be written to; None without one."""
    for folder in _candidates():
        try:
            if not _is_private(folder):
                continue
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
        except OSError:
            continue
    return None


def _candidates() -> Iterator[Path]:
    if named := _CONFIG.CACHE_DIR:
        yield Path(named).absolute() / f"headprobe-{_hash([str(PACKAGE)])}"
    yield PACKAGE / "__pycache__"
    with suppress(HeadprobeError):
        yield cache_folder().absolute() / "kernels"


def _is_private(folder: Path) -> bool:
    """Whether only this user and root can change the files of ``folder``, or replace it.

    No folder on the way may belong to others or be writable by them, except those where everybody
    can only remove what is their own (the sticky bit, as ``/tmp`` has). Where the system has no
    such rights, all folders are private.
    """
    if not hasattr(os, "getuid"):
        return True
    folder = folder.resolve()
    for path in (folder, *folder.parents):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # will be created by this user
        sticky = path != folder and bool(status.st_mode & stat.S_ISVTX)
        if not _is_own(status) or (_others_write(status) and not sticky):
            return False
    return True


def _is_own(status: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or status.st_uid in (os.getuid(), 0)


def _others_write(status: os.stat_result) -> bool:
    by_group = status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid)
    return bool(by_group or status.st_mode & stat.S_IWOTH)


@cache
def _is_own_group(number: int) -> bool:
    """Whether a group has this user as its only member, as many systems make one for each user."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(number)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _read(path: Path) -> bytes:
    """The content of a file that belongs to this user or root; else nothing."""
    try:
        with path.open("rb") as file:
            return file.read() if _is_own(os.fstat(file.fileno())) else b""
    except OSError:
        return b""


def _write(path: Path, content: bytes) -> None:
    """Replace a file; other processes may write it at the same time."""
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _source_folder(function: Callable[..., Any]) -> Path:
    """The folder of a loop's source. A loop contains the code of those that it calls, so it is
    stale when any file in this folder changes."""
    return Path(function.__code__.co_filename).parent


def _stamps(folder: Path) -> list[tuple[str, float, int]]:
    paths = [PACKAGE / "compiled.py", *sorted(folder.glob("*.py"))]
    statuses = ((path.name, path.stat()) for path in paths)
    return [(name, status.st_mtime, status.st_size) for name, status in statuses]


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
