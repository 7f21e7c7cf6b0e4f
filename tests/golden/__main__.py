"""``python -m tests.golden``: compare all cases, or write golden data anew."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.golden import __doc__ as usage

SHOWN = 12


def main() -> int:
    """Exit code 0 if all cases are as stored (or are written), else 1."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    from tests.golden import stored
    from tests.golden.cases import CASES, record
    from tests.golden.recorder import Recording

    parser = argparse.ArgumentParser(
        prog="python -m tests.golden",
        description=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    kinds = ("all", "screens", "numbers")
    parser.add_argument("--write", nargs="?", const="all", choices=kinds, help="store new data")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep runs there")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}. Cases: {', '.join(CASES)}")
    exact = stored.same_environment()
    if not exact and options.write is None:
        print("another processor or other versions: hashes are not compared", file=sys.stderr)
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        for name in options.cases or CASES:
            began = time.perf_counter()
            new = Recording.load(record(name, root))
            took = time.perf_counter() - began
            found = {
                "screens": stored.screen_differences(name, new),
                "numbers": stored.number_differences(name, new),
            }
            if exact or options.write:
                found["hashes"] = stored.hash_differences(name, new)
            wrong += _report(name, took, found)
            if options.write in ("all", "screens"):
                stored.write_screens(name, new)
            if options.write in ("all", "numbers"):
                stored.write_numbers(name, new)
    if options.write and not options.cases:
        stored.write_environment()
    return 0 if options.write else min(wrong, 1)


def _report(name: str, took: float, found: dict[str, list[str]]) -> int:
    counts = ", ".join(f"{len(lines)} {kind}" for kind, lines in found.items() if lines)
    print(f"{name}: {f'differs ({counts})' if counts else 'equal'}, {took:.1f} s", flush=True)
    for kind, lines in found.items():
        for line in lines[:SHOWN]:
            print(f"  {kind}: {line}")
        if len(lines) > SHOWN:
            print(f"  {kind}: and {len(lines) - SHOWN} more")
    return bool(counts)


if __name__ == "__main__":
    sys.exit(main())
