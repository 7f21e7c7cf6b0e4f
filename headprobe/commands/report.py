"""Write pages about a run: where a page goes, and writing it without losing another file."""

import os
from pathlib import Path

from headprobe.commands.export import starts_with
from headprobe.errors import HeadprobeError
from headprobe.runs.files import atomic_write
from headprobe.runs.folder import Run

_REMEDY = "Name another file with -o"

_MARK = b'<meta name="generator" content="headprobe '
"""What the start of every page contains."""


def page_target(run: Run, out: Path | None, overwrite: bool) -> Path:
    """Return where the page of a run is written: ``out``, or ``<run>.html`` beside the run folder.

    Raises HeadprobeError, before any work is done, if the page cannot be written there, or if the
    file exists and ``overwrite`` is false, or is not such a page.
    """
    target = (
        run.path.absolute().with_name(f"{run.path.absolute().name}.html") if out is None else out
    )
    if target.is_dir():
        raise HeadprobeError(str(target), "is a folder", _REMEDY)
    if os.path.lexists(target):
        if not overwrite:
            raise HeadprobeError(
                str(target), "exists already", f"{_REMEDY}, or replace it: --overwrite"
            )
        if not _is_page(target):
            raise HeadprobeError(
                str(target),
                "is not a page that headprobe wrote",
                f"{_REMEDY}, or move it elsewhere first",
            )
    folder = target.absolute().parent
    if not folder.is_dir():
        raise HeadprobeError(str(folder), "no such folder", "Create it, or name another with -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise HeadprobeError(str(folder), "cannot be written", _REMEDY)
    return target


def _is_page(target: Path) -> bool:
    try:
        return starts_with(target, _MARK)
    except OSError:
        return False


def write_page(target: Path, page: str) -> None:
    """Write a page as UTF-8; the file appears whole or not at all."""
    try:
        with atomic_write(target) as file:
            file.write(page.encode("utf-8"))
    except OSError as error:
        raise HeadprobeError(
            str(target), f"cannot be written ({error.strerror})", _REMEDY
        ) from None
