"""Loops compiled to machine code by numba, and their division over threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numba

from headprobe.kernel_cache import KernelCache, find_folder

T = TypeVar("T")

R = TypeVar("R")


def numba_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function at its first call, and cache the machine code on disk if possible.

    The compiled function releases the interpreter's lock, so that threads run in parallel. For
    loops to become vector instructions their counters must be unsigned, because numba counts
    negative indices from the end, and they must not call ``max`` or ``min``.
    """
    # Sums may be reordered, which vector instructions need. Infinities and NaN keep their meaning,
    # and division by zero is no error.
    fast = {"reassoc", "nsz", "contract"}
    # A loop that calls another contains a copy of it. Unless that is inlined, the process that
    # compiles runs the other's own code instead, whose sums can differ in the last digit from those
    # of a process that loads this loop from the cache.
    dispatcher = numba.njit(
        function, nogil=True, error_model="numpy", fastmath=fast, forceinline=True
    )
    folder = find_folder()
    if folder is not None:
        dispatcher._cache = KernelCache(function, folder)
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


def in_threads(items: Sequence[T], work: Callable[[T], object]) -> None:
    """Call ``work`` on every item, in ``thread_count()`` threads."""
    map_in_threads(items, work)


def map_in_threads(items: Sequence[T], work: Callable[[T], R]) -> list[R]:
    """Return ``work`` of every item, in their order, computed in ``thread_count()`` threads."""
    threads = min(thread_count(), len(items))
    if threads > 1:
        return list(_pool(threads).map(work, items))
    return [work(item) for item in items]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="kernel")
