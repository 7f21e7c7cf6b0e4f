"""The run that was written last is known everywhere, and never costs a run."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headprobe.commands.show import find_run
from headprobe.errors import HeadprobeError
from headprobe.runs.folder import RUNS, Run
from headprobe.runs.recent import (
    STATE_VARIABLE,
    default_run,
    is_default_run,
    last_run,
    remember_run,
    state_folder,
)
from tests.helpers.synthetic import write_run


def test_nothing_is_known_at_first(here: Path) -> None:
    assert last_run() is None
    assert not is_default_run(here)
    with pytest.raises(HeadprobeError, match="no run here"):
        default_run()


def test_the_last_run_is_known_in_every_folder(
    here: Path, run: Run, hostile_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_run(hostile_run.path)
    remember_run(run.path)
    assert last_run() == run.path
    assert is_default_run(run.path)
    assert not is_default_run(hostile_run.path)
    notes: list[str] = []
    assert find_run(None, notes.append).path == run.path
    assert notes == [f"run: {run.path}"]
    monkeypatch.chdir(run.path.parent)
    assert last_run() == Path(run.path.name)  # as short as it can be typed
    assert find_run(None, notes.append).path == Path(run.path.name)


def test_a_run_that_is_gone_gives_way_to_the_newest(here: Path) -> None:
    remember_run(here / "gone")
    with pytest.raises(HeadprobeError) as caught:
        default_run()
    assert str(caught.value).startswith("gone: the run written last is gone, and there is none in")
    write_run(RUNS / "kept")
    notes: list[str] = []
    assert find_run(None, notes.append).path == RUNS / "kept"
    assert notes == ["run: headprobe-runs/kept (the run written last, gone, is gone)"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": 3}', '{"run": "relative"}', "\0"])
def test_a_damaged_note_is_no_error(content: str) -> None:
    state_folder().mkdir(parents=True)
    (state_folder() / "last-run.json").write_text(content)
    assert last_run() is None


def test_names_may_hold_any_bytes(here: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n")
    remember_run(here / name)
    assert last_run() == Path(name)


def test_a_state_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path(os.devnull)):
        monkeypatch.setenv(STATE_VARIABLE, str(folder))
        remember_run(tmp_path)
        assert last_run() is None
    assert (tmp_path / "file").read_text() == "mine"


def test_concurrent_writers_leave_one_whole_note(tmp_path: Path) -> None:
    paths = [tmp_path / f"run-{number}" / ("x" * 200) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for known in pool.map(lambda path: (remember_run(path), last_run())[1], paths):
            assert known in paths
    assert last_run() in paths
    assert [path.name for path in state_folder().iterdir()] == ["last-run.json"]
