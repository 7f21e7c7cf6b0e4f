"""A way in a process of its own, which runs it when told to: ways change how a process gets its
memory, and would run on what others have set."""

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from subprocess import PIPE, Popen

import torch

from headprobe.model.heads import observe_model
from tests.bench.contestants import WAYS, Contest
from tests.bench.corpora import corpus
from tests.bench.shapes import build

Run = Callable[[], dict[str, float]]


@contextmanager
def lane(shape: str, dtype: str, kind: str, count: int, threads: int, way: str) -> Iterator[Run]:
    """While open, the process is there. Each call runs the way once, and gives seconds of ``wall``
    time and of the processor's (``cpu``), and ``peak_mib`` so far, over what the process held
    before its first turn."""
    words = [sys.executable, "-m", "tests.bench.lane", shape, dtype]
    words += [kind, str(count), str(threads), way]
    with Popen(words, stdin=PIPE, stdout=PIPE, text=True) as process:
        asking, told = process.stdin, process.stdout
        assert asking is not None
        assert told is not None

        def run() -> dict[str, float]:
            print(file=asking, flush=True)
            if not (line := told.readline()):
                raise SystemExit(f"{way}: ended with {process.wait()}")
            found: dict[str, float] = json.loads(line)
            return found

        yield run


def contest(shape: str, dtype: str, kind: str, count: int) -> Contest:
    text = corpus(kind, count)
    end = min(int(text.token_first[1]), 64)
    ids = torch.from_numpy(text.token_ids[:end]).long()
    return Contest(observe_model(build(shape, dtype), shape, ids), text)


def main() -> None:
    shape, dtype, kind, count, threads, way = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with redirect_stdout(sys.stderr):
        run = WAYS[way](contest(shape, dtype, kind, int(count)))
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    loaded = _peak()
    for _ in sys.stdin:
        wall, own = time.perf_counter(), time.process_time()
        with redirect_stdout(sys.stderr):
            run()
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
