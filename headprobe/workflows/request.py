"""What is asked of a scan, and what is kept of it for later."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from headprobe.errors import HeadprobeError
from headprobe.model.checkpoint import Source
from headprobe.store.run_folder import MANIFEST, default_target
from headprobe.store.shard_folder import Shard
from headprobe.store.unfinished import Unfinished, find_unfinished
from headprobe.workflows.ranks import Alone
from headprobe.workflows.shares import Share


@dataclass(frozen=True)
class ScanRequest:
    """What is asked of a scan. ``budget``: tokens of a passage, the smaller of 512 and the model's
    context by default; ``memory``: bytes that measuring may take over the weights; ``out``: the run
    folder, named by model and time by default; ``rules``: a file of rules that differ from the
    packaged ones; ``gguf``: a GGUF file inside the folder or Hub repository ``model``, of which
    ``gguf_cache`` keeps a converted copy; ``twin``, ``shuffle``: the controls; ``shard``: the
    share of the passages that is scanned, to a shard folder beside ``out``."""

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
    shard: Share | None = None
    gguf: str | None = None
    gguf_cache: bool = True

    @property
    def source(self) -> Source:
        """The checkpoint."""
        if self.model is None:
            if self.gguf is not None:
                raise HeadprobeError(
                    f"--gguf {self.gguf}",
                    "names a file inside MODEL, and there is no MODEL",
                    "Name the folder or Hub id before it, or the file itself as MODEL",
                )
            return Source.demo()
        return Source(
            self.model,
            self.revision,
            self.trust_remote_code,
            gguf=self.gguf,
            gguf_cache=self.gguf_cache,
        )

    def target(self) -> Path:
        """The folder that will be written; HeadprobeError where shards would not share a name."""
        if self.shard is None:
            return self.out or default_target(self.source.name, datetime.now())
        if self.out is None:
            raise HeadprobeError(
                f"--shard {self.shard}", "has no run to be a shard of", "Name it: --out RUN"
            )
        return Shard.target(self.out, self.shard.index, self.shard.count)

    def values(self) -> dict[str, Any]:
        """As JSON can hold it."""
        paths = {name: path and str(path) for name in _PATHS for path in [getattr(self, name)]}
        return {**asdict(self), **paths}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """What ``values`` gave."""
        paths = {name: values[name] and Path(values[name]) for name in _PATHS}
        shard = values["shard"] and Share(**values["shard"])
        return cls(**{**values, **paths, "probes": tuple(values["probes"]), "shard": shard})


_PATHS = ("out", "rules")


@dataclass(frozen=True)
class Attempt:
    """A scan that goes on, or begins: ``terms`` are those it began with, by name (none where it
    begins), ``seconds`` what it has spent by stage, ``resumed`` how often it was gone on with."""

    request: ScanRequest
    terms: Mapping[str, str] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: Mapping[str, float] = field(default_factory=dict)
    resumed: int = 0

    def values(self, terms: Mapping[str, str], seconds: Mapping[str, float]) -> dict[str, Any]:
        """What a later attempt must know."""
        return {
            "request": self.request.values(),
            "folder": str(Path.cwd()),
            "terms": dict(terms),
            "started": self.started.isoformat(),
            "seconds": dict(seconds),
            "resumed": self.resumed,
        }


def recall(target: Path, ranks: Alone) -> Attempt:
    """The scan of which something is kept beside ``target``, to be gone on with; HeadprobeError
    where nothing is, or where others would have to go on: other ranks, in another folder."""
    own = Unfinished(target, ranks.index, ranks.count)
    kept = next((note for note in ranks.gather(own.note()) if note is not None), None)
    if kept is None:
        raise _nothing(target)
    if kept["folder"] != str(Path.cwd()):
        raise HeadprobeError(
            str(target), f"was begun in {kept['folder']}", "Go there, and type it again"
        )
    return Attempt(
        ScanRequest.of(kept["request"]),
        kept["terms"],
        datetime.fromisoformat(kept["started"]),
        kept["seconds"],
        kept["resumed"] + 1,
    )


def _nothing(target: Path) -> HeadprobeError:
    others = find_unfinished(target.absolute().parent, target.name)
    if others and others[0].ranks > 1:
        what = f"was shared by {others[0].ranks} ranks"
        command = replace(others[0], target=target).command
        return HeadprobeError(str(target), what, f"Go on with {command}")
    if others:
        return HeadprobeError(str(target), "was begun by one process", "Go on without torchrun")
    if (target / MANIFEST).is_file():
        return HeadprobeError(str(target), "is finished", "headprobe runs lists the runs there are")
    return HeadprobeError(
        str(target), "nothing of it is kept: that begins after a minute", "Scan from the beginning"
    )


def check_unfinished(target: Path, overwrite: bool) -> None:
    """HeadprobeError where a scan of ``target`` could be gone on with; with ``overwrite`` what is
    kept of it is thrown away."""
    for kept in find_unfinished(target.absolute().parent, target.name):
        if overwrite:
            kept.remove()
        else:
            raise HeadprobeError(
                str(target),
                "a scan of it was interrupted, and what it had is kept",
                f"Go on with {replace(kept, target=target).command}, or begin again: --overwrite",
            )
