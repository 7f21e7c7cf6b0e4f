"""Loops as machine code (numba), kept on disk, and their division over threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import numba
from numba.core import caching

T = TypeVar("T")

_Cache: Any = caching.FunctionCache

_File: Any = caching.IndexDataCacheFile


class _DiskCache(_Cache):  # type: ignore[misc]
    """Machine code on disk.

    Damaged files are compiled again, and a full disk keeps nothing. Machine code contains that of
    the functions it calls, which numba does not check; an entry is therefore valid only while no
    file in the function's folder changes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        files = [Path(__file__), *sorted(Path(function.__code__.co_filename).parent.glob("*.py"))]
        stamps = [(file.name, file.stat().st_mtime, file.stat().st_size) for file in files]
        own = self._impl.locator.get_source_stamp()
        name = self._impl.filename_base
        self._cache_file = _File(self.cache_path, name, (own, *stamps))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError, UnpicklingError, ValueError):
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def numba_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as machine code that releases the interpreter lock.

    The code is kept on disk from the first call on, where a folder can be written to. Loops are
    vectorised only where their counters are unsigned (an index that may be negative counts from the
    end) and without ``max`` and ``min``.
    """
    # Sums may be reordered; infinities and NaN stay what they are and raise no error.
    fast = {"reassoc", "nsz", "contract"}
    dispatcher = numba.njit(function, nogil=True, error_model="numpy", fastmath=fast)
    with suppress(RuntimeError):  # no folder that can be written to
        dispatcher._cache = _DiskCache(function)
    kernel: Callable[..., Any] = dispatcher
    return kernel


def thread_count() -> int:
    """Return the number of threads for compiled loops: ``OMP_NUM_THREADS``, else one per core that
    the process may use."""
    try:
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    except (KeyError, ValueError):
        if hasattr(os, "sched_getaffinity"):  # not on macOS
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


def split_over_threads(count: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(low, high)`` on equal parts of the items 0 to ``count``, one part per thread."""
    threads = max(1, min(threads, count))
    edges = [piece * count // threads for piece in range(threads + 1)]
    others = [_pool(threads).submit(work, *piece) for piece in pairwise(edges[1:])]
    work(0, edges[1])
    for other in others:
        other.result()


def in_threads(items: Sequence[T], work: Callable[[T], None]) -> None:
    """Call ``work`` on every item, in ``thread_count()`` threads."""
    threads = min(thread_count(), len(items))
    if threads > 1:
        list(_pool(threads).map(work, items))
    else:
        for item in items:
            work(item)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernel")
