"""Checkpoints of a scan, from which an interrupted scan is resumed.

``ScanCheckpoint`` is the hidden folder beside the run that holds the state of an unfinished scan.
``CheckpointWriter`` saves that state after the first seconds, then at longer and longer intervals
up to a minute, and where Ctrl-C or SIGTERM ends the scan. A resumed scan also continues the
``Clock`` of the earlier attempts, and must have the same fingerprint (``runs.fingerprint``).
"""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headprobe.errors import TERMINATING, HeadprobeError, Terminated, terminate
from headprobe.runs.arrays import read_any_arrays
from headprobe.runs.files import (
    CannotWriteError,
    atomic_write,
    is_partial,
    parse_json,
    read_or_fail,
    remove_own,
    write_or_fail,
)

_FOLDER = re.compile(r"\.(.+?)(?:\.rank-(\d+)-of-(\d+))?\.unfinished")
"""The name of a checkpoint folder: target name, rank (from 1) and number of ranks."""

PARTS = ("checkpoint", "shuffled", "twin")
"""The parts of a checkpoint: the sums of the scanned model, and those of each control."""

_REMEDY = "Start again with --overwrite"


@dataclass(frozen=True)
class ScanCheckpoint:
    """The saved state of one process of an unfinished scan. It has up to one file for each of
    ``PARTS``, each written atomically."""

    target: Path
    """The run or shard folder that the scan will write."""

    rank: int = 0
    """The rank of the process, from 0."""

    ranks: int = 1
    """The number of processes that share the scan (started by torchrun)."""

    @property
    def path(self) -> Path:
        """The checkpoint folder, which need not exist."""
        rank = f".rank-{self.rank + 1}-of-{self.ranks}" if self.ranks > 1 else ""
        target = self.target.absolute()
        return target.with_name(f".{target.name}{rank}.unfinished")

    @property
    def command(self) -> str:
        """The command that resumes the scan."""
        start = f"torchrun --nproc-per-node {self.ranks} -m " if self.ranks > 1 else ""
        return f"{start}headprobe scan --resume {self.target}"

    def save(
        self, part: str, note: Mapping[str, Any], arrays: Mapping[str, "NDArray[Any]"]
    ) -> None:
        """Write the ``arrays`` of one part, and the ``note`` that describes the scan as a whole.

        CannotWriteError if they cannot be written; the file that was saved before then remains.
        """
        try:
            with write_or_fail(self.path, "Make room"):
                self.path.mkdir(parents=True, exist_ok=True)
                self._write(part, note, arrays)
        except CannotWriteError:
            with suppress(OSError):  # it holds what was saved before
                self.path.rmdir()
            raise

    def _write(
        self, part: str, note: Mapping[str, Any], arrays: Mapping[str, "NDArray[Any]"]
    ) -> None:
        with atomic_write(self._file(part)) as file:
            np.savez(file, note=np.array(json.dumps(note)), **arrays)  # type: ignore[arg-type]

    def load_note(self) -> dict[str, Any] | None:
        """The note that was saved last, None if nothing is saved; HeadprobeError if damaged."""
        files = sorted(self.path.glob("*.npz"), key=lambda path: path.lstat().st_mtime_ns)
        if not files:
            return None
        with read_or_fail(files[-1], _REMEDY) as path:
            note = parse_json(str(read_any_arrays(path, ["note"])["note"]))
        if not isinstance(note, dict):
            raise HeadprobeError(str(path), "is not the saved state of a scan", _REMEDY)
        return note

    def has(self, part: str) -> bool:
        """Whether a part is saved."""
        return os.path.lexists(self._file(part))

    def arrays(self, part: str) -> "dict[str, NDArray[Any]] | None":
        """The arrays of a part; None if it is not saved. HeadprobeError if it is damaged."""
        if not self.has(part):
            return None
        with read_or_fail(self._file(part), _REMEDY) as path:
            return read_any_arrays(path)

    def reading(self, part: str) -> AbstractContextManager[Path]:
        """Turn the errors that a damaged file of a part causes into a HeadprobeError."""
        return read_or_fail(self._file(part), _REMEDY, "is not the saved state of this scan")

    def remove(self) -> None:
        """Remove the saved parts, and the folder unless it holds other files."""
        if not self.path.is_symlink() and self.path.is_dir():
            names = {self._file(part).name for part in PARTS}
            left = {path.name for path in self.path.iterdir() if is_partial(path.name)}
            remove_own(self.path, names | left)

    def _file(self, part: str) -> Path:
        return self.path / f"{part}.npz"


