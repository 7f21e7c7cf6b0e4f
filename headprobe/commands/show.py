"""Commands that only read runs: find a run, list runs, show a head, export tables."""

import os
import secrets
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.results.views import HeadView
from headprobe.roles.rules import load_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.checkpoint import ScanCheckpoint, find_checkpoints
from headprobe.runs.files import read_or_fail
from headprobe.runs.folder import (
    CONTROLS,
    MANIFEST,
    RUNS,
    SHARD,
    TABLES,
    Run,
    list_runs,
    newest_run,
)
from headprobe.runs.tables import Row
from headprobe.vocabulary import head_name

EXACT_DISTANCES = 8
"""Distances up to here are shown one by one, longer ones in doubling ranges."""

MIN_REST_SHARE = 0.01
"""The share below which all that is left goes into one last range."""


def show_head(run: Run, layer: int, head: int) -> HeadView:
    """The view of one head; HeadprobeError, with the range, where the model has no such head."""
    run.check_head(layer, head)
    rows = run.rows(run_folder.HEADS, (layer, head))
    if not rows:
        raise HeadprobeError(
            str(run.path / run_folder.HEADS), f"no row for {head_name(layer, head)}", "Scan again"
        )
    return HeadView(
        run=run.path,
        head=rows[0],
        relations=tuple(run.rows(run_folder.RELATIONS, (layer, head))),
        profile=_profile(run, layer, head),
        examples=tuple(run.examples((layer, head))),
        domains=_domains(run, layer, head),
    )


def _domains(run: Run, layer: int, head: int) -> tuple[Row, ...]:
    known = run_folder.DOMAINS in run.tables
    return tuple(run.rows(run_folder.DOMAINS, (layer, head))) if known else ()


def _profile(run: Run, layer: int, head: int) -> tuple[tuple[str, float], ...]:
    sums = run.tally("profile")[layer, head]
    total = float(sums.sum())
    if total <= 0:
        return ()
    ranges = [(distance, distance) for distance in range(1, min(EXACT_DISTANCES, len(sums)) + 1)]
    first = EXACT_DISTANCES + 1
    while first <= len(sums) and sums[first - 1 :].sum() > MIN_REST_SHARE * total:
        last = min(2 * (first - 1), len(sums))
        ranges.append((first, last))
        first = last + 1
    shares = [
        (str(low) if low == high else f"{low}–{high}", float(sums[low - 1 : high].sum()) / total)
        for low, high in ranges
    ]
    rest = float(sums[first - 1 :].sum()) / total
    return (*shares, (f"{first}+", rest)) if rest > 0 else tuple(shares)


def find_run(named: Path | None, note: Callable[[str], None]) -> Run:
    """The run that was named: a folder, or a folder's name under ``headprobe-runs``. Without a name
    the newest there, and ``note`` is told which."""
    if named is None:
        run = newest_run()
        note(f"run: {run.path}")
        return run
    under = RUNS / named
    return Run.load(under if not named.exists() and under.is_dir() else named)


def unfinished(folder: Path = RUNS) -> list[ScanCheckpoint]:
    """What can be gone on with in ``folder``, one of several ranks each."""
    return [
        checkpoint
        for checkpoint in find_checkpoints(folder)
        if checkpoint.rank == 0
        and not any((checkpoint.target / name).is_file() for name in (MANIFEST, SHARD))
    ]


def runs(folder: Path = RUNS) -> tuple[list[Run], list[HeadprobeError]]:
    """All runs in ``folder``, newest first, and those that cannot be read."""
    return list_runs(folder)


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
    """Copy the run's tables into ``folder``; returns the files written.

    All tables are copied under temporary names before the first takes its place, so that a table
    that is missing or damaged leaves nothing behind. HeadprobeError for what is wrong.
    """
    check_export(folder, overwrite)
    if folder.resolve() == run.path.resolve():
        raise HeadprobeError(str(folder), "is the run itself", "Name another folder with --csv")
    for name in run.tables:
        _check_table(run.path / name)
    copies: dict[Path, Path] = {}
    created = _missing_folders(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in run.tables:
            target = folder / name
            copies[target] = folder / f".{name}.{secrets.token_hex(4)}"
            shutil.copyfile(run.path / name, copies[target], follow_symlinks=False)
        for target, copy in copies.items():
            copy.replace(target)
    except BaseException as error:
        for copy in copies.values():
            copy.unlink(missing_ok=True)
        for each in created:
            with suppress(OSError):
                each.rmdir()
        if not isinstance(error, OSError):
            raise
        raise HeadprobeError(
            str(folder), f"cannot be written ({error.strerror})", "Name another folder with --csv"
        ) from None
    return list(copies)


def _missing_folders(folder: Path) -> list[Path]:
    """The folders that must be created for ``folder`` to exist, the innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _check_table(path: Path) -> None:
    """Raise HeadprobeError unless ``path`` is a plain file that begins as a table of a run."""
    remedy = "Scan again, or copy the run folder again from its origin"
    missing = HeadprobeError(str(path), "the run has no such table", remedy)
    with read_or_fail(path, remedy, missing=missing):
        if not _is_table(path):
            raise HeadprobeError(str(path), "is not a table that headprobe wrote", remedy)


def _is_table(path: Path) -> bool:
    """Whether a file is a table of a run: a plain file, not a link, with the columns of one."""
    start = _FIRST_COLUMNS[path.name].encode()
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    with path.open("rb") as file:
        return file.read(len(start)) == start


def rule_changes(run: Run) -> list[str]:
    """Return how the rules that judged a run differ from the packaged ones, one text per rule."""
    path = run.path / run_folder.RULES
    return load_rules(path).changed(load_rules()) if path.exists() else []
