"""What a scan has so far: kept in a hidden folder beside its run, until the run is there.

Keeps what a scan has so far on disk, about once a minute, so that it can go on later.

Where the time of a scan goes.
"""

import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

from numpy.typing import NDArray

from headprobe.errors import HeadprobeError
from headprobe.runs.own_files import remove_own

_FOLDER = re.compile(r"\.(.+?)(?:\.rank-(\d+)-of-(\d+))?\.unfinished")

PARTS = ("checkpoint", "shuffled", "twin")
"""What is kept of a scan: the sums of the checkpoint, and those of its controls."""


@dataclass(frozen=True)
class ScanCheckpoint:
    """What the process ``rank`` of ``ranks`` (from 0) keeps of the scan that is to write the run,
    or shard, ``target``. It comes in parts, one file each, written whole or not at all."""

    target: Path
    rank: int = 0
    ranks: int = 1

    @property
    def path(self) -> Path:
        """The folder, which need not exist."""
        of = f".rank-{self.rank + 1}-of-{self.ranks}" if self.ranks > 1 else ""
        target = self.target.absolute()
        return target.with_name(f".{target.name}{of}.unfinished")

    @property
    def command(self) -> str:
        """What goes on with it."""
        start = f"torchrun --nproc-per-node {self.ranks} -m " if self.ranks > 1 else ""
        return f"{start}headprobe scan --resume {self.target}"

    def save(
        self, part: str, note: Mapping[str, Any], arrays: Mapping[str, "NDArray[Any]"]
    ) -> None:
        """Write one part, and in it a ``load_note`` on the scan as a whole. OSError where it
        cannot."""
        import numpy as np

        self.path.mkdir(parents=True, exist_ok=True)
        written = self.path / f"{part}.partial"
        with written.open("wb") as file:
            np.savez(file, note=np.array(json.dumps(note)), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        written.replace(self.path / f"{part}.npz")

    def load_note(self) -> dict[str, Any] | None:
        """The note that was written last; None where nothing is kept. HeadprobeError where it
        cannot be read."""
        parts = sorted(self.path.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
        if not parts:
            return None
        text = str(self._read(parts[-1], ["note"])["note"])
        try:
            note = json.loads(text)
        except (ValueError, RecursionError):
            note = None
        if not isinstance(note, dict):
            raise HeadprobeError(
                str(parts[-1]), "is not the saved state of a scan", "Start again with --overwrite"
            )
        return note

    def has(self, part: str) -> bool:
        """Whether a part is kept."""
        return (self.path / f"{part}.npz").is_file()

    def arrays(self, part: str) -> "dict[str, NDArray[Any]] | None":
        """The arrays of a part; None where it is not kept. HeadprobeError as ``load_note``."""
        path = self.path / f"{part}.npz"
        return self._read(path) if path.is_file() else None

    def _read(self, path: Path, names: list[str] | None = None) -> "dict[str, NDArray[Any]]":
        import numpy as np

        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in names or archive.files}
        except (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise HeadprobeError(
                str(path), f"cannot be read ({error})", "Start again with --overwrite"
            ) from None

    def remove(self) -> None:
        """It is of no more use. Files that are no parts stay, and the folder with them."""
        if not self.path.is_symlink() and self.path.is_dir():
            remove_own(
                self.path, {f"{part}{end}" for part in PARTS for end in (".npz", ".partial")}
            )


def find_checkpoints(folder: Path, name: str | None = None) -> list[ScanCheckpoint]:
    """What is kept in ``folder`` of the run ``name``, or of any run."""
    checkpoints = []
    for path in sorted(folder.glob(".*.unfinished")):
        match = _FOLDER.fullmatch(path.name)
        if match and name in (None, match[1]) and any(path.glob("*.npz")):
            rank, ranks = int(match[2] or 1), int(match[3] or 1)
            checkpoints.append(ScanCheckpoint(folder / match[1], rank - 1, ranks))
    return checkpoints


WRITE_INTERVAL = 60.0
"""Seconds between two writings: what is lost at most when a scan is killed."""

WRITE_COST_FACTOR = 50
"""Writing waits so many times as long as the last one took: it costs two per cent at most."""


class CheckpointState(Protocol):
    """What can say how far it is."""

    def arrays(self) -> Mapping[str, NDArray[Any]]: ...


class CheckpointWriter:
    """What is ``kept`` of a scan, and when.

    ``resumed``: whether a part that is found is gone on from. Until the first minute is over
    nothing is written.
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
        self._last, self._wait, self._broken = time.monotonic(), WRITE_INTERVAL, False

    def begin(self, note: Callable[[], Mapping[str, Any]]) -> None:
        """From now on it can be gone on with: ``load_note`` gives what every part says of the scan
        as a whole."""
        self._note = note

    def part(self, part: str) -> "CheckpointPart":
        """The part of the checkpoint, or of one of its controls."""
        return CheckpointPart(self, part, saved=self._resumed and self._checkpoint.has(part))

    def arrays(self, part: str) -> Mapping[str, NDArray[Any]] | None:
        """What was written of a part last."""
        return self._checkpoint.arrays(part)

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._last >= self._wait

    def write(self, part: str, state: CheckpointState) -> bool:
        """Write a part, and say whether it is there. A disk that is full does not end the scan: it
        is said once."""
        if self._note is None or self._broken:
            return False
        began = time.monotonic()
        try:
            self._checkpoint.save(part, self._note(), state.arrays())
        except OSError as error:
            self._broken = True
            self._warn(f"{self._checkpoint.path}: {error.strerror}; no more is kept for --resume")
        self._last = time.monotonic()
        self._wait = max(WRITE_INTERVAL, WRITE_COST_FACTOR * (self._last - began))
        return not self._broken

    def resume_hint(self) -> str | None:
        """How to go on with what is kept, if anything is."""
        if self._note is None or not any(self._checkpoint.path.glob("*.npz")):
            return None
        return f"what was measured is saved. Resume it with {self._checkpoint.command}"


class CheckpointPart:
    """One part of a journal; ``kept``: whether an earlier attempt left something of it."""

    def __init__(self, writer: CheckpointWriter, part: str, *, saved: bool) -> None:
        self._writer, self.part, self._saved = writer, part, saved
        self._since = time.monotonic()

    def saved_arrays(self) -> Mapping[str, NDArray[Any]] | None:
        """Its arrays as they were written last: by an earlier attempt, or by this one, which goes
        on from there when memory ran out."""
        return self._writer.arrays(self.part) if self._saved else None

    def save_if_due(self, state: CheckpointState) -> None:
        """So far it is."""
        if self._writer.is_due():
            self._saved |= self._writer.write(self.part, state)

    def save_final(self, state: CheckpointState) -> None:
        """It is complete: what took longer than a minute is written whole, for what comes after
        may take long, too."""
        if time.monotonic() - self._since >= WRITE_INTERVAL:
            self._saved |= self._writer.write(self.part, state)


class Clock:
    """Seconds spent in each stage, those of an earlier attempt included."""

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._spent = dict(before or {})
        self._running: tuple[str, float] | None = None

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self._running = (stage, time.perf_counter())
        yield
        self._spent, self._running = self.seconds, None

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, up to now."""
        if self._running is None:
            return dict(self._spent)
        stage, since = self._running
        spent = self._spent.get(stage, 0.0) + time.perf_counter() - since
        return {**self._spent, stage: round(spent, 3)}
