"""What was measured is not lost: full disks, Ctrl-C, signals, two scans of one target."""

import errno
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import headprobe
from headprobe.runs.folder import CONTROL_SUMS, Run
from tests.hostile.driver import OUT, Outcome, Workplace, assert_refused, run_here

STATE = f".{OUT}.unfinished"

ROOT = Path(__file__).parents[2]


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file may become larger than ``size`` bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_same_run(workplace: Workplace) -> None:
    """The run ``out`` has the sums and tables of the run that was never interrupted, also where one
    of the two processes compiled its loops and the other loaded them."""
    whole = workplace.run()
    for name in CONTROL_SUMS.values():
        (whole / name).unlink(missing_ok=True)
    (whole / "controls.csv").unlink()
    one, other = Run.load(workplace.here / OUT), Run.load(whole)
    assert (one.path / "tallies.npz").read_bytes() == (other.path / "tallies.npz").read_bytes()
    assert (one.path / "heads.csv").read_bytes() == (other.path / "heads.csv").read_bytes()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.9])
def test_a_full_disk_at_the_end(workplace: Workplace, share: float) -> None:
    """One line; nothing but the saved sums is left; the same command or --resume succeeds then."""
    command = workplace.scan()
    largest = max(path.stat().st_size for path in workplace.run().iterdir())
    before = names(workplace.here)
    with file_limit(int(largest * share)):
        outcome = run_here(command)
    saved = STATE in names(workplace.here)
    assert names(workplace.here) - before <= {STATE}
    lines = outcome.err.splitlines()
    assert_refused(Outcome(outcome.code, outcome.out, lines[-1]), "cannot be written|MiB")
    assert ("--resume" in lines[-1]) == saved
    again = run_here(["scan", "--resume", OUT, "-q"] if saved else command)
    assert again.code == 0, again.err
    assert STATE not in names(workplace.here)
    assert_same_run(workplace)


def test_a_full_disk_keeps_the_sums_where_they_fit(workplace: Workplace) -> None:
    """The run does not fit, and what is saved instead does."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    workplace.patch.setattr("headprobe.commands.judging.write_manifest", Mock(side_effect=full))
    outcome = run_here(workplace.scan())
    last = outcome.err.splitlines()[-1]
    assert_refused(Outcome(outcome.code, outcome.out, last), "No space left.*--resume out")
    workplace.patch.undo()
    os.chdir(workplace.here)
    assert run_here(["scan", "--resume", OUT, "-q"]).code == 0
    assert_same_run(workplace)


def test_a_disk_that_is_too_small_is_found_before_measuring(workplace: Workplace) -> None:
    workplace.patch.setattr("shutil.disk_usage", lambda _: Usage)
    command, before = workplace.scan(), names(workplace.here)
    assert_refused(run_here(command), "MiB free")
    assert names(workplace.here) == before


class Usage:
    """A disk with one byte left."""

    free = 1


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """As in a terminal: processes in the background of a shell ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_in_the_first_minute_keeps_what_was_measured(workplace: Workplace) -> None:
    workplace.patch.setattr("headprobe.measure.loop._Measurer._advance", interrupt_once())
    outcome = run_here(workplace.scan())
    assert outcome.code == 130
    assert outcome.err == (
        f"interrupted: what was measured is saved. Resume it with headprobe scan --resume {OUT}.\n"
    )
    workplace.patch.undo()
    os.chdir(workplace.here)
    assert run_here(["scan", "--resume", OUT, "-q"]).code == 0
    assert_same_run(workplace)


def interrupt_once() -> Callable[[Any, Any], None]:
    """A stand-in that sends SIGINT when the first passages are done."""
    from headprobe.measure.loop import _Measurer

    advance, sent = _Measurer._advance, threading.Event()

    def interrupting(self: Any, state: Any) -> None:
        advance(self, state)
        if self.done and not sent.is_set():
            sent.set()
            os.kill(os.getpid(), signal.SIGINT)

    return interrupting


