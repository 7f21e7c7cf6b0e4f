"""Work that tests of all xdist workers share is done by one of them.

A session fixture lives in one worker, so each worker would do the work again. A folder that all
workers of a session see, with a lock, is done once.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder that all workers of this test session share."""
    own = factory.getbasetemp()
    # a worker's folder is named popen-gw0 and lies in the folder of the session
    return own.parent if own.name.startswith("popen-") else own


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """``folder``, filled by ``make`` unless an earlier call, in any process, has filled it.

    A ``make`` that raises leaves nothing behind: the next caller tries again and shows the error,
    too.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(folder)
    return folder
