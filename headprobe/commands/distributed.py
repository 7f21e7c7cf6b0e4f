"""Several processes for one scan, as torchrun starts them: one share each, one answer."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from headprobe.config import Share
from headprobe.errors import HeadprobeError
from headprobe.progress import Progress
from headprobe.runs.sums import Tallies

SILENT = 1800.0
"""Seconds after which a rank that tells of no progress counts as gone."""

_FAREWELL = 30.0
_LOOK = 0.05
_ASKED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

T = TypeVar("T")


class Alone:
    """One process: what ``Ranks`` do together, it has already."""

    index, count = 0, 1
    share: Share | None = None

    def hear(self, progress: Progress) -> Progress:
        """The progress to use: of several ranks the first speaks."""
        return progress

    def of_first(self, value: T) -> T:
        """What the first rank has; it is written as JSON on the way, as in ``gather``."""
        return value

    def gather(self, value: T) -> list[T]:
        """What each rank has, on all of them."""
        return [value]

    def add(self, tallies: Tallies) -> Tallies:
        """The sums of all ranks, on the first."""
        return tallies

    def meet(self) -> None:
        """Wait until all ranks are here."""


class Elsewhere(SystemExit):
    """Another rank failed, and said why."""

    def __init__(self) -> None:
        super().__init__(2)


class Ranks(Alone):
    """Processes that speak over gloo, on accelerators too: what they have to add are sums on the
    host, once. A rank that fails says so to the others, which then end without a word; one that
    dies is noticed by torchrun, which ends the others, or by them when it stays silent."""

    def __init__(self) -> None:
        import torch
        from torch import distributed
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        self._distributed, self._torch = distributed, torch
        store, self.index, self.count = next(iter(rendezvous("env://")))
        self.share = Share(self.index, self.count)
        self._store = PrefixStore("headprobe", store)
        distributed.init_process_group(
            "gloo",
            store=PrefixStore("gloo", store),
            rank=self.index,
            world_size=self.count,
            timeout=timedelta(seconds=SILENT),
        )
        self._meetings = self._steps = 0
        self._beaten = 0.0
        self.beat()

    def hear(self, progress: Progress) -> Progress:
        return _Beating(progress if self.index == 0 else None, self.beat)

    def beat(self) -> None:
        """Tell that this rank is alive, and hear whether another one failed."""
        if time.monotonic() - self._beaten < 1:
            return
        self._beaten, self._steps = time.monotonic(), self._steps + 1
        with self._together():
            self._store.set(f"steps/{self.index}", str(self._steps))
            failed = self._store.check(["failed"])
        if failed:
            raise Elsewhere

    def fail(self) -> bool:
        """Tell the others to end; True on the first rank that does."""
        try:
            return bool(self._store.add("failed", 1) == 1)
        except RuntimeError:  # the store is gone with the rank that kept it
            return False

    def leave(self) -> None:
        """All is well; the first rank, which may keep the store, goes last."""
        with self._together():
            self._store.set(f"left/{self.index}", "")
            names = [f"left/{rank}" for rank in range(self.count)]
            until = time.monotonic() + _FAREWELL
            while self.index == 0 and time.monotonic() < until and not self._store.check(names):
                time.sleep(_LOOK)
        self._distributed.destroy_process_group()

    def of_first(self, value: T) -> T:
        self.meet()
        own = self._pack(value)
        size = self._torch.tensor([len(own)])
        with self._together():
            self._distributed.broadcast(size, 0)
            held = own if self.index == 0 else own.new_empty(int(size))
            self._distributed.broadcast(held, 0)
        unpacked: T = self._unpack(held, int(size))
        return unpacked

    def gather(self, value: T) -> list[T]:
        self.meet()
        own = self._pack(value)
        sizes = [self._torch.tensor([0]) for _ in range(self.count)]
        with self._together():
            self._distributed.all_gather(sizes, self._torch.tensor([len(own)]))
            longest = max(int(size) for size in sizes)  # all are padded to it
            held = [own.new_zeros(longest) for _ in range(self.count)]
            padded = own.new_zeros(longest)
            padded[: len(own)] = own
            self._distributed.all_gather(held, padded)
        return [self._unpack(each, int(size)) for each, size in zip(held, sizes, strict=True)]

    def _pack(self, value: Any) -> Any:
        """JSON in a tensor of bytes: torch's own exchange of objects would unpickle them."""
        return self._torch.tensor(list(json.dumps(value).encode()), dtype=self._torch.uint8)

    def _unpack(self, held: Any, size: int) -> Any:
        return json.loads(bytes(held[:size].tolist()))

    def add(self, tallies: Tallies) -> Tallies:
        import numpy as np
        import torch

        self.meet()
        arrays = {}
        for name, array in sorted(tallies.arrays.items()):
            narrow = array.dtype.kind == "i" and array.dtype.itemsize < 4  # gloo knows no int16
            sums = torch.from_numpy(np.array(array, np.int32 if narrow else None, copy=True))
            with self._together():
                self._distributed.reduce(sums, 0)
            arrays[name] = sums.numpy().astype(array.dtype, copy=False)
        return Tallies(arrays)

    def meet(self) -> None:
        """Wait until all ranks are here, not in a collective, which would not notice failures."""
        self._meetings += 1
        here = [f"here/{self._meetings}/{rank}" for rank in range(self.count)]
        with self._together():
            self._store.set(here[self.index], "")
        seen: dict[int, tuple[bytes, float]] = {}
        while not self._are_known(here):
            self.beat()
            for rank, place in enumerate(here):
                if rank == self.index or self._are_known([place]):
                    continue
                steps = self._steps_of(rank)
                if rank not in seen or seen[rank][0] != steps:
                    seen[rank] = steps, time.monotonic()
                elif time.monotonic() - seen[rank][1] > SILENT:
                    raise self._gone(f"rank {rank} has not moved for {SILENT:g} seconds")
            time.sleep(_LOOK)

    def _are_known(self, names: list[str]) -> bool:
        with self._together():
            return bool(self._store.check(names))

    def _steps_of(self, rank: int) -> bytes:
        name = f"steps/{rank}"
        if not self._are_known([name]):
            return b""
        with self._together():
            return bytes(self._store.get(name))

    def _gone(self, what: str) -> HeadprobeError:
        return HeadprobeError(
            f"rank {self.index}", what, "See what it said, and start all ranks again"
        )

    @contextmanager
    def _together(self) -> Iterator[None]:
        """RuntimeErrors are of connections: the other side is gone."""
        try:
            yield
        except RuntimeError as error:
            try:
                failed = self._store.check(["failed"])
            except RuntimeError:
                raise Elsewhere from None
            raise Elsewhere if failed else self._gone(f"another rank is gone ({error})") from None


def local_rank() -> int:
    """Which of the processes of this machine this is."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined() -> Iterator[Alone]:
    """The ranks that torchrun started; one process alone where it did not."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or any(name not in os.environ for name in _ASKED):
        yield Alone()
        return
    ranks = Ranks()
    try:
        yield ranks
    except HeadprobeError:
        if ranks.fail():
            raise
        raise Elsewhere from None
    except KeyboardInterrupt as interrupt:  # all of them got it
        ranks.fail()
        raise interrupt if ranks.index == 0 else Elsewhere from None
    except BaseException:
        ranks.fail()
        raise
    ranks.leave()


class _Beating:
    """Progress that tells the other ranks, too; without a voice it stays silent."""

    def __init__(self, voice: Progress | None, beat: Callable[[], None]) -> None:
        self._voice, self._beat = voice, beat

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self._beat()
        if self._voice is not None:
            self._voice.stage(name, total, unit)

    def advance(self, n: int = 1) -> None:
        self._beat()
        if self._voice is not None:
            self._voice.advance(n)

    def warn(self, text: str) -> None:
        if self._voice is not None:
            self._voice.warn(text)

    def finish(self) -> None:
        if self._voice is not None:
            self._voice.finish()
