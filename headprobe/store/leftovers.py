"""Temporary folders beside runs: named so that those of processes that were killed can be told."""

import os
import re
import secrets
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from headprobe.store.own_files import remove_own

PARTIAL, OLD = "partial", "old"
"""A run that is being written, and one that is being replaced."""

_NAME = re.compile(rf"\.(.+)\.({PARTIAL}|{OLD})-([A-Za-z0-9-]*)-([0-9]+)-[0-9a-f]{{8}}")


def beside(target: Path, kind: str) -> Path:
    """A new hidden name beside ``target`` that says which process of which machine uses it."""
    return target.with_name(f".{target.name}.{kind}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}")


def sweep(folder: Path, own: Collection[str]) -> None:
    """Remove from ``folder`` what processes of this machine that are gone have left there; a run
    that was to be replaced and never was takes its place again. Only files with the names ``own``
    are removed, others move to the run that replaced theirs."""
    for path, target, kind in list(_left(folder)):
        if kind == OLD and not (target.exists() or target.is_symlink()):
            with suppress(OSError):
                path.rename(target)
        else:
            remove_own(path, own, heir=target if kind == OLD else None)


def _left(folder: Path) -> Iterator[tuple[Path, Path, str]]:
    """(path, what it was for, kind) of what no living process uses, runs put aside first."""
    if os.name == "nt" or not folder.is_dir():  # there asking for a process would end it
        return
    for path in sorted(folder.glob(".*")):
        named = _NAME.fullmatch(path.name)
        if not named or path.is_symlink() or not path.is_dir():
            continue
        if named[3] == _host() and not _lives(int(named[4])):
            yield path, folder / named[1], named[2]


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
