"""What was measured is not lost: full disks, Ctrl-C, signals, two scans of one target."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from headprobe.runs.folder import CONTROL_SUMS, Run
from tests.hostile.driver import OUT, Outcome, Workplace, assert_refused, run_here

STATE = f".{OUT}.unfinished"


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
    """The run ``out`` has the sums and tables of the run that was never interrupted."""
    whole = workplace.run()
    for name in CONTROL_SUMS.values():
        (whole / name).unlink(missing_ok=True)
    (whole / "controls.csv").unlink()
    one, other = Run.load(workplace.here / OUT), Run.load(whole)
    assert (one.path / "tallies.npz").read_bytes() == (other.path / "tallies.npz").read_bytes()
    assert (one.path / "heads.csv").read_bytes() == (other.path / "heads.csv").read_bytes()


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.9])
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


ENDS_ITSELF = """
import os, sys, time
from headprobe.cli.main import main
from headprobe.measure.loop import _Measurer
from headprobe.runs.checkpoint import ScanCheckpoint

advance, save = _Measurer._advance, ScanCheckpoint.save

def ending(self, state):
    advance(self, state)
    if self.done and WAIT:
        time.sleep(WAIT)
    elif self.done:
        os.kill(os.getpid(), NUMBER)

def saving(self, *arguments):
    save(self, *arguments)
    if WAIT:
        os.kill(os.getpid(), NUMBER)

_Measurer._advance, ScanCheckpoint.save = ending, saving
main()
"""
"""A program that gets a signal when the first passages are measured, or after the first save where
they take as long as WAIT says."""


@pytest.mark.parametrize(
    ("sent", "wait"),
    [(signal.SIGTERM, 0), (signal.SIGKILL, 10)],
    ids=lambda sent: getattr(sent, "name", ""),
)
def test_a_process_that_is_ended_in_the_first_minute(
    workplace: Workplace, sent: signal.Signals, wait: int
) -> None:
    """What was measured is saved, and the line that says so tells how to go on."""
    command = workplace.scan()
    program = ENDS_ITSELF.replace("NUMBER", str(int(sent))).replace("WAIT", str(wait))
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=300,
        check=False,
    )
    if sent == signal.SIGTERM:
        assert done.returncode == 143, done.stderr
        resume = f"Resume it with headprobe scan --resume {OUT}."
        assert done.stderr == f"terminated: what was measured is saved. {resume}\n"
    else:
        assert done.returncode == -sent, done.stderr
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
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
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


def test_two_scans_of_one_target(workplace: Workplace) -> None:
    """One of them wins, the other is refused in one line."""
    command = workplace.scan()
    children = [start(command) for _ in range(2)]
    ends = [(child.communicate(timeout=120)[1], child.returncode) for child in children]
    assert sorted(code for _, code in ends) == [0, 2], ends
    refused = next(err for err, code in ends if code == 2).decode().splitlines()
    assert_refused(Outcome(2, "", refused[-1]), OUT)
    Run.load(workplace.here / OUT).rows("heads.csv")
    assert not [name for name in names(workplace.here) if name.startswith(f".{OUT}")]
