"""The tables of a run, copied to where the user wants them."""

import os
import secrets
import shutil
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.store.run_folder import CONTROLS, TABLES, Run


def check_export(folder: Path, overwrite: bool) -> None:
    """HeadprobeError where a table of ours would replace a file, or the folder cannot be made."""
    if folder.exists() and not folder.is_dir():
        raise HeadprobeError(str(folder), "exists and is no folder", "Name another one with --csv")
    taken = [name for name in (*TABLES, CONTROLS) if (folder / name).exists()]
    if taken and not overwrite:
        raise HeadprobeError(
            str(folder / taken[0]),
            "exists already",
            "Name another folder with --csv, or replace it: --overwrite",
        )
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK | os.X_OK):
        raise HeadprobeError(str(folder), "cannot be written", "Name another folder with --csv")


def export(run: Run, folder: Path, overwrite: bool = False) -> list[Path]:
    """Copy the run's tables into ``folder``, each appearing whole; returns the files written."""
    check_export(folder, overwrite)
    if folder.resolve() == run.path.resolve():
        raise HeadprobeError(str(folder), "is the run itself", "Name another folder with --csv")
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in run.tables:
            temporary = folder / f".{name}.{secrets.token_hex(4)}"
            try:
                shutil.copyfile(run.path / name, temporary)
                temporary.replace(folder / name)
            finally:
                temporary.unlink(missing_ok=True)
            written.append(folder / name)
    except OSError as error:
        raise HeadprobeError(
            str(folder), f"cannot be written ({error.strerror})", "Name another folder with --csv"
        ) from None
    return written