def find_checkpoints(folder: Path, name: str | None = None) -> list[ScanCheckpoint]:
    """The checkpoints in ``folder`` of the run ``name``, or of any run."""
    checkpoints = []
    for path in sorted(folder.glob(".*.unfinished")):
        match = _FOLDER.fullmatch(path.name)
        if match and name in (None, match[1]) and any(path.glob("*.npz")):
            rank, ranks = int(match[2] or 1), int(match[3] or 1)
            checkpoints.append(ScanCheckpoint(folder / match[1], rank - 1, ranks))
    return checkpoints


FIRST_INTERVAL = 2.0
"""Seconds until the first save. Each interval is twice as long as the one before it, so that a scan
that is killed loses about half of what it has measured at most ..."""

WRITE_INTERVAL = 60.0
"""... and no more than these seconds, where saving is cheap enough."""

WRITE_COST_FACTOR = 150
"""A save waits at least this many times as long as it takes, so that saving costs less than a
hundredth of the time ..."""

EARLY_SHARE = 0.003
"""... unless all saves together take at most this share of the time that the measurement is
expected to take: of a long scan, the first results are saved early."""

_SECONDS, _SECONDS_PER_BYTE = 0.03, 4e-9
"""How long the first save is expected to take; later ones take as long as the last one."""


class CheckpointState(Protocol):
    """A measurement whose state can be saved."""

    @property
    def share(self) -> float:
        """The share, 0 to 1, of what was left to measure at the start that is done."""
        ...

    @property
    def nbytes(self) -> int:
        """Approximate size of ``arrays`` in bytes."""
        ...

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Everything that is needed to continue from here."""
        ...


class CheckpointWriter:
    """Decides when the state of a scan is saved, and saves it.

    With ``resumed`` the scan continues from the parts that are saved already. ``warn`` shows a
    message if the disk is full.
    """

    def __init__(
        self,
        checkpoint: ScanCheckpoint,
        warn: Callable[[str], None],
        *,
        resumed: bool,
    ) -> None:
        self._checkpoint, self._warn, self._resumed = checkpoint, warn, resumed
        self._note: Callable[[], Mapping[str, Any]] | None = None
        self._start = self._last = time.monotonic()
        self._interval, self._broken = FIRST_INTERVAL, False
        self._cost: float | None = None
        self._spent = 0.0
        self._final: dict[str, CheckpointState] = {}
        self._unsaved: set[str] = set()
        self._received: int | None = None

    def begin(self, note: Callable[[], Mapping[str, Any]]) -> None:
        """Allow saving from now on. ``note`` returns the description of the scan that is saved with
        every part."""
        self._note = note

    def part(self, part: str) -> "CheckpointPart":
        """The writer of one of ``PARTS``, whose measurement begins now."""
        self._start, self._spent = time.monotonic(), 0.0
        return CheckpointPart(self, part, saved=self._resumed and self._checkpoint.has(part))

    def arrays(self, part: str) -> Mapping[str, NDArray[Any]] | None:
        """The arrays of a part that were saved last; None if it is not saved."""
        with self.reading(part):
            return self._checkpoint.arrays(part)

    @contextmanager
    def reading(self, part: str) -> Iterator[None]:
        """Turn the errors that a damaged file of a part causes into a HeadprobeError, after which
        there is nothing to resume."""
        try:
            with self._checkpoint.reading(part):
                yield
        except HeadprobeError:
            self._note = None
            raise

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal asked the scan to end, which it has not done yet."""
        return self._received is not None

    def is_due(self, state: CheckpointState) -> bool:
        """Whether it is time to save: the scan is to end, or has run for long."""
        if self.is_interrupted:
            return True
        now = time.monotonic()
        waited = now - self._last
        if waited < min(self._interval, WRITE_INTERVAL):
            return False
        cost = self._cost
        if cost is None:
            cost = _SECONDS + _SECONDS_PER_BYTE * state.nbytes
        if waited >= WRITE_COST_FACTOR * cost:
            return True
        expected = (now - self._start) / state.share if state.share else 0.0
        return self._spent + cost <= EARLY_SHARE * expected

    def write(self, part: str, state: CheckpointState, *, warn: bool = True) -> bool:
        """Save a part, and the final states that are not saved yet; whether that succeeded. A full
        disk does not end the scan: it causes one warning, and nothing is saved any more."""
        if self._note is None or self._broken:
            return False
        start = time.monotonic()
        unsaved = {name: self._final[name] for name in sorted(self._unsaved)} | {part: state}
        try:
            for name, each in unsaved.items():
                self._checkpoint.save(name, self._note(), each.arrays())
                if self._final.get(name) is each:
                    self._unsaved.discard(name)
        except CannotWriteError as error:
            self._broken = True
            if warn:
                self._warn(f"{error.where}: {error.what}; progress is no longer saved for --resume")
        self._last = time.monotonic()
        self._interval *= 2
        self._cost = self._last - start
        self._spent += self._cost
        return not self._broken

    @contextmanager
    def deferring_interrupts(self) -> Iterator[None]:
        """Let Ctrl-C, SIGTERM and SIGHUP end the block only when its state is saved
        (``end_if_interrupted``).

        Sums that are interrupted while a chunk is added would be of no use. The same signal a
        second time ends the block at once. Handlers of other programs stay.
        """
        with self._remembering_signals():
            yield
        self.end_if_interrupted()

    @contextmanager
    def _remembering_signals(self) -> Iterator[None]:
        """Note the first signal that arrives in the block, instead of calling its handler."""
        usual = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *TERMINATING):
                handler = signal.getsignal(number)
                if handler in (signal.default_int_handler, terminate):
                    usual[number] = handler

        def remember(number: int, _: FrameType | None) -> None:
            self._received = number
            signal.signal(number, usual[number])

        try:
            for number in usual:
                signal.signal(number, remember)
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    def end_if_interrupted(self) -> None:
        """Raise KeyboardInterrupt where a signal asked the scan to end and was not heeded yet."""
        number, self._received = self._received, None
        if number is not None:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    def keep_final(self, part: str, state: CheckpointState) -> None:
        """Remember the final state of a part, in case that the run cannot be written."""
        self._final[part] = state
        self._unsaved.add(part)

    def save_final(self) -> None:
        """Save all final states: the scan ends, and its run is not written. Signals that ask it to
        end are too late to matter."""
        self._broken = False  # what failed before was removed meanwhile
        if self._unsaved:
            part = min(self._unsaved)
            with self._remembering_signals():
                self.write(part, self._final[part], warn=False)

    def resume_hint(self) -> str | None:
        """How to resume the scan; None if nothing is saved."""
        if self._note is None or not any(self._checkpoint.path.glob("*.npz")):
            return None
        return f"what was measured is saved. Resume it with {self._checkpoint.command}"


