"""Chunks abreast on a CPU: each on a thread of its own, while sums are added in their order.

One thread passes a chunk in less processor time than several threads that share every operation;
and while one of them is in the interpreter, the others go on.
"""

import ctypes
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
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
"""Seconds after which all wait for each other, about: only then sums are of whole chunks."""

FIRST_ROUND_CHUNKS = 4
"""Chunks in turn on each thread in the first round, when nothing is known of their time."""

MMAP_THRESHOLD = 1 << 22
"""Blocks of up to so many bytes are used again when they are freed, by whatever thread: if they
went back to the system, every page of them would be mapped anew, which may take longer than what is
computed in it."""

_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1


@dataclass(frozen=True)
class PlannedChunk:
    """A chunk, whose text is scored where there is room for so many ``logits``."""

    blocks: Sequence[Block]
    logits: int | None = None


ChunkCallback = Callable[[PlannedChunk, float], None]
"""Told of a chunk that is over, and of the bits of its text."""


class PassProgress:
    """The last layer of a pass that its observer was told of to the end."""

    def __init__(self) -> None:
        self._layer, self._changed = -1.0, Condition()

    def reach(self, layer: float) -> None:
        """This layer, and all before."""
        with self._changed:
            self._layer = layer
            self._changed.notify_all()

    def end(self, _: object = None) -> None:
        """The pass is over, or will never begin."""
        self.reach(math.inf)

    def wait_for(self, layer: float) -> None:
        """Return when it is reached."""
        with self._changed:
            self._changed.wait_for(lambda: self._layer >= layer)


class OrderedObserver(PassObserver):
    """Tells an observer of each layer of a pass (``model.forward.PassObserver``) when the pass
    ``before`` it has been told of that layer, and of the end when that one is over."""

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
    """Passes chunks on ``workers`` threads, which share torch's own; a context manager."""

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
        share = max(1, self._threads // workers)
        self._pool = ThreadPoolExecutor(workers, "abreast", torch.set_num_threads, (share,))

    def run(self, chunks: Sequence[PlannedChunk], on_chunk: ChunkCallback) -> Iterator[None]:
        """Pass all of them, in rounds, and stop after each: there sums are of whole chunks.
        ``on_chunk`` is told of each chunk, in their order, when it is over. Raises the error of the
        first that fails, when none is running any more; those that wait do not begin."""
        if self._workers == 1:
            for chunk in chunks:
                on_chunk(chunk, self._run(chunk, self._collector))
                yield
            return
        rest, turns = iter(chunks), FIRST_ROUND_CHUNKS
        while some := list(islice(rest, turns * self._workers)):
            began = time.monotonic()
            self._round(some, on_chunk)
            long = time.monotonic() - began > ROUND_SECONDS / 2
            turns = max(1, turns // 2) if long else 2 * turns
            yield

    def _round(self, chunks: Sequence[PlannedChunk], on_chunk: ChunkCallback) -> None:
        before, passes = PassProgress(), list[Future[float]]()
        before.end()
        try:
            for chunk in chunks:
                own = PassProgress()
                passes.append(self._pool.submit(self._pass, chunk, before, own))
                # one that is cancelled is over, too
                passes[-1].add_done_callback(own.end)
                before = own
            for each, chunk in zip(passes, chunks, strict=True):
                on_chunk(chunk, each.result())
        finally:
            for each in passes:
                each.cancel()
            wait(passes)

    def _pass(self, chunk: PlannedChunk, before: PassProgress, own: PassProgress) -> float:
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
        torch.set_num_threads(self._threads)  # the pool's threads have set what new ones begin with
        with suppress(AttributeError, OSError, TypeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)


def _tune_malloc() -> None:
    """One arena for all threads, what is freed of it kept: ``malloc_trim`` gives it back."""
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        tune = ctypes.CDLL(None).mallopt
        tune(_M_ARENA_MAX, 1)
        tune(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        tune(_M_TRIM_THRESHOLD, 1 << 30)
