"""The driver of the hostile suite: what headprobe promises for any input, asserted for each case.

A ``Case`` builds an input in an empty current folder and returns the command line that reads it.
``assert_promise`` runs the command line and asserts that

- it ends by itself, soon and in little memory, without an exception;
- its exit code is 2, and stderr is one line ``where: what. remedy.`` of visible characters;
- every file is as it was before, and none is new, in the current folder and in that for temporary
  files.

A case that is ``harmless`` must succeed instead, and may write only the run ``out``.

Commands run in this process through ``headprobe.cli.main.run``, with streams that are exchanged at
the level of file descriptors, so that what libraries in other languages print is seen, too. Cases
whose variables are read when a library is imported run in a process of their own.
"""

import hashlib
import io
import json
import logging
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

import numpy as np
import pytest

from headprobe.cli.main import run
from headprobe.format import safe_text

SECONDS = 30
"""A command that takes longer hangs."""

MEMORY = 3 << 30
"""The bytes of address space that a command may take beyond what the process has."""

LONGEST_LINE = 1000
"""The most characters of an error; no input is repeated at length."""

OUT = "out"
"""The run or folder that commands of the suite write."""

_ERROR = re.compile(r"(?s)[^\n]*?\S: \S.*\S\. \S.*[^.][.?]", re.DOTALL)
"""``where: what. remedy.``"""


class Workplace:
    """An empty current folder for one case, and the valid inputs that cases spoil."""

    def __init__(self, here: Path, masters: Path, patch: pytest.MonkeyPatch) -> None:
        self.here, self.patch, self._masters = here, patch, masters
        self.temporary = here.with_name(f"{here.name}-tmp")
        self.temporary.mkdir()
        patch.chdir(here)
        patch.setenv("TMPDIR", str(self.temporary))
        patch.setattr(tempfile, "tempdir", str(self.temporary))

    def _copy(self, name: str) -> Path:
        origin, copy = self._masters / name, self.here / name
        if not copy.exists():
            (shutil.copytree if origin.is_dir() else shutil.copyfile)(origin, copy)
        return copy

    def model(self) -> Path:
        """A copy of a valid checkpoint, the folder ``model``."""
        return self._copy("model")

    def probes(self) -> Path:
        """A copy of valid probes, the file ``probes.conllu``."""
        return self._copy("probes.conllu")

    def run(self) -> Path:
        """A copy of a finished run of the checkpoint with shuffled links, the folder ``run``."""
        return self._copy("run")

    def shards(self) -> Path:
        """Copies of both shards of a scan; returns the path of the run that they add up to."""
        for index in (1, 2):
            self._copy(f"parts.shard-{index}-of-2")
        return self.here / "parts"

    def interrupted(self) -> Path:
        """The saved state of an interrupted scan of the checkpoint to ``out``; returns its folder.

        The state tells in which folder the scan was started, which becomes this one.
        """
        self.model(), self.probes()
        folder = self._copy(f".{OUT}.unfinished")
        for path in folder.iterdir():
            with np.load(path) as archive:
                arrays = dict(archive)
            note = json.loads(str(arrays["note"])) | {"folder": str(self.here)}
            np.savez(path, **{**arrays, "note": np.array(json.dumps(note))})
        return folder

    def scan(self, *options: str, model: str = "model", probes: str = "probes.conllu") -> list[str]:
        """The command line of a scan of the checkpoint on the probes to the run ``out``."""
        if model == "model":
            self.model()
        if probes == "probes.conllu":
            self.probes()
        target = [] if "-o" in options or "--out" in options else ["-o", OUT]
        return ["scan", model, "-p", probes, "--device", "cpu", "-q", *target, *options]


Attack = Callable[[Workplace], Sequence[str]]
"""Builds an input in the current folder and returns the command line that reads it."""


@dataclass(frozen=True)
class Case:
    """One hostile input, distinct in its cause from all others of its kind."""

    name: str
    """What is wrong, in a few words."""

    attack: Attack

    says: str = ""
    """A regular expression that the error must match somewhere."""

    harmless: bool = False
    """Whether headprobe has every reason to accept the input: nothing may break then."""

    own_process: bool = False
    """Whether the command must run in a process of its own."""


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


