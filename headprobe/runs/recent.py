"""The run that was written last, which commands use when no run is named.

Its path is kept in a small file in the state folder of the user, so that it is known in every
folder. The file is replaced as a whole under a name of its own for each writer: concurrent scans
never spoil it, and the last one to finish counts.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.runs.files import PARTIAL, read_json_object, temporary_sibling
from headprobe.runs.folder import MANIFEST, RUNS, list_runs

STATE_VARIABLE = "HEADPROBE_STATE"
"""The environment variable that names the state folder."""

_NOTE = "last-run.json"


def state_folder() -> Path:
    """Return ``$HEADPROBE_STATE``, else the platform's state folder for this user."""
    named = os.environ.get(STATE_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_state_path

    return user_state_path("headprobe")


def remember_run(path: Path) -> None:
    """Remember the run in folder ``path`` as the one that was written last.

    A state folder that cannot be written is no error: the run itself is complete, and commands
    then use the newest run in ``headprobe-runs``.
    """
    note = state_folder() / _NOTE
    temporary = temporary_sibling(note, PARTIAL)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps({"run": str(path.absolute())}), encoding="utf-8")
            temporary.replace(note)
        finally:
            temporary.unlink(missing_ok=True)


def last_run() -> Path | None:
    """Return the folder of the run that was written last; it may be gone. None if not known.

    The path is relative if the run is in the current folder.
    """
    value = read_json_object(state_folder() / _NOTE).get("run")
    path = Path(value) if isinstance(value, str) else Path()
    if not path.is_absolute():
        return None
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def default_run() -> Path:
    """Return the folder of the run that commands use when none is named.

    It is the run that was written last, or if that is gone the newest one in ``headprobe-runs``.
    Raises HeadprobeError if there is neither.
    """
    last = last_run()
    # os.path: the note may hold a path that no file can have
    if last is not None and os.path.isfile(last / MANIFEST):  # noqa: PTH113
        return last
    runs, _ = list_runs(RUNS)
    if runs:
        return runs[0].path
    remedy = "Make one with headprobe scan, or name one with -r"
    if last is None:
        raise HeadprobeError(str(RUNS), "no run here", remedy)
    what = f"the run written last is gone, and there is none in {RUNS}"
    raise HeadprobeError(str(last), what, remedy)


def is_default_run(path: Path) -> bool:
    """Return whether ``path`` is the folder that ``default_run`` returns."""
    try:
        return default_run().absolute() == path.absolute()
    except HeadprobeError:
        return False
