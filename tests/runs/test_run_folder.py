"""A run folder appears complete or not at all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import pytest

from headprobe.errors import HeadprobeError
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import (
    MANIFEST,
    SHARD,
    Run,
    check_target,
    default_target,
    list_runs,
    new_run,
)
from tests.helpers.synthetic import manifest, write_run


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


OLD = json.dumps(asdict(manifest(name="old")))


def old_run(target: Path) -> Path:
    target.mkdir()
    (target / MANIFEST).write_text(OLD)
    return target


def test_run_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    with new_run(target) as folder:
        (folder / MANIFEST).write_text("new")
        assert not target.exists()
        assert folder.parent == target.parent
    assert (target / MANIFEST).read_text() == "new"
    assert names(target.parent) == ["run"]


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, SystemExit, HeadprobeError])
def test_failed_run_leaves_nothing_behind(tmp_path: Path, fault: type[BaseException]) -> None:
    thrown = fault("a", "b", "c") if fault is HeadprobeError else fault()
    with pytest.raises(fault), new_run(tmp_path / "run") as folder:
        (folder / "heads.csv").write_text("half")
        raise thrown
    assert names(tmp_path) == []


def test_existing_run_is_refused_and_unchanged(tmp_path: Path) -> None:
    target = old_run(tmp_path / "run")
    with pytest.raises(HeadprobeError, match="--overwrite"), new_run(target):
        pytest.fail("nothing may be written")
    assert (target / MANIFEST).read_text() == OLD
    assert names(tmp_path) == ["run"]


def test_overwriting_replaces_only_after_the_new_one_is_complete(tmp_path: Path) -> None:
    target = old_run(tmp_path / "run")
    (target / "heads.csv").write_text("")
    with new_run(target, overwrite=True) as folder:
        (folder / MANIFEST).write_text("new")
        assert (target / MANIFEST).read_text() == OLD
    assert names(target) == [MANIFEST]
    assert (target / MANIFEST).read_text() == "new"
    assert names(tmp_path) == ["run"]


def test_failed_overwrite_keeps_the_old_run(tmp_path: Path) -> None:
    target = old_run(tmp_path / "run")
    with pytest.raises(RuntimeError), new_run(target, overwrite=True):
        raise RuntimeError
    assert (target / MANIFEST).read_text() == OLD
    assert names(tmp_path) == ["run"]


def test_failed_exchange_restores_the_old_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = old_run(tmp_path / "run")
    rename = Path.rename

    def fail(path: Path, to: Path) -> Path:
        if ".partial-" in path.name:
            raise OSError("disk gone")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with (
        pytest.raises(HeadprobeError, match=r"cannot be written \(disk gone\)"),
        new_run(target, overwrite=True) as folder,
    ):
        (folder / MANIFEST).write_text("new")
    assert (target / MANIFEST).read_text() == OLD
    assert names(tmp_path) == ["run"]


def test_folder_that_cannot_be_moved_gives_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = old_run(tmp_path / "run")

    def locked(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", locked)
    with (
        pytest.raises(HeadprobeError, match=r"cannot be replaced \(Operation not permitted\)"),
        new_run(target, overwrite=True) as folder,
    ):
        (folder / MANIFEST).write_text("new")
    assert names(tmp_path) == ["run"] and (target / MANIFEST).read_text() == OLD


def test_run_written_concurrently_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with pytest.raises(HeadprobeError, match="exists already"), new_run(target) as folder:
        (folder / MANIFEST).write_text("ours")
        old_run(target)
    assert (target / MANIFEST).read_text() == OLD
    assert names(tmp_path) == ["run"]


def test_folder_that_is_not_a_run_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(HeadprobeError, match="not a run folder"):
        check_target(tmp_path / "thesis", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(HeadprobeError, match="not a folder"):
        check_target(tmp_path / "file", overwrite=True)
    with pytest.raises(HeadprobeError, match="cannot be written"):
        check_target(tmp_path / "file" / "run", overwrite=False)


@pytest.mark.parametrize("name", [MANIFEST, SHARD])
def test_folder_with_a_file_of_the_same_name_is_not_a_run(tmp_path: Path, name: str) -> None:
    for text in ("{}", "[]", "old", "[" * 100_000, '{"schema_version": 1}'):
        (tmp_path / name).write_text(text)
        with pytest.raises(HeadprobeError, match="not a run folder"):
            check_target(tmp_path, overwrite=True)


FOREIGN: list[tuple[str, Callable[[Path], object]]] = [
    ("thesis.tex", lambda path: path.write_text("years of work")),
    ("notes", lambda path: path.mkdir()),
    ("heads.csv", lambda path: path.symlink_to("/etc/hostname")),
    ("rules.yaml", lambda path: path.mkdir()),
    ("pairs.csv", os.mkfifo),
]


@pytest.mark.parametrize(("name", "make"), FOREIGN, ids=[name for name, _ in FOREIGN])
def test_run_with_other_files_is_not_replaced(
    tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    target = old_run(tmp_path / "run")
    make(target / name)
    with (
        pytest.raises(HeadprobeError, match=rf"did not write \({name}\)\. Move them elsewhere"),
        new_run(target, overwrite=True),
    ):
        pytest.fail("nothing may be measured")
    assert names(target) == sorted([MANIFEST, name]) and names(tmp_path) == ["run"]
    (target / name).rename(tmp_path / "elsewhere")  # the remedy
    with new_run(target, overwrite=True) as folder:
        (folder / MANIFEST).write_text("new")
    assert (target / MANIFEST).read_text() == "new"


def test_files_that_appear_during_a_run_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = old_run(tmp_path / "run")
    with (
        pytest.raises(HeadprobeError, match=r"\(thesis\.tex\)"),
        new_run(target, overwrite=True) as folder,
    ):
        (folder / MANIFEST).write_text("new")
        (target / "thesis.tex").write_text("years of work")
    assert names(target) == [MANIFEST, "thesis.tex"] and names(tmp_path) == ["run"]
    (target / "thesis.tex").unlink()

    def late(*_: object, **__: object) -> None:  # after the last look
        (target / "thesis.tex").write_text("years of work")

    with new_run(target, overwrite=True) as folder:
        (folder / MANIFEST).write_text("new")
        monkeypatch.setattr(run_folder, "check_target", late)
    assert (target / MANIFEST).read_text() == "new"
    assert (target / "thesis.tex").read_text() == "years of work"
    assert names(tmp_path) == ["run"]


def test_link_to_a_run_stays_a_link(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    target = old_run(disk / "run")
    (tmp_path / "link").symlink_to(target)
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(HeadprobeError, match=r"\(thesis\.tex\)"):
        check_target(tmp_path / "link", overwrite=True)
    (target / "thesis.tex").unlink()
    with new_run(tmp_path / "link", overwrite=True) as folder:
        (folder / MANIFEST).write_text("new")
    assert (tmp_path / "link").readlink() == target
    assert (target / MANIFEST).read_text() == "new"
    assert names(tmp_path) == ["disk", "link"] and names(disk) == ["run"]


def test_too_long_name_is_refused_at_once(tmp_path: Path) -> None:
    for letters in (240, 300):
        with pytest.raises(HeadprobeError, match=r"cannot be written \(File name too long\)"):
            check_target(tmp_path / ("a" * letters), overwrite=False)
    assert names(tmp_path) == []


def test_an_unwritable_folder_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # a mode would not stop root
    with pytest.raises(HeadprobeError, match=r"cannot be written \(Permission denied\)"):
        check_target(tmp_path / "a" / "b", overwrite=False)


def test_checking_a_destination_leaves_nothing_behind(tmp_path: Path) -> None:
    check_target(tmp_path / "a" / "b", overwrite=False)
    assert names(tmp_path) == []


def test_dangling_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(HeadprobeError, match="exists"):
        check_target(tmp_path / "link", overwrite=True)


SLEEPER = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from headprobe.runs.folder import new_run
with new_run(Path(sys.argv[1]), overwrite=True) as folder:
    (folder / "heads.csv").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_killed_scan_keeps_the_old_run_and_no_incomplete_one(
    tmp_path: Path, sent: signal.Signals
) -> None:
    target = old_run(tmp_path / "run")
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(sent)
    child.wait(timeout=20)
    child.stdout.close()
    assert (target / MANIFEST).read_text() == OLD
    visible = [name for name in names(tmp_path) if not name.startswith(".")]
    assert visible == ["run"]
    if sent == signal.SIGINT:
        assert names(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("model", "stem"),
    [
        ("meta-llama/Llama-3.1-8B", "Llama-3.1-8B"),
        ("/models/stories260K/", "stories260K"),
        ("..", "model"),
        ("../../etc\x00/pass wd\n", "pass-wd"),
        ("", "model"),
        ("猫", "model"),
    ],
)
def test_default_names_stay_in_their_folder(tmp_path: Path, model: str, stem: str) -> None:
    now = datetime(2026, 11, 22, 15, 13)
    target = default_target(model, now, tmp_path)
    assert target == tmp_path / f"{stem}-20261122-151300"
    target.mkdir()
    assert default_target(model, now, tmp_path) == tmp_path / f"{stem}-20261122-151300-2"


def test_runs_are_listed_newest_first_and_broken_runs_are_named(tmp_path: Path) -> None:
    from dataclasses import replace

    for day in (3, 9, 5):
        folder = tmp_path / f"run{day}"
        folder.mkdir()
        replace(manifest(), started=f"2026-11-0{day}T00:00:00+00:00").save(folder / MANIFEST)
    (old_run(tmp_path / "broken") / MANIFEST).write_text("old")
    (tmp_path / "not-a-run").mkdir()
    old_run(tmp_path / ".run.partial-abcd")
    runs, broken = list_runs(tmp_path)
    assert [run.path.name for run in runs] == ["run9", "run5", "run3"]
    assert len(broken) == 1
    assert "broken" in str(broken[0])


def test_missing_run_gives_a_one_line_error(tmp_path: Path) -> None:
    for ask in (
        lambda: Run.load(tmp_path),
        lambda: Run.load(tmp_path / "x"),
    ):
        with pytest.raises(HeadprobeError) as caught:
            ask()
        assert len(str(caught.value).splitlines()) == 1


def test_parts_of_a_run_are_read_lazily(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert len(run.heads) == 32
    assert run.tally("profile").shape == (4, 8, 511)
    assert run.tally("example_word").shape == (8, 4, 8, 5)
    assert len(run.instances.of(0)) == 2


def test_files_have_the_default_permissions_of_the_user(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with new_run(tmp_path / "run") as folder:
            (folder / MANIFEST).write_text("")
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755
