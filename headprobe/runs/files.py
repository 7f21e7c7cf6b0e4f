"""Atomic writes, one reader for files that may be damaged, and what may be removed.

Files that outlive a process are written under a temporary name, flushed to the disk and renamed
(``atomic_write``, ``atomic_folder``). Other processes therefore see the old content or the new
content, never a part of it, and a process that is killed leaves the old content in place.

Files that are read back may be truncated, edited or of another program. ``read_or_fail`` turns
every error that such a file causes into a one-line HeadprobeError.

Only plain files with names that headprobe writes are ever removed; all other files are *foreign*.
"""

import csv
import json
import lzma
import os
import re
import secrets
import shutil
import socket
import stat
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

from headprobe.errors import HeadprobeError

READ_ERRORS = (
    *(OSError, EOFError, LookupError, TypeError, ValueError, RuntimeError, ArithmeticError),
    *(csv.Error, BadZipFile, zlib.error, lzma.LZMAError, struct.error, MemoryError),
)
"""The exceptions that a missing or damaged CSV, JSON or ``.npz`` file can cause. RuntimeError
covers RecursionError (deeply nested JSON) and what ``zipfile`` raises where a flipped bit makes an
archive look encrypted or of a later version."""

_SMALL = 64 << 20
"""A file of at most so many bytes is read without asking how much memory is free."""


@contextmanager
def read_or_fail(
    path: Path,
    remedy: str = "Scan again",
    what: str = "cannot be read",
    missing: HeadprobeError | None = None,
) -> Iterator[Path]:
    """Read the file ``path`` in the block; any of ``READ_ERRORS`` becomes a HeadprobeError.

    The error says ``what`` is wrong, with the reason in parentheses, and gives the ``remedy``.
    ``missing`` is raised instead where the file does not exist. Only plain files, and links to
    them, are read: a pipe would block, and a device may have no end.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a plain file")
        check_memory(status.st_size)
        yield path
    except READ_ERRORS as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise missing from None
        raise HeadprobeError(str(path), f"{what} ({_reason(error)})", remedy) from None


class CannotWriteError(HeadprobeError):
    """The disk is full, or does not take a file for another reason. No part of it is left."""


@contextmanager
def write_or_fail(target: Path, remedy: str) -> Iterator[None]:
    """Turn an OSError of a block that writes to ``target`` into a CannotWriteError."""
    try:
        yield
    except (OSError, ValueError) as error:
        cause: BaseException | None = error
        # zipfile raises a ValueError when it closes an archive that it could not write
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        if cause is None:
            raise
        raise CannotWriteError(
            str(target), f"cannot be written ({_reason(cause)})", remedy
        ) from error


def check_space(
    folder: Path, size: int, remedy: str = "Make room, or name another folder with -o"
) -> None:
    """Raise CannotWriteError where ``size`` bytes do not fit the disk that ``folder`` is on."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        what = f"has {free / 2**20:,.0f} MiB free, and {size / 2**20:,.0f} MiB or more are needed"
        raise CannotWriteError(str(folder), what, remedy)


def check_plain(path: Path) -> None:
    """Raise HeadprobeError unless ``path`` is a plain file and no link: only those are copied."""
    if not _is_plain_file(path):
        remedy = "Replace it by the file itself, or copy the run folder again from its origin"
        raise HeadprobeError(str(path), "is not a plain file", remedy)


def check_memory(size: int) -> None:
    """Raise ValueError where ``size`` bytes do not fit the free memory."""
    if size <= _SMALL:
        return
    import psutil

    free = psutil.virtual_memory().available
    if size > free:
        raise ValueError(f"{size / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB of memory are free")


_LONGEST_REASON = 200
"""The most characters of a reason. Messages of libraries repeat what they cannot read."""


def _reason(error: Exception) -> str:
    """An exception's message in one line, without the path that an OSError repeats."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = " ".join(message.split()).rstrip(".")
    return (line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ...") or type(
        error
    ).__name__


def parse_json(text: str) -> Any:
    """The value of JSON text. ValueError for NaN and infinity, which are not JSON."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def read_json(path: Path) -> Any:
    """The value in a UTF-8 JSON file. Errors as from ``parse_json``."""
    return parse_json(path.read_text(encoding="utf-8"))


def read_json_object(path: Path) -> dict[str, object]:
    """The JSON object in a plain file; an empty one where there is no such file or object."""
    try:
        check_memory(path.stat().st_size)
        value = read_json(path) if _is_plain_file(path) else None
    except READ_ERRORS:
        return {}
    return value if isinstance(value, dict) else {}


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A binary file that replaces ``path`` when the block ends without an exception.

    It is written under a new name in the same folder, flushed to the disk and renamed. On any
    exception it is removed and ``path`` stays as it was. A process that is killed leaves a file
    whose name ``is_partial``.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.{PARTIAL}")
    try:
        with temporary.open("xb") as file:  # never what another program put there, nor a link
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def is_partial(name: str) -> bool:
    """Whether ``atomic_write`` gives such names to files that are not complete."""
    return re.fullmatch(rf"\.[0-9a-f]{{16}}\.{PARTIAL}", name) is not None


