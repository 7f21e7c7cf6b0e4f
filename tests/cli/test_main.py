"""What becomes of errors, interrupts and bugs."""

import gc
import json
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import headprobe
from headprobe.cli.main import main, run
from headprobe.errors import HeadprobeError
from headprobe.progress import Progress
from headprobe.runs.folder import RUNS, Run
from tests.helpers.synthetic import write_run

Scan = Callable[[Any, Progress], Run]


@pytest.fixture(autouse=True)
def kept_handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def scan_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Scan], list[Any]]:
    """Puts another function in the place of the scan; what it was asked is in the list."""
    monkeypatch.chdir(tmp_path)

    def put(scan: Scan) -> list[Any]:
        asked = []

        def listening(request: Any, progress: Progress, in_memory: Any = None) -> Run:
            asked.append(request)
            return scan(request, progress)

        stand_in: Any = types.ModuleType("headprobe.commands.scan")
        stand_in.scan = stand_in.plan = listening
        stand_in.run_scan = lambda attempt, progress, _: listening(attempt.config, progress).path
        monkeypatch.setitem(sys.modules, "headprobe.commands.scan", stand_in)
        return asked

    return put


def type_in(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["headprobe", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def finished(request: Any, progress: Progress) -> Run:
    progress.stage("measure", 2, "passages")
    progress.warn("odd")
    return write_run(RUNS / "made")


def test_scan_prints_the_summary(
    scan_with: Callable[[Scan], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = scan_with(finished)
    code = type_in(
        monkeypatch,
        "scan",
        "some/model",
        "-p",
        "a.conllu",
        "-p",
        "b",
        "--csv",
        "out",
        "--seed",
        "7",
    )
    output, errors = capsys.readouterr()
    assert code == 0
    assert asked[0].probes == ("a.conllu", "b")
    assert (asked[0].model, asked[0].seed, asked[0].out) == ("some/model", 7, None)
    assert "roles by layer" in output
    assert "next  headprobe show-head L" in output
    assert errors == "measure (2 passages)\nwarning: odd\n"
    assert Path("out/heads.csv").is_file()


def test_quiet_prints_only_the_folder(
    scan_with: Callable[[Scan], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scan_with(finished)
    assert type_in(monkeypatch, "scan", "m", "--quiet") == 0
    assert capsys.readouterr() == (f"{RUNS / 'made'}\n", "warning: odd\n")


def test_an_existing_csv_folder_is_an_error_before_the_scan(
    scan_with: Callable[[Scan], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = scan_with(finished)
    Path("heads.csv").write_text("mine")
    assert type_in(monkeypatch, "scan", "m", "--csv", ".") == 2
    assert asked == []
    assert "--overwrite" in capsys.readouterr().err
    assert Path("heads.csv").read_text() == "mine"


def test_idle_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user has said how they shall wait."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert type_in(monkeypatch, "--version") == 0
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


def test_an_interrupt_is_one_line_and_exit_130(
    scan_with: Callable[[Scan], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(request: Any, progress: Progress) -> Run:
        raise KeyboardInterrupt

    scan_with(interrupted)
    assert type_in(monkeypatch, "scan", "m") == 130
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "no partial files" in said


def test_termination_removes_partial_files(
    scan_with: Callable[[Scan], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    unwound = []

    def terminated(request: Any, progress: Progress) -> Run:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            unwound.append(True)
        raise AssertionError

    scan_with(terminated)
    assert type_in(monkeypatch, "scan", "m") == 143
    assert unwound


def test_user_errors_are_one_escaped_line(
    scan_with: Callable[[Scan], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(request: Any, progress: Progress) -> Run:
        raise HeadprobeError("a\nb\x1b[31m.conllu:3", "not UTF-8", "Save it as UTF-8")

    scan_with(refused)
    assert type_in(monkeypatch, "scan", "m") == 2
    assert capsys.readouterr().err == "a\\nb\\x1b[31m.conllu:3: not UTF-8. Save it as UTF-8.\n"


@pytest.mark.parametrize("bug", [lambda: 1 // 0, lambda: json.loads("{")], ids=["own", "library"])
def test_bugs_keep_their_traceback(
    scan_with: Callable[[Scan], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    bug: Callable[[], object],
) -> None:
    """Also what a library raises in a call: only its import may fail in one line."""

    def broken(request: Any, progress: Progress) -> Run:
        bug()
        raise AssertionError

    scan_with(broken)
    monkeypatch.setattr(sys, "argv", ["headprobe", "scan", "m"])
    with pytest.raises((ZeroDivisionError, json.JSONDecodeError)):
        main()


def test_scan_from_python_returns_tables(scan_with: Callable[[Scan], list[Any]]) -> None:
    asked = scan_with(lambda request, progress: write_run(RUNS / "made"))
    run = headprobe.scan(Path("folder"), probes=[Path("a.conllu")], out="x")
    assert (asked[0].model, asked[0].probes, asked[0].out) == ("folder", ("a.conllu",), Path("x"))
    assert len(run.heads) == 32
    assert set(run.relations["family"]) == {"coreference", "syntax", "punctuation"}
    assert len(run.pairs) == 2
    assert len(headprobe.load(RUNS / "made").skipped) == 2
    assert repr(run) == f"<Run {str(run.path)!r}: 4 layers of 8 heads>"


@pytest.mark.parametrize("probes", ["story", Path("story")])
def test_probes_can_be_a_single_name(
    scan_with: Callable[[Scan], list[Any]], probes: str | Path
) -> None:
    asked = scan_with(lambda request, progress: write_run(RUNS / "made"))
    headprobe.scan("folder", probes=probes)
    assert asked[0].probes == ("story",)


def test_run_executes_a_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It returns the exit code and changes nothing of the process that calls it."""
    monkeypatch.chdir(tmp_path)
    handler, thresholds = signal.getsignal(signal.SIGTERM), gc.get_threshold()
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"headprobe {headprobe.__version__}\n"
    assert run(("show-head", "L0H0")) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert run([]) == 0
    assert "scan" in capsys.readouterr().out
    assert (signal.getsignal(signal.SIGTERM), gc.get_threshold()) == (handler, thresholds)
