"""Leftovers of killed processes."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from headprobe.errors import HeadprobeError
from headprobe.runs.files import OLD, PARTIAL, temporary_sibling
from headprobe.runs.folder import MANIFEST, check_target
from tests.helpers.synthetic import manifest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes cannot be asked for there")

KILLED = """
import os, pathlib, signal, sys
from headprobe.runs import folder as run_folder
target = pathlib.Path(sys.argv[1])
if sys.argv[2] == "put":
    os.fsync = lambda _: None
    rename = pathlib.Path.rename
    def once(path, to):
        rename(path, to)
        os.kill(os.getpid(), signal.SIGKILL)
    pathlib.Path.rename = once
with run_folder.new_run(target, overwrite=True) as folder:
    (folder / "manifest.json").write_text("new")
    if sys.argv[2] == "write":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_while(what: str, target: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(target), what], check=False)
    assert done.returncode == -signal.SIGKILL


def hidden(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


def test_leftovers_of_a_killed_process_are_removed_by_the_next_scan(tmp_path: Path) -> None:
    kill_while("write", tmp_path / "run")
    assert len(hidden(tmp_path)) == 1
    check_target(tmp_path / "other", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_run_that_was_moved_aside_is_restored(tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    (target / MANIFEST).write_text(old := json.dumps(asdict(manifest())))
    kill_while("put", target)
    assert not target.exists() and len(hidden(tmp_path)) == 2
    with pytest.raises(HeadprobeError, match="exists already"):
        check_target(target, overwrite=False)
    assert (target / MANIFEST).read_text() == old and hidden(tmp_path) == []


def test_replaced_run_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "run"
    kill_while("write", target)
    (left,) = hidden(tmp_path)
    left.rename(left.with_name(left.name.replace(PARTIAL, OLD)))
    target.mkdir()
    (target / MANIFEST).write_text("newer")
    check_target(tmp_path / "other", overwrite=False)
    assert (target / MANIFEST).read_text() == "newer" and hidden(tmp_path) == []


def test_other_files_in_leftovers_are_never_removed(tmp_path: Path) -> None:
    """In a run that was replaced, and in one that was being written."""
    for kind in (OLD, PARTIAL):
        target = tmp_path / kind
        kill_while("write", target)
        (left,) = hidden(tmp_path)
        (left / f"{kind}.tex").write_text("years of work")
        left = left.rename(left.with_name(left.name.replace(PARTIAL, kind)))
        target.mkdir()
        check_target(tmp_path / "other", overwrite=False)
        assert not (left / MANIFEST).exists()
        saved = target if kind == OLD else left
        assert (saved / f"{kind}.tex").read_text() == "years of work"
        assert left.exists() == (kind == PARTIAL)


def test_folders_in_use_or_of_unknown_origin_are_not_removed(tmp_path: Path) -> None:
    mine = temporary_sibling(tmp_path / "run", PARTIAL)
    elsewhere = mine.with_name(f".run.{PARTIAL}-elsewhere-999999999-0123abcd")
    others = [mine, elsewhere, tmp_path / ".run.partial-0123abcd", tmp_path / ".keep"]
    for path in others:
        path.mkdir()
    check_target(tmp_path / "run", overwrite=False)
    assert sorted(hidden(tmp_path)) == sorted(others)