class CheckpointPart:
    """Saves one part of a checkpoint. ``saved`` says whether an earlier attempt has saved it."""

    def __init__(self, writer: CheckpointWriter, part: str, *, saved: bool) -> None:
        self._writer, self.part, self._saved = writer, part, saved

    def saved_arrays(self) -> Mapping[str, NDArray[Any]] | None:
        """The arrays that were saved last, by an earlier attempt or by this one, which continues
        from them after it ran out of memory. None if nothing is saved."""
        return self._writer.arrays(self.part) if self._saved else None

    def restoring(self) -> AbstractContextManager[None]:
        """Turn the errors of a block that restores ``saved_arrays`` into a HeadprobeError."""
        return self._writer.reading(self.part)

    def save_if_due(self, state: CheckpointState) -> None:
        """Save ``state`` if it is time to."""
        if self._writer.is_due(state):
            self._saved |= self._writer.write(self.part, state)
        self._writer.end_if_interrupted()

    def deferring_interrupts(self) -> AbstractContextManager[None]:
        """Let signals end the block only where ``save_if_due`` has saved its state."""
        return self._writer.deferring_interrupts()

    def is_interrupted(self) -> bool:
        """Whether ``save_if_due`` will end the scan."""
        return self._writer.is_interrupted

    def save_final(self, state: CheckpointState) -> None:
        """Save the final ``state`` of the part if it is time to; else it is saved with the parts
        that follow."""
        self._writer.keep_final(self.part, state)
        if self._writer.is_due(state):
            self._saved |= self._writer.write(self.part, state)


class Clock:
    """Seconds spent in each stage, including those of earlier attempts (``before``)."""

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._spent = dict(before or {})
        self._running: tuple[str, float] | None = None

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of the block for ``stage``."""
        self._running = (stage, time.perf_counter())
        yield
        self._spent, self._running = self.seconds, None

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, up to now."""
        if self._running is None:
            return dict(self._spent)
        stage, since = self._running
        spent = self._spent.get(stage, 0.0) + time.perf_counter() - since
        return {**self._spent, stage: round(spent, 3)}
