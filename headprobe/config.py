"""What is asked of a scan."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headprobe.errors import HeadprobeError
from headprobe.model.in_memory import InMemoryModel
from headprobe.model.load import CheckpointSource
from headprobe.vocabulary import build_value


@dataclass(frozen=True)
class Partition:
    """One of ``count`` equal shares, the first of which has ``index`` 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """``3/8``: the third of eight; HeadprobeError otherwise."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise HeadprobeError(
                f"--shard {text}", "is no share of a whole", "Write 3/8 for the third of eight"
            )
        return cls(int(number) - 1, int(count))

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def select(
        self, numbers: NDArray[np.integer], lengths: NDArray[np.integer]
    ) -> NDArray[np.int64]:
        """Those of the ascending ``numbers`` that are this share's: dealt out by their ``lengths``,
        the longest first, forth and back, so that shares have as much to do and as long rows."""
        turn, place = np.divmod(np.arange(len(numbers)), self.count)
        owner = np.where(turn % 2, self.count - 1 - place, place)
        order = np.argsort(-np.asarray(lengths), kind="stable")
        return np.sort(np.asarray(numbers)[order[owner == self.index]]).astype(np.int64)


@dataclass(frozen=True)
class ScanConfig:
    """What is asked of a scan. ``budget``: tokens of a passage, the smaller of 512 and the model's
    context by default; ``memory``: bytes that measuring may take over the weights; ``out``: the run
    folder, named by model and time by default; ``rules``: a file of rules that differ from the
    packaged ones; ``gguf``: a GGUF file inside the folder or Hub repository ``model``, of which
    ``gguf_cache`` keeps a converted copy; ``twin``, ``shuffle``: the controls; ``shard``: the
    share of the passages that is scanned, to a shard folder beside ``out``; ``adapter``: one of
    peft's, put on the model; ``in_memory``: the model itself, in the place of ``model``."""

    model: str | None = None
    probes: tuple[str, ...] = ()
    out: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    max_passages: int | None = None
    seed: int = 0
    overwrite: bool = False
    trust_remote_code: bool = False
    budget: int | None = None
    memory: int | None = None
    rules: Path | None = None
    twin: bool = False
    shuffle: bool = False
    shard: Partition | None = None
    adapter: str | None = None
    gguf: str | None = None
    gguf_cache: bool = True
    in_memory: InMemoryModel | None = None

    @property
    def source(self) -> CheckpointSource:
        """The checkpoint, as it is named: ``resolve_adapter`` finds out what that is."""
        if self.in_memory is not None:
            return CheckpointSource(self.in_memory.name, in_memory=self.in_memory)
        if self.model is None:
            if self.gguf is not None:
                raise HeadprobeError(
                    f"--gguf {self.gguf}",
                    "names a file inside MODEL, and there is no MODEL",
                    "Name the folder or Hub id before it, or the file itself as MODEL",
                )
            # an adapter names its base
            return (
                CheckpointSource.demo() if self.adapter is None else CheckpointSource(self.adapter)
            )
        return CheckpointSource(
            self.model,
            self.revision,
            self.trust_remote_code,
            adapter=self.adapter,
            gguf=self.gguf,
            gguf_cache=self.gguf_cache,
        )

    def values(self) -> dict[str, Any]:
        """As JSON can hold it: of a model in memory only that there was one, without the consent
        to remote code, which is never stored."""
        paths = {name: path and str(path) for name in _PATHS for path in [getattr(self, name)]}
        values = {**asdict(replace(self, in_memory=None)), **paths}
        values["in_memory"] = self.in_memory is not None
        del values["trust_remote_code"]
        return values

    @classmethod
    def of(
        cls,
        values: Mapping[str, Any],
        trust_remote_code: bool,
        in_memory: InMemoryModel | None = None,
    ) -> Self:
        """What ``values`` gave, with consent and the model in memory as they are given now.
        KeyError, TypeError or ValueError where they are no such values."""
        special = (*_PATHS, "shard", "in_memory")
        plain = {name: value for name, value in values.items() if name not in special}
        config: Self = build_value(cls, plain)
        paths = {name: build_value(str | None, values[name]) for name in _PATHS}
        shard = build_value(dict[str, int] | None, values["shard"])
        return replace(
            config,
            out=None if paths["out"] is None else Path(paths["out"]),
            rules=None if paths["rules"] is None else Path(paths["rules"]),
            shard=None if shard is None else Partition(**shard),
            trust_remote_code=trust_remote_code,
            in_memory=in_memory,
        )


_PATHS = ("out", "rules")
