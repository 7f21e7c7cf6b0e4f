"""The runs there are, and the one that is meant."""

from collections.abc import Callable
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.store.run_folder import MANIFEST, RUNS, SHARD, Run, list_runs, newest_run
from headprobe.store.unfinished import Unfinished, find_unfinished


def find_run(named: Path | None, note: Callable[[str], None]) -> Run:
    """The run that was named: a folder, or a folder's name under ``headprobe-runs``. Without a name
    the newest there, and ``note`` is told which."""
    if named is None:
        run = newest_run()
        note(f"run: {run.path}")
        return run
    under = RUNS / named
    return Run.load(under if not named.exists() and under.is_dir() else named)


def unfinished(folder: Path = RUNS) -> list[Unfinished]:
    """What can be gone on with in ``folder``, one of several ranks each."""
    return [
        kept
        for kept in find_unfinished(folder)
        if kept.rank == 0 and not any((kept.target / name).is_file() for name in (MANIFEST, SHARD))
    ]


def runs(folder: Path = RUNS) -> tuple[list[Run], list[HeadprobeError]]:
    """All runs in ``folder``, newest first, and those that cannot be read."""
    return list_runs(folder)