class _Hangs(BaseException):
    """Raised where a command takes longer than ``SECONDS``."""


def assert_promise(case: Case, workplace: Workplace) -> None:
    """Run a case and assert what headprobe promises for it."""
    command = list(case.attack(workplace))
    before = snapshot(workplace.here)
    execute = run_process if case.own_process else run_here
    outcome = execute(command)
    after = snapshot(workplace.here)
    lost = {name for name in before if after.get(name) != before[name]}
    left = {name for name in after.keys() - before.keys() if not _is_output(name, case.harmless)}
    assert not lost, f"lost or changed: {sorted(lost)}; {outcome}"
    assert not left, f"left behind: {sorted(left)}; {outcome}"
    assert not list(workplace.temporary.iterdir()), "temporary files are left"
    if case.harmless:
        assert outcome.code == 0, outcome.err
        return
    assert_refused(outcome, case.says)


def assert_refused(outcome: Outcome, says: str = "") -> None:
    """Assert that a command ended with exit code 2 and a single line that ``says`` why."""
    lines = outcome.err.splitlines()
    assert outcome.code == 2, outcome
    assert len(lines) == 1, outcome.err
    assert _ERROR.fullmatch(lines[0]), lines[0]
    assert len(lines[0]) <= LONGEST_LINE, f"{len(lines[0])} characters: {lines[0][:300]}"
    assert lines[0] == safe_text(lines[0]), ascii(lines[0])
    assert re.search(says, lines[0]), f"{lines[0]!r} does not say {says!r}"


def _is_output(name: str, allowed: bool) -> bool:
    return allowed and Path(name).parts[0] == OUT


def run_here(command: Sequence[str], seconds: float = SECONDS) -> Outcome:
    """Run ``headprobe COMMAND`` in this process. Exceptions but SystemExit are raised."""
    with _captured() as (out, err), _limited(seconds):
        try:
            code = run(command)
        except SystemExit as leave:
            code = int(leave.code or 0)
        except _Hangs:
            raise AssertionError(f"{command} takes longer than {seconds} seconds") from None
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        out.seek(0)
        err.seek(0)
        return Outcome(code, out.read().decode("utf-8"), err.read().decode("utf-8"))


def run_process(command: Sequence[str], seconds: float = 3 * SECONDS) -> Outcome:
    """Run ``headprobe COMMAND`` in a process of its own, with this process's variables."""
    done = subprocess.run(
        [sys.executable, "-m", "headprobe", *command],
        capture_output=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))


def snapshot(folder: Path) -> dict[str, str]:
    """The kind and content of everything below a folder, hidden files too, by relative path."""
    return {str(path.relative_to(folder)): _describe(path) for path in sorted(folder.rglob("*"))}


def _describe(path: Path) -> str:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return f"link to {path.readlink()}"
    if status.st_size > 1 << 30:  # a sparse file takes long to read
        return f"{status.st_mode:o} {status.st_size} bytes"
    if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
        with path.open("rb") as file:
            return f"{status.st_mode:o} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    return f"{status.st_mode:o}"


@contextmanager
def _captured() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Files that take what the block writes to stdout and stderr, in whatever language."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        streams, saved = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = _stream(1), _stream(2)
        handlers = _stream_handlers()
        for handler in handlers:
            handler.setStream(sys.stderr)
        try:
            yield out, err
        finally:
            sys.stdout, sys.stderr = streams
            for handler in handlers:
                handler.setStream(sys.stderr)
            for number, descriptor in enumerate(saved, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _stream(descriptor: int) -> io.TextIOWrapper:
    raw = os.fdopen(descriptor, "wb", buffering=0, closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def _stream_handlers() -> "list[logging.StreamHandler[IO[str]]]":
    """The handlers of libraries that log to the terminal, each of which keeps its first stream."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return [
        handler
        for logger in loggers
        for handler in getattr(logger, "handlers", [])
        if type(handler) is logging.StreamHandler
    ]


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise in the block after some seconds, or MemoryError where it takes too much memory."""

    def stop(_: int, __: FrameType | None) -> NoReturn:
        raise _Hangs

    handler = signal.signal(signal.SIGALRM, stop)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, handler)