@contextmanager
def atomic_folder(target: Path, own: Collection[str], check: Callable[[], None]) -> Iterator[Path]:
    """A temporary sibling folder that replaces ``target`` when the block ends without an exception.

    ``check`` is called just before the exchange and may raise. On any exception the temporary
    folder is removed and ``target`` stays as it was. Of a folder that is replaced, only files with
    the names ``own`` are removed; foreign files move to the new folder. HeadprobeError where
    ``target`` cannot be moved away.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(target, PARTIAL)
    temporary.mkdir()
    try:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            _flush(path)
        check()
        replaced = temporary_sibling(target, OLD)
        _exchange(temporary, target, replaced)
        _flush(target.parent)
        if replaced.exists():
            remove_own(replaced, own, heir=target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(temporary: Path, target: Path, replaced: Path) -> None:
    """Rename ``target``, if it exists, to ``replaced``, and ``temporary`` to ``target``."""
    if target.exists():
        if target.is_symlink():  # links were resolved before, so another process has just made it
            raise HeadprobeError(
                str(target), "was created by another process", "Name another folder with -o"
            )
        try:
            target.rename(replaced)
        except OSError as error:  # the folder of another user, or one that is locked
            what = f"cannot be replaced ({error.strerror})"
            raise HeadprobeError(str(target), what, "Name another folder with -o") from None
    try:
        temporary.rename(target)
    except BaseException:
        if replaced.exists():
            replaced.rename(target)
        raise


def _flush(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on the disk."""
    if os.name == "nt" or path.is_symlink():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


PARTIAL = "partial"
"""Kind of a temporary sibling: its content is being written."""

OLD = "old"
"""Kind of a temporary sibling: it is being replaced."""

_SIBLING = re.compile(rf"\.(.+)\.({PARTIAL}|{OLD})-([A-Za-z0-9-]*)-([0-9]+)-[0-9a-f]{{8}}")
"""Target name, kind, host and process id."""


def temporary_sibling(target: Path, kind: str) -> Path:
    """A new hidden path beside ``target``. The name says which process on which host uses it, so
    that ``remove_leftovers`` can tell whether that process still runs."""
    return target.with_name(f".{target.name}.{kind}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}")


def remove_leftovers(folder: Path, own: Collection[str]) -> None:
    """Remove the temporary folders that killed processes of this host left in ``folder``.

    A folder that was moved away and never replaced returns to its place. Only files with the names
    ``own`` are removed; foreign files in a replaced folder move to its successor.
    """
    for path, target, kind in list(_leftovers(folder)):
        if kind == OLD and not (target.exists() or target.is_symlink()):
            with suppress(OSError):
                path.rename(target)
        else:
            remove_own(path, own, heir=target if kind == OLD else None)


def _leftovers(folder: Path) -> Iterator[tuple[Path, Path, str]]:
    """(path, target, kind) of each temporary folder whose process has ended, ``OLD`` ones first."""
    if os.name == "nt" or not folder.is_dir():  # on Windows os.kill(id, 0) ends the process
        return
    for path in sorted(folder.glob(".*")):
        match = _SIBLING.fullmatch(path.name)
        if not match or path.is_symlink() or not path.is_dir():
            continue
        target, kind, host, process = match.groups()
        if host == _host() and not _is_running(int(process)):
            yield path, folder / target, kind


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it belongs to another user, or cannot be looked up
        return True
    return True


def foreign_files(folder: Path, own: Collection[str]) -> list[str]:
    """The names in ``folder`` that headprobe did not write: all but plain files with one of the
    names ``own``. Links, folders and pipes are foreign whatever their name."""
    return sorted(path.name for path in folder.iterdir() if not _is_own(path, own))


def remove_own(folder: Path, own: Collection[str], heir: Path | None = None) -> None:
    """Remove a folder that is no longer used, as far as its files have the names ``own``.

    Foreign files move to the folder ``heir``. Where they cannot, they stay, and the folder with
    them. No OSError is raised, because the work itself has succeeded.
    """
    if folder.is_symlink():
        return
    try:
        for path in sorted(folder.iterdir()):
            if _is_own(path, own):
                path.unlink(missing_ok=True)
            elif heir is not None and heir.is_dir() and not _exists(heir / path.name):
                path.rename(heir / path.name)
        folder.rmdir()
    except OSError:
        return


def _is_own(path: Path, own: Collection[str]) -> bool:
    return path.name in own and _is_plain_file(path)


def _is_plain_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()
