"""A way in a process of its own, which runs it when told to: ways change how a process gets its
memory, and would run on what others have set."""

import json
import resource
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from headprobe.model.heads import observe_heads
from tests.bench.contestants import WAYS, Contest
from tests.bench.corpora import corpus
from tests.bench.shapes import build


class Lane:
    """A context manager: from its start to its end the model is loaded."""

    def __init__(self, shape: str, kind: str, count: int, threads: int, way: str) -> None:
        self.way = way
        words = [shape, kind, str(count), str(threads), way]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.lane", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self) -> dict[str, float]:
        """Seconds of ``wall`` time and of the processor's (``cpu``), and ``peak_mib`` so far, over
        what the process held before its first turn."""
        asking, told = self._process.stdin, self._process.stdout
        if asking is None or told is None:
            raise RuntimeError("no pipes")
        asking.write("\n")
        asking.flush()
        if not (line := told.readline()):
            raise SystemExit(f"{self.way}: ended with {self._process.wait()}")
        found: dict[str, float] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()


def contest(shape: str, kind: str, count: int) -> Contest:
    text = corpus(kind, count)
    end = min(int(text.token_first[1]), 64)
    ids = torch.from_numpy(text.token_ids[:end]).long()
    return Contest(observe_heads(build(shape), shape, ids), text)


def main() -> None:
    shape, kind, count, threads, way = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with redirect_stdout(sys.stderr):
        run, given = WAYS[way], contest(shape, kind, int(count))
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    loaded = _peak()
    for _ in sys.stdin:
        wall, own = time.perf_counter(), time.process_time()
        with redirect_stdout(sys.stderr):
            run(given)
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - own}
        print(json.dumps({**seconds, "peak_mib": _peak() - loaded}), flush=True)


def _peak() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        lines = (line.split() for line in status.read_text().splitlines())
        return next(int(words[1]) for words in lines if words[0] == "VmHWM:") / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
