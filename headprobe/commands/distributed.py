"""Scans by several processes of torchrun: each measures its share, and the first one writes."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from headprobe.config import Partition
from headprobe.errors import HeadprobeError
from headprobe.format import clip
from headprobe.progress import Progress
from headprobe.runs.sums import Tallies

BARRIER_TIMEOUT = 1800.0
"""Seconds without progress after which a rank counts as lost."""

_LEAVE_TIMEOUT = 30.0
_POLL_INTERVAL = 0.05
_TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

_MAX_RANKS = 1 << 16
_LAST_PORT = (1 << 16) - 1

T = TypeVar("T")


class ProcessGroup(Protocol):
    """The processes of one scan. Each of them has an object of this kind."""

    @property
    def index(self) -> int:
        """The number (rank) of this process; the first one writes the run."""

    @property
    def count(self) -> int:
        """Number of processes."""

    @property
    def partition(self) -> Partition | None:
        """The share of this process; None if there is only one process."""

    def wrap_progress(self, progress: Progress) -> Progress:
        """Return the progress to use; of several ranks, only the first one shows it."""

    def broadcast(self, value: T) -> T:
        """Return the value of the first rank. Values must be JSON values, as in ``gather``."""

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, on every rank."""

    def reduce_sums(self, tallies: Tallies) -> Tallies:
        """Add the sums of all ranks; the first rank gets the result."""

    def barrier(self) -> None:
        """Wait until all ranks call this."""


class SingleProcess:
    """A scan by one process: there is nothing to exchange."""

    index, count = 0, 1
    partition: Partition | None = None

    def wrap_progress(self, progress: Progress) -> Progress:
        return progress

    def broadcast(self, value: T) -> T:
        return value

    def gather(self, value: T) -> list[T]:
        return [value]

    def reduce_sums(self, tallies: Tallies) -> Tallies:
        return tallies

    def barrier(self) -> None:
        pass


class OtherProcessFailed(SystemExit):
    """Another rank failed and has printed the reason."""

    def __init__(self) -> None:
        super().__init__(2)


class GlooGroup:
    """A scan by several processes, which communicate by gloo.

    Gloo also suffices with accelerators, because the only data to add are sums on the host, once. A
    rank that fails tells the others, which then end without a message. A rank that dies is noticed
    by torchrun, or by the others after ``BARRIER_TIMEOUT``.
    """

    def __init__(self) -> None:
        import torch
        from torch import distributed
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        self._distributed, self._torch = distributed, torch
        store, self.index, self.count = next(iter(rendezvous("env://")))
        self.partition = Partition(self.index, self.count)
        self._store = PrefixStore("headprobe", store)
        distributed.init_process_group(
            "gloo",
            store=PrefixStore("gloo", store),
            rank=self.index,
            world_size=self.count,
            timeout=timedelta(seconds=BARRIER_TIMEOUT),
        )
        self._barriers = self._steps = 0
        self._last_heartbeat = 0.0
        self.heartbeat()

    def wrap_progress(self, progress: Progress) -> Progress:
        return _HeartbeatProgress(progress if self.index == 0 else None, self.heartbeat)

    def heartbeat(self) -> None:
        """Report that this rank is alive; OtherProcessFailed if another one failed."""
        if time.monotonic() - self._last_heartbeat < 1:
            return
        self._last_heartbeat, self._steps = time.monotonic(), self._steps + 1
        with self._connection_errors():
            self._store.set(f"steps/{self.index}", str(self._steps))
            failed = self._store.check(["failed"])
        if failed:
            raise OtherProcessFailed

    def fail(self) -> bool:
        """Tell the others to end; return whether this rank is the first one that does."""
        try:
            return bool(self._store.add("failed", 1) == 1)
        except RuntimeError:  # the rank with the store has ended
            return False

    def leave(self) -> None:
        """End the group after success; the first rank, which may hold the store, ends last."""
        with self._connection_errors():
            self._store.set(f"left/{self.index}", "")
            names = [f"left/{rank}" for rank in range(self.count)]
            until = time.monotonic() + _LEAVE_TIMEOUT
            while self.index == 0 and time.monotonic() < until and not self._store.check(names):
                time.sleep(_POLL_INTERVAL)
        self._distributed.destroy_process_group()

    def broadcast(self, value: T) -> T:
        self.barrier()
        own = self._pack(value)
        size = self._torch.tensor([len(own)])
        with self._connection_errors():
            self._distributed.broadcast(size, 0)
            buffer = own if self.index == 0 else own.new_empty(int(size))
            self._distributed.broadcast(buffer, 0)
        unpacked: T = self._unpack(buffer, int(size))
        return unpacked

    def gather(self, value: T) -> list[T]:
        self.barrier()
        own = self._pack(value)
        sizes = [self._torch.tensor([0]) for _ in range(self.count)]
        with self._connection_errors():
            self._distributed.all_gather(sizes, self._torch.tensor([len(own)]))
            longest = max(int(size) for size in sizes)  # tensors must have one size: pad them
            buffers = [own.new_zeros(longest) for _ in range(self.count)]
            padded = own.new_zeros(longest)
            padded[: len(own)] = own
            self._distributed.all_gather(buffers, padded)
        return [self._unpack(each, int(size)) for each, size in zip(buffers, sizes, strict=True)]

    def _pack(self, value: Any) -> Any:
        """Pack a value as JSON in a tensor of bytes; torch's exchange of objects uses pickle."""
        return self._torch.tensor(list(json.dumps(value).encode()), dtype=self._torch.uint8)

    def _unpack(self, buffer: Any, size: int) -> Any:
        return json.loads(bytes(buffer[:size].tolist()))

    def reduce_sums(self, tallies: Tallies) -> Tallies:
        import numpy as np
        import torch

        self.barrier()
        arrays = {}
        for name, array in sorted(tallies.arrays.items()):
            narrow = (
                array.dtype.kind == "i" and array.dtype.itemsize < 4
            )  # gloo does not support int16
            sums = torch.from_numpy(np.array(array, np.int32 if narrow else None, copy=True))
            with self._connection_errors():
                self._distributed.reduce(sums, 0)
            arrays[name] = sums.numpy().astype(array.dtype, copy=False)
        return Tallies(arrays)

    def barrier(self) -> None:
        """Wait until all ranks call this. A collective of gloo would not notice failures."""
        self._barriers += 1
        arrived = [f"here/{self._barriers}/{rank}" for rank in range(self.count)]
        with self._connection_errors():
            self._store.set(arrived[self.index], "")
        seen: dict[int, tuple[bytes, float]] = {}
        while not self._are_known(arrived):
            self.heartbeat()
            for rank, place in enumerate(arrived):
                if rank == self.index or self._are_known([place]):
                    continue
                steps = self._steps_of(rank)
                if rank not in seen or seen[rank][0] != steps:
                    seen[rank] = steps, time.monotonic()
                elif time.monotonic() - seen[rank][1] > BARRIER_TIMEOUT:
                    raise self._lost_process(
                        f"rank {rank} has not moved for {BARRIER_TIMEOUT:g} seconds"
                    )
            time.sleep(_POLL_INTERVAL)

    def _are_known(self, names: list[str]) -> bool:
        with self._connection_errors():
            return bool(self._store.check(names))

    def _steps_of(self, rank: int) -> bytes:
        name = f"steps/{rank}"
        if not self._are_known([name]):
            return b""
        with self._connection_errors():
            return bytes(self._store.get(name))

    def _lost_process(self, what: str) -> HeadprobeError:
        return HeadprobeError(
            f"rank {self.index}", what, "See its messages, and start all ranks again"
        )

    @contextmanager
    def _connection_errors(self) -> Iterator[None]:
        """Convert RuntimeErrors of lost connections."""
        try:
            yield
        except RuntimeError as error:
            try:
                failed = self._store.check(["failed"])
            except RuntimeError:
                raise OtherProcessFailed from None
            raise (
                OtherProcessFailed
                if failed
                else self._lost_process(f"lost the connection to another rank ({error})")
            ) from None


