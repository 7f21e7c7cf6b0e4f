"""Chunks abreast on a CPU: each on a thread of its own, while sums are added in their order.

One thread passes a chunk in less processor time than several threads that share every operation;
and while one of them is in the interpreter, the others go on.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Condition
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from headprobe.align.batches import Batcher, Chunk
from headprobe.align.flat import Block
from headprobe.model.forward import PassObserver, run_chunk
from headprobe.model.heads import HeadGrid
from headprobe.tally.tallier import Tallier

TURNS = 8
"""So many chunks in turn pass on each thread before all wait for each other."""


class Progress:
    """The last layer of a pass that its observer was told of to the end."""

    def __init__(self) -> None:
        self._layer, self._told = -1.0, Condition()

    def reach(self, layer: float) -> None:
        """This layer, and all before; ``math.inf``: the pass is over."""
        with self._told:
            self._layer = layer
            self._told.notify_all()

    def wait_for(self, layer: float) -> None:
        """Return when it is reached."""
        with self._told:
            self._told.wait_for(lambda: self._layer >= layer)


class InTurn:
    """Tells an observer of each layer of a pass (``model.forward.PassObserver``) when the pass
    ``before`` it has been told of that layer, and of the end when that one is over."""

    def __init__(
        self, observer: PassObserver, grid: HeadGrid, before: Progress, own: Progress
    ) -> None:
        self._observer, self._grid, self._before, self._own = observer, grid, before, own

    def begin(self, chunk: Chunk) -> None:
        self._observer.begin(chunk)

    def residual(self, layer: int, hidden: Tensor) -> None:
        self._observer.residual(layer, hidden)

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        self._layer = self._grid.index_of(module)
        self._observer.begin_layer(module, value)

    def attended(self, number: int, weights: Tensor, scores: Tensor) -> None:
        self._before.wait_for(self._layer)
        self._observer.attended(number, weights, scores)

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        self._before.wait_for(self._layer)
        self._observer.end_layer(module, output)
        self._own.reach(self._layer)

    def end(self) -> None:
        self._before.wait_for(math.inf)
        self._observer.end()


class Abreast:
    """Passes chunks on ``workers`` threads, which share torch's own; a context manager."""

    def __init__(self, grid: HeadGrid, batcher: Batcher, tallier: Tallier, workers: int) -> None:
        self._grid, self._batcher, self._workers = grid, batcher, workers
        self._free: SimpleQueue[Tallier] = SimpleQueue()
        for observer in (tallier, *(tallier.beside() for _ in range(workers - 1))):
            self._free.put(observer)
        self._threads = torch.get_num_threads()
        share = max(1, self._threads // workers)
        self._pool = ThreadPoolExecutor(workers, "abreast", torch.set_num_threads, (share,))

    @property
    def at_once(self) -> int:
        """How many chunks to give at once."""
        return TURNS * self._workers if self._workers > 1 else 1

    def run(self, chunks: Sequence[Sequence[Block]]) -> None:
        """All of them; the error of the first that fails, when none is running any more."""
        if self._workers == 1:
            for blocks in chunks:
                self._pass(blocks)
            return
        steps = [Progress() for _ in range(len(chunks) + 1)]
        steps[0].reach(math.inf)
        passes = [
            self._pool.submit(self._pass, blocks, before, own)
            for blocks, before, own in zip(chunks, steps, steps[1:], strict=False)
        ]
        errors = [error for each in passes if (error := each.exception()) is not None]
        if errors:
            raise errors[0]

    def _pass(
        self, blocks: Sequence[Block], before: Progress | None = None, own: Progress | None = None
    ) -> None:
        tallier = self._free.get()
        try:
            if before is None or own is None:
                run_chunk(self._grid, self._batcher, blocks, tallier)
            else:
                turn = InTurn(tallier, self._grid, before, own)
                run_chunk(self._grid, self._batcher, blocks, turn)
        finally:
            self._free.put(tallier)
            if own is not None:
                own.reach(math.inf)

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
