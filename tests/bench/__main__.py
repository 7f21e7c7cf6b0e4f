"""``make bench``: one table of ratios to the cheapest pass that there is.

Ways are run in turn, so that what else the machine does falls on all of them; medians over the
turns, of wall time and of the processor's own. Peak memory over the loaded model is taken in a
process of its own for each way. Everything measured goes to a file of JSON lines.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from headprobe.model.heads import observe_heads
from tests.bench.contestants import Contest
from tests.bench.corpora import corpus
from tests.bench.shapes import SHAPES, build


def contest(shape: str, kind: str, count: int) -> Contest:
    text = corpus(kind, count)
    end = min(int(text.token_first[1]), 64)
    ids = torch.from_numpy(text.token_ids[:end]).long()
    return Contest(observe_heads(build(shape), shape, ids), text)


def time_ways(asked: argparse.Namespace, shape: str, kind: str) -> Iterator[dict[str, object]]:
    """Seconds of each way by turn; the first turn warms up and is not counted."""
    every = contest(shape, kind, asked.count(kind)).ways
    ways = {name: run for name, run in every.items() if name not in asked.without}
    for turn in range(asked.turns + 1):
        for name, run in ways.items():
            wall, own = time.perf_counter(), time.process_time()
            run()
            seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - own}
            if turn:
                yield {"shape": shape, "text": kind, "way": name, "turn": turn, **seconds}


def measure(asked: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Seconds and peaks of all that is asked, as they are found."""
    for shape in asked.shapes:
        for kind in asked.texts:
            ways = []
            for row in time_ways(asked, shape, kind):
                ways.append(str(row["way"]))
                yield row
            for way in [] if asked.no_memory else dict.fromkeys(ways):
                peak = peak_of(shape, kind, asked.count(kind), way)
                yield {"shape": shape, "text": kind, "way": way, "peak_mib": peak}


def peak_of(shape: str, kind: str, count: int, way: str) -> float:
    """MiB over the loaded model, measured in a process of its own."""
    words = [sys.executable, "-m", "tests.bench", "--peak", shape, kind, str(count), way]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return float(told.split()[-1])


def tell_peak(shape: str, kind: str, count: str, way: str) -> None:
    run = contest(shape, kind, int(count)).ways[way]
    loaded = _peak()
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        loaded = _peak()
    run()
    print(_peak() - loaded)


def _peak() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        lines = (line.split() for line in status.read_text().splitlines())
        return next(int(words[1]) for words in lines if words[0] == "VmHWM:") / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(
    console: Console, rows: list[dict[str, object]], peaks: dict[tuple[str, ...], float]
) -> None:
    cases = list(dict.fromkeys((row["shape"], row["text"]) for row in rows))
    table = Table(title=f"{platform.machine()}, {torch.get_num_threads()} threads, float32")
    table.add_column("way")
    for shape, text in cases:
        table.add_column(f"{shape}, {text}: x wall (x cpu)", justify="right")
        table.add_column("MiB", justify="right")
    for way in dict.fromkeys(row["way"] for row in rows):
        cells = [str(way)]
        for case in cases:
            mine, first = (
                [row for row in rows if (row["shape"], row["text"]) == case and row["way"] == name]
                for name in (way, rows[0]["way"])
            )
            ratios = [
                np.median([row[clock] for row in mine]) / np.median([row[clock] for row in first])
                for clock in ("wall", "cpu")
            ]
            cells += [f"{ratios[0]:.2f} ({ratios[1]:.2f})"]
            cells += [f"{peaks[(*case, way)]:.0f}" if (*case, way) in peaks else ""]
        table.add_row(*cells)
    console.print(table)
    walls = [row["wall"] for row in rows if row["way"] == rows[0]["way"]]
    console.print(f"the limit itself took {min(walls):.2f} to {max(walls):.2f} s by turns")


def main() -> None:
    if sys.argv[1:2] == ["--peak"]:
        tell_peak(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.bench")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["6-layer", "135M"])
    parser.add_argument("--texts", nargs="+", choices=["short", "long"], default=["short", "long"])
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--passages", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without", nargs="+", default=[], help="ways that are left out")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("bench.jsonl"))
    asked = parser.parse_args()
    asked.count = lambda kind: asked.sentences if kind == "short" else asked.passages
    torch.set_num_threads(asked.threads)
    rows, peaks = [], {}
    with asked.out.open("a", encoding="utf-8") as file:
        for row in measure(asked):
            about = {"time": time.time(), "threads": asked.threads, "load": os.getloadavg()}
            print(json.dumps({**row, **about}), file=file, flush=True)
            if "peak_mib" in row:
                peaks[row["shape"], row["text"], row["way"]] = row["peak_mib"]
            else:
                rows.append(row)
    show(Console(), rows, peaks)


if __name__ == "__main__":
    main()