def local_rank() -> int:
    """Return the number of this process among those of this machine."""
    return _variable("LOCAL_RANK", 0, _MAX_RANKS - 1, default="0")


def _variable(name: str, low: int, high: int, default: str | None = None) -> int:
    """The number in a variable of the environment; HeadprobeError if it is none in this range."""
    text = os.environ.get(name, default) or ""
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
        raise HeadprobeError(
            f"environment variable {name}",
            f"is {clip(text, 40)!r}, not a number from {low} to {high}",
            "Start the scan with torchrun, or unset WORLD_SIZE and RANK",
        )
    return int(text)


def _is_started_by_torchrun() -> bool:
    """Whether other processes take part. HeadprobeError where a variable of torchrun is broken."""
    if "WORLD_SIZE" not in os.environ:
        return False
    size = _variable("WORLD_SIZE", 1, _MAX_RANKS)
    if size < 2 or any(name not in os.environ for name in _TORCHRUN_VARIABLES):
        return False
    _variable("RANK", 0, size - 1)
    _variable("MASTER_PORT", 1, _LAST_PORT)
    local_rank()
    if not os.environ["MASTER_ADDR"]:
        raise HeadprobeError(
            "environment variable MASTER_ADDR", "is empty", "Start the scan with torchrun"
        )
    return True


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Yield the group of processes that torchrun started, or a single process."""
    if not _is_started_by_torchrun():
        yield SingleProcess()
        return
    group = GlooGroup()
    try:
        yield group
    except HeadprobeError:
        if group.fail():
            raise
        raise OtherProcessFailed from None
    except KeyboardInterrupt as interrupt:  # every rank receives it; the first one reports it
        group.fail()
        raise interrupt if group.index == 0 else OtherProcessFailed from None
    except BaseException:
        group.fail()
        raise
    group.leave()


class _HeartbeatProgress:
    """Progress that also sends heartbeats to the other ranks; ``progress`` None shows nothing."""

    def __init__(self, progress: Progress | None, heartbeat: Callable[[], None]) -> None:
        self._progress, self._heartbeat = progress, heartbeat

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self._heartbeat()
        if self._progress is not None:
            self._progress.stage(name, total, unit)

    def advance(self, n: int = 1) -> None:
        self._heartbeat()
        if self._progress is not None:
            self._progress.advance(n)

    def warn(self, text: str) -> None:
        if self._progress is not None:
            self._progress.warn(text)

    def finish(self) -> None:
        if self._progress is not None:
            self._progress.finish()
