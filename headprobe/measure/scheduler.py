"""Run several chunks at once on a CPU, one per worker thread, with the same sums as one by one.

One thread runs a chunk in less processor time than several threads that share every operation, and
while one thread is in the interpreter, the others compute.

Floating-point sums depend on the order of additions. So every pass waits, before it adds a layer to
the sums, until the pass before it has added that layer (``OrderedObserver``). The same chunks
therefore give the same sums bit by bit, whatever the number of workers.
"""

import ctypes
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Condition
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from headprobe.batching.batches import Batcher, Chunk
from headprobe.batching.layout import Block
from headprobe.measure.collector import StatisticsCollector
from headprobe.model.attention import TilePart
from headprobe.model.forward import PassObserver, run_chunk
from headprobe.model.heads import ObservedModel

ROUND_SECONDS = 15.0
"""Approximate seconds between the times at which all workers wait for each other. Only then are the
sums those of whole chunks, so that they can be saved."""

FIRST_ROUND_CHUNKS = 4
"""Number of chunks per worker in the first round, when their duration is not yet known."""

MMAP_THRESHOLD = 1 << 22
"""Freed blocks of up to this number of bytes stay with the process, for any thread to reuse. If
they were returned to the system, all their pages would be mapped again for the next tensor, which
may take longer than the computation that fills it."""

_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
"""Parameters of glibc's ``mallopt``."""


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk to be run."""

    blocks: Sequence[Block]
    """The blocks that it consists of."""

    logits: int | None = None
    """The maximum number of logits at a time for scoring its text; None to skip scoring."""


ChunkCallback = Callable[[PlannedChunk, float], None]
"""Called with a chunk that is done, and the bits of its text (0 without scoring)."""


class PassProgress:
    """How far a pass is: the last layer that its observer has completed."""

    def __init__(self) -> None:
        self._layer, self._changed = -1.0, Condition()

    def reach(self, layer: float) -> None:
        """Report that this layer and all before it are complete."""
        with self._changed:
            self._layer = layer
            self._changed.notify_all()

    def end(self, _: object = None) -> None:
        """Report that the pass has ended, failed, or will never begin."""
        self.reach(math.inf)

    def wait_for(self, layer: float) -> None:
        """Wait until this layer is complete, or the pass has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._layer >= layer)


class OrderedObserver(PassObserver):
    """Forwards the calls of one pass to an observer, in step with the pass ``before`` it.

    A layer's attention and outputs are forwarded once the previous pass has completed that layer,
    and the end once it has ended. ``own`` reports the progress of this pass to the next one.
    """

    def __init__(
        self,
        observer: PassObserver,
        observed: ObservedModel,
        before: PassProgress,
        own: PassProgress,
    ) -> None:
        self._observer, self._observed, self._before, self._own = observer, observed, before, own

    @property
    def weights_per_call(self) -> int | None:
        return self._observer.weights_per_call

    def begin(self, chunk: Chunk) -> None:
        self._observer.begin(chunk)

    def residual(self, layer: int, hidden: Tensor) -> None:
        self._observer.residual(layer, hidden)

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        self._layer = self._observed.index_of(module)
        self._observer.begin_layer(module, value)

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        self._before.wait_for(self._layer)
        self._observer.attended(number, part, weights, scores)

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        self._before.wait_for(self._layer)
        self._observer.end_layer(module, output)
        self._own.reach(self._layer)

    def end(self) -> None:
        self._before.wait_for(math.inf)
        self._observer.end()


class ChunkScheduler:
    """Runs chunks on ``workers`` threads, among which torch's threads are divided.

    A context manager: leaving it stops the threads and restores torch's settings.
    """

    def __init__(
        self,
        observed: ObservedModel,
        batcher: Batcher,
        collector: StatisticsCollector,
        workers: int,
    ) -> None:
        self._observed, self._batcher, self._collector, self._workers = (
            observed,
            batcher,
            collector,
            workers,
        )
        self._free: SimpleQueue[StatisticsCollector] = SimpleQueue()
        for observer in (collector, *(collector.worker_copy() for _ in range(workers - 1))):
            self._free.put(observer)
        _tune_malloc()
        self._threads = torch.get_num_threads()
        per_worker = max(1, self._threads // workers)
        self._pool = ThreadPoolExecutor(workers, "chunk", torch.set_num_threads, (per_worker,))

    def run(
        self,
        chunks: Sequence[PlannedChunk],
        on_chunk: ChunkCallback,
        ends_round: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Run the chunks in rounds, and yield after each round, when the sums are those of whole
        chunks.

        ``on_chunk`` is called for each chunk, in order, as soon as it and all before it are done.
        Where ``ends_round`` returns true after a chunk, the round ends with the chunks that have
        begun. If a chunk fails, no further one begins, and its error is raised when the running
        ones have ended.
        """
        if self._workers == 1:
            for chunk in chunks:
                on_chunk(chunk, self._run(chunk, self._collector))
                yield
            return
        first, per_worker = 0, FIRST_ROUND_CHUNKS
        while batch := chunks[first : first + per_worker * self._workers]:
            start = time.monotonic()
            first += self._round(batch, on_chunk, ends_round)
            was_long = time.monotonic() - start > ROUND_SECONDS / 2
            per_worker = max(1, per_worker // 2) if was_long else 2 * per_worker
            yield

    def _round(
        self,
        chunks: Sequence[PlannedChunk],
        on_chunk: ChunkCallback,
        ends_round: Callable[[], bool],
    ) -> int:
        """Run these chunks, or the first ones of them, and wait for them; return their number."""
        before, futures = PassProgress(), list[Future[float]]()
        before.end()  # nothing comes before the first pass
        try:
            for chunk in chunks:
                own = PassProgress()
                futures.append(self._pool.submit(self._pass, chunk, before, own))
                # Also for a pass that fails or is cancelled, which must not block the next one
                futures[-1].add_done_callback(own.end)
                before = own
            for done, (future, chunk) in enumerate(zip(futures, chunks, strict=True)):
                if future.cancelled():
                    return done
                on_chunk(chunk, future.result())
                if ends_round():
                    # from the last one, so that those that have begun are always the first ones
                    for waiting in reversed(futures):
                        waiting.cancel()
            return len(chunks)
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def _pass(self, chunk: PlannedChunk, before: PassProgress, own: PassProgress) -> float:
        """Run one chunk with a collector that no other thread uses."""
        collector = self._free.get()
        try:
            return self._run(chunk, OrderedObserver(collector, self._observed, before, own))
        finally:
            self._free.put(collector)

    def _run(self, chunk: PlannedChunk, observer: PassObserver) -> float:
        return run_chunk(self._observed, self._batcher, chunk.blocks, observer, chunk.logits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        # set_num_threads in the workers has also changed the default of new threads
        torch.set_num_threads(self._threads)
        with suppress(AttributeError, OSError, TypeError):  # the C library is not glibc
            ctypes.CDLL(None).malloc_trim(0)


def _tune_malloc() -> None:
    """Let all threads share one arena whose freed memory stays with the process, until
    ``malloc_trim`` returns it to the system."""
    with suppress(AttributeError, OSError, TypeError):  # the C library is not glibc
        tune = ctypes.CDLL(None).mallopt
        tune(_M_ARENA_MAX, 1)
        tune(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        tune(_M_TRIM_THRESHOLD, 1 << 30)
