"""What is asked of a scan, and what is kept of it for later."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from headprobe.errors import HeadprobeError
from headprobe.model.checkpoint import Source
from headprobe.model.in_memory import InMemoryModel
from headprobe.store.manifest import build_value
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
    shard: Share | None = None
    adapter: str | None = None
    gguf: str | None = None
    gguf_cache: bool = True
    in_memory: InMemoryModel | None = None

    @property
    def source(self) -> Source:
        """The checkpoint, as it is named: ``resolve_adapter`` finds out what that is."""
        if self.in_memory is not None:
            return Source(self.in_memory.name, in_memory=self.in_memory)
        if self.model is None:
            if self.gguf is not None:
                raise HeadprobeError(
                    f"--gguf {self.gguf}",
                    "names a file inside MODEL, and there is no MODEL",
                    "Name the folder or Hub id before it, or the file itself as MODEL",
                )
            # an adapter names its base
            return Source.demo() if self.adapter is None else Source(self.adapter)
        return Source(
            self.model,
            self.revision,
            self.trust_remote_code,
            adapter=self.adapter,
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
        request: Self = build_value(cls, plain)
        paths = {name: build_value(str | None, values[name]) for name in _PATHS}
        shard = build_value(dict[str, int] | None, values["shard"])
        return replace(
            request,
            out=None if paths["out"] is None else Path(paths["out"]),
            rules=None if paths["rules"] is None else Path(paths["rules"]),
            shard=None if shard is None else Share(**shard),
            trust_remote_code=trust_remote_code,
            in_memory=in_memory,
        )


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


def recall(
    target: Path,
    ranks: Alone,
    trust_remote_code: bool = False,
    in_memory: InMemoryModel | None = None,
) -> Attempt:
    """The scan of which something is kept beside ``target``, to be gone on with; HeadprobeError
    where nothing is, where it is of another run, or where others would have to go on: other ranks,
    in another folder, or with the model that was in memory. Consent to remote code is what is given
    now, never what is kept."""
    own = Unfinished(target, ranks.index, ranks.count)
    kept = next((note for note in ranks.gather(own.note()) if note is not None), None)
    if kept is None:
        raise _nothing(target)
    try:
        folder = build_value(str, kept["folder"])
        attempt = Attempt(
            ScanRequest.of(kept["request"], trust_remote_code, in_memory),
            build_value(dict[str, str], kept["terms"]),
            datetime.fromisoformat(kept["started"]),
            build_value(dict[str, float], kept["seconds"]),
            build_value(int, kept["resumed"]) + 1,
        )
        written = attempt.request.target()
        needs_memory = build_value(bool, kept["request"]["in_memory"])
    except (HeadprobeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadprobeError(
            str(own.path),
            f"is not the saved state of a scan ({error})",
            "Start again with --overwrite",
        ) from None
    if folder != str(Path.cwd()):
        raise HeadprobeError(
            str(target), f"was started in {folder}", "Run the command in that folder"
        )
    if written.resolve() != target.resolve():
        raise HeadprobeError(
            str(own.path), f"belongs to another run ({written})", "Start again with --overwrite"
        )
    if needs_memory and in_memory is None:
        raise HeadprobeError(
            str(target),
            "was started with a model in memory",
            "Resume it in Python: headprobe.resume(RUN, model=..., tokenizer=...)",
        )
    if in_memory is not None and not needs_memory:
        raise HeadprobeError(
            str(target), "was started with a checkpoint, which it loads", "Omit model="
        )
    return attempt


def _nothing(target: Path) -> HeadprobeError:
    others = find_unfinished(target.absolute().parent, target.name)
    if others and others[0].ranks > 1:
        what = f"was shared by {others[0].ranks} ranks"
        command = replace(others[0], target=target).command
        return HeadprobeError(str(target), what, f"Resume it with {command}")
    if others:
        return HeadprobeError(
            str(target), "was started by one process", "Resume it without torchrun"
        )
    if (target / MANIFEST).is_file():
        return HeadprobeError(
            str(target), "is already finished; nothing to resume", "headprobe runs lists all runs"
        )
    return HeadprobeError(
        str(target),
        "nothing to resume: progress is saved only after the first minute",
        "Start the scan again",
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
                "an interrupted scan of it can be resumed",
                f"Resume it with {replace(kept, target=target).command}, "
                "or start again with --overwrite",
            )