@pytest.fixture
def fork(workplace: Workplace) -> Callable[..., BaseProcess]:
    """Starts ``headprobe COMMAND`` in a process that has imported the libraries already.

    The process is a fork of a server that has only imported them: threads do not survive a fork.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["headprobe.cli.main", "headprobe.commands.scan"])
    workplace.patch.setenv("PYTHONPATH", str(ROOT))

    def start(command: list[str], err: Path, ending: int | None = None) -> BaseProcess:
        process = context.Process(
            target=run_forked, args=(command, dict(os.environ), err, ending), daemon=True
        )
        with pytest.MonkeyPatch.context() as patch:
            # The server's socket needs a short path, and the folders of tests have long ones
            patch.delenv("TMPDIR")
            patch.setattr(tempfile, "tempdir", None)
            process.start()
        return process

    return start


def run_forked(command: list[str], env: dict[str, str], err: Path, ending: int | None) -> None:
    """What the process does: it prints to ``err``, and gets the signal ``ending`` when the first
    passages are measured (SIGKILL: when they are saved, after what seems a minute)."""
    from headprobe.cli.main import main

    assert Path(headprobe.__file__).is_relative_to(ROOT)
    os.environ.clear()
    os.environ.update(env)
    for descriptor, path in ((1, os.devnull), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["headprobe", *command]
    if ending is not None:
        end_itself(ending)
    main()


def end_itself(number: int) -> None:
    from headprobe.measure.loop import _Measurer
    from headprobe.runs.checkpoint import ScanCheckpoint

    advance, save, clock = _Measurer._advance, ScanCheckpoint.save, time.monotonic

    def advancing(self: Any, state: Any) -> None:
        advance(self, state)
        if self.done and number == signal.SIGKILL:
            time.monotonic = lambda: clock() + 60
        elif self.done:
            os.kill(os.getpid(), number)

    def saving(self: Any, *arguments: Any) -> None:
        save(self, *arguments)
        if number == signal.SIGKILL:
            os.kill(os.getpid(), number)

    patched: Any = _Measurer
    patched._advance, patched = advancing, ScanCheckpoint
    patched.save = saving


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=lambda sent: sent.name)
def test_a_process_that_is_ended_in_the_first_minute(
    workplace: Workplace, fork: Callable[..., BaseProcess], sent: signal.Signals
) -> None:
    """What was measured is saved, and the line that says so tells how to go on."""
    err = workplace.temporary / "err"
    process = fork(workplace.scan(), err, int(sent))
    process.join(300)
    said = err.read_text()
    if sent == signal.SIGTERM:
        assert process.exitcode == 143, said
        resume = f"Resume it with headprobe scan --resume {OUT}."
        assert said == f"terminated: what was measured is saved. {resume}\n"
    else:
        assert process.exitcode == -sent, said
    assert not (workplace.here / OUT).exists()
    assert run_here(["scan", "--resume", OUT, "-q"]).code == 0
    assert_same_run(workplace)


CODES = {signal.SIGINT: {130, 0}, signal.SIGTERM: {143, 0}, signal.SIGKILL: {-9, 0}}


def start(command: list[str]) -> "subprocess.Popen[bytes]":
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "from headprobe.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("sent", CODES, ids=lambda sent: sent.name)
def test_signals_at_random_moments(workplace: Workplace, sent: signal.Signals) -> None:
    """A whole run or none; what a killed process leaves is hidden, and the next scan removes it."""
    command = workplace.scan()
    before = names(workplace.here)
    child = start(command)
    moment = random.uniform(0.3, 6.0)  # noqa: S311
    try:
        _, err = child.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        child.send_signal(sent)
        _, err = child.communicate(timeout=120)
    # Before Python runs our code, a signal ends it in its own way.
    assert child.returncode in CODES[sent] | {-sent, 1} and b"Error" not in err, (moment, err)
    new = names(workplace.here) - before
    assert all(name == OUT or name.startswith(f".{OUT}.") for name in new), (moment, new)
    if OUT in new:
        Run.load(workplace.here / OUT).rows("heads.csv")
        return
    again = run_here([*command, "--overwrite"])
    assert again.code == 0, again.err
    assert names(workplace.here) - before == {OUT}


def test_two_scans_of_one_target(workplace: Workplace, fork: Callable[..., BaseProcess]) -> None:
    """One of them wins, the other is refused in one line."""
    command = workplace.scan()
    files = [workplace.temporary / f"err-{number}" for number in range(2)]
    processes = [fork(command, err) for err in files]
    for process in processes:
        process.join(300)
    ends = [
        (err.read_text(), process.exitcode) for err, process in zip(files, processes, strict=True)
    ]
    assert sorted(code for _, code in ends) == [0, 2], ends
    refused = next(said for said, code in ends if code == 2).splitlines()
    assert_refused(Outcome(2, "", refused[-1]), OUT)
    Run.load(workplace.here / OUT).rows("heads.csv")
    assert not [name for name in names(workplace.here) if name.startswith(f".{OUT}")]
