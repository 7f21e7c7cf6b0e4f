"""The tables of a run, copied to where the user wants them."""

import os
import secrets
import shutil
import stat
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.store import run_folder
from headprobe.store.run_folder import CONTROLS, TABLES, Run

_FIRST_COLUMNS = {
    run_folder.HEADS: "layer,head,name,kv_group,",
    run_folder.RELATIONS: "layer,head,name,family,",
    run_folder.DOMAINS: "layer,head,name,family,",
    run_folder.POWER: "family,relation,looks_to,",
    run_folder.PAIRS: "name_a,name_b,",
    run_folder.SKIPPED: "source,what,reason,",
    run_folder.CONTROLS: "control,family,relation,",
}
"""How each table begins, in every version: only a file that does is replaced."""


def check_export(folder: Path, overwrite: bool) -> None:
    """HeadprobeError where a table of ours would replace a file, or the folder cannot be made."""
    if folder.exists() and not folder.is_dir():
        raise HeadprobeError(str(folder), "exists and is no folder", "Name another one with --csv")
    taken = [name for name in (*TABLES, CONTROLS) if os.path.lexists(folder / name)]
    for name in taken:
        if not overwrite:
            raise HeadprobeError(
                str(folder / name),
                "exists already",
                "Name another folder with --csv, or replace it: --overwrite",
            )
        if not _is_table(folder / name):
            raise HeadprobeError(
                str(folder / name),
                "is no table that headprobe wrote",
                "Move it elsewhere first, or name another folder with --csv",
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


def _is_table(path: Path) -> bool:
    """Whether a file is a table of a run: a plain file, not a link, with the columns of one."""
    start = _FIRST_COLUMNS[path.name].encode()
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    with path.open("rb") as file:
        return file.read(len(start)) == start
