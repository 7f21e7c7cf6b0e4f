"""Runs commands and records what they print and write."""

import contextlib
import io
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import headprobe
from headprobe.cli.main import run
from tests.golden.digest import digest_run
from tests.golden.screen import normalise

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLES = {
    "COLUMNS": "80",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "OMP_NUM_THREADS": "1",
    "HEADPROBE_STATE": os.devnull,  # no run is remembered
}
FIXED = ("--device", "cpu", "--dtype", "float32", "--memory", "400MiB")
"""What a scan would otherwise choose by the machine: memory sets the size of chunks."""


@dataclass
class Recording:
    """What a case printed (``screen``) and wrote: ``numbers`` and ``hashes`` by run folder."""

    screen: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        (folder / "recording.json").write_text(json.dumps(vars(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Recording":
        return cls(**json.loads((folder / "recording.json").read_text("utf-8")))


class Recorder:
    """Runs commands in ``folder``. ``prepared(name)`` is the folder of another case, made once."""

    def __init__(self, folder: Path, prepared: Callable[[str], Path]) -> None:
        self.folder, self.prepared = folder, prepared
        self.recording = Recording()

    def headprobe(self, *words: str, code: int = 0) -> None:
        """Run the command line in this process; what it prints is recorded."""
        out, err = io.StringIO(), io.StringIO()
        with settled(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            returned = run(words)
        self._add(words, out.getvalue(), err.getvalue())
        assert returned == code, f"{shlex.join(words)}: exit code {returned}\n{err.getvalue()}"

    def program(self, source: str, words: Sequence[str], code: int) -> None:
        """Run a Python program in another process, as if it were headprobe."""
        environment = {**os.environ, **VARIABLES, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-c", source, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=environment,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stderr}"
        self._add(words, done.stdout, "")  # libraries may write to stderr of a process

    def keep(self, run: str) -> None:
        """Record the files of a run folder."""
        numbers, hashes = digest_run(self.folder / run, self._normalise)
        self.recording.numbers[run] = numbers
        self.recording.hashes |= {f"{run}/{name}": value for name, value in hashes.items()}

    def _add(self, words: Sequence[str], out: str, err: str) -> None:
        command = self._normalise(f"$ headprobe {shlex.join(words)}\n")
        self.recording.screen += f"{command}{self._normalise(out)}"
        # libraries' complaints about their own files differ from one installation to another
        err = "".join(x for x in err.splitlines(keepends=True) if "site-packages" not in x)
        if err:
            self.recording.screen += f"[stderr]\n{self._normalise(err)}"
        self.recording.screen += "\n"

    def _normalise(self, text: str) -> str:
        places = {str(REPOSITORY): "<repository>", headprobe.__version__: "<version>"}
        for path in (self.folder, self.folder.resolve()):
            places[str(path)] = "<folder>"
        return normalise(text, places).removesuffix("\n" * (not text.endswith("\n")))


@contextlib.contextmanager
def settled(folder: Path) -> Iterator[None]:
    """In ``folder``, on one thread, with a screen of 80 columns without colour."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    threads = torch.get_num_threads()
    os.environ.update(VARIABLES)
    torch.set_num_threads(1)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def environment() -> dict[str, str]:
    """What the last bits of a number depend on."""
    packages = ("torch", "numpy", "scipy", "pandas", "numba", "transformers", "tokenizers")
    values = {name: version(name) for name in packages}
    values["python"] = platform.python_version()
    values["processor"] = _processor()
    values["instructions"] = torch.backends.cpu.get_cpu_capability()
    return values


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    keys = ("vendor_id", "cpu family", "model", "stepping")
    lines = info.read_text("utf-8").split("\n\n", maxsplit=1)[0].splitlines()
    named = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    return " ".join(named.get(key, "") for key in keys) or platform.machine()
