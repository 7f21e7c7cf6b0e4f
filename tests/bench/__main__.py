"""``make bench``: for each shape a table of ratios to the cheapest pass that there is.

Each way has a process of its own, and they run in turn, so that what else the machine does falls on
all of them; medians over the turns, of wall time and of the processor's own, and peak memory over
the loaded model. Everything measured goes to a file of JSON lines.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.contestants import WAYS
from tests.bench.corpora import LONG
from tests.bench.lane import lane
from tests.bench.peers import missing
from tests.bench.shapes import DTYPES, SHAPES

Row = dict[str, object]


def measure(arguments: argparse.Namespace) -> Iterator[Row]:
    """Each way by turn; the first turn warms up: it is not timed, but its peak is what one run of
    the process takes."""
    for shape in arguments.shapes:
        for kind in arguments.texts:
            count = arguments.sentences if kind == "short" else arguments.passages
            with ExitStack() as stack:
                given = shape, arguments.dtype, kind, count, arguments.threads
                lanes = {way: stack.enter_context(lane(*given, way)) for way in arguments.ways}
                for turn in range(arguments.turns + 1):
                    for way, run in lanes.items():
                        about = {"shape": shape, "dtype": arguments.dtype, "text": kind, "way": way}
                        yield {**about, "turn": turn, **run()}


def show(console: Console, rows: list[Row], ways: list[str], about: str) -> None:
    for shape in dict.fromkeys(str(row["shape"]) for row in rows):
        _show_shape(
            console, [row for row in rows if row["shape"] == shape], ways, f"{shape}: {about}"
        )
    if ways == _ways() and missing():
        console.print(f"not measured because they are not installed: {'; '.join(missing())}")


def _show_shape(console: Console, rows: list[Row], ways: list[str], title: str) -> None:
    table = Table(title=title)
    table.add_column("way", overflow="fold")
    texts = list(dict.fromkeys(str(row["text"]) for row in rows))
    for text in texts:
        table.add_column(f"{text}: x wall (x cpu)", justify="right", overflow="fold")
        table.add_column("MiB", justify="right")

    def all_of(text: str, way: str, column: str) -> list[object]:
        of_way = [row for row in rows if (row["text"], row["way"]) == (text, way)]
        return [row[column] for row in of_way if (row["turn"] == 0) == (column == "peak_mib")]

    for way in ways:
        cells = []
        for text in texts:
            wall, cpu = (
                np.median(all_of(text, way, clock)) / np.median(all_of(text, ways[0], clock))
                for clock in ("wall", "cpu")
            )
            cells += [f"{wall:.2f} ({cpu:.2f})", f"{max(all_of(text, way, 'peak_mib')):.0f}"]
        table.add_row(way, *cells)
    console.print(table)
    for text in texts:
        walls = all_of(text, ways[0], "wall")
        console.print(f"{text}: {ways[0]} took {min(walls):.2f} to {max(walls):.2f} s")


def processor() -> str:
    """Return the name of the processor, if Linux reports it, and its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join([*names[:1], platform.machine()])


def _ways() -> list[str]:
    return [way for way in WAYS if way not in missing()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.bench")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["6-layer", "135M"])
    texts = ["short", *LONG, "all"]
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--texts", nargs="+", choices=texts, default=texts[:2])
    parser.add_argument("--ways", nargs="+", choices=_ways(), default=_ways())
    parser.add_argument("--sentences", type=int, default=256)
    parser.add_argument("--passages", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench.jsonl"))
    arguments = parser.parse_args()
    rows = []
    with arguments.out.open("a", encoding="utf-8") as file:
        for row in measure(arguments):
            about = {"time": time.time(), "threads": arguments.threads, "load": os.getloadavg()}
            print(json.dumps({**row, **about}), file=file, flush=True)
            rows.append(row)
    about = f"{processor()}, {arguments.threads} threads, {arguments.dtype}"
    show(Console(), rows, arguments.ways, about)


if __name__ == "__main__":
    main()
