"""What is kept of a scan for later, and how it is resumed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headprobe.commands.distributed import SingleProcess
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.model.in_memory import InMemoryModel
from headprobe.runs.checkpoint import ScanCheckpoint, find_checkpoints
from headprobe.runs.folder import MANIFEST, default_target
from headprobe.runs.shards import Shard
from headprobe.vocabulary import build_value


def run_target(config: ScanConfig) -> Path:
    """The folder that will be written; HeadprobeError where shards would not share a name."""
    if config.shard is None:
        return config.out or default_target(config.source.name, datetime.now())
    if config.out is None:
        raise HeadprobeError(
            f"--shard {config.shard}", "has no run to be a shard of", "Name it: --out RUN"
        )
    return Shard.target(config.out, config.shard.index, config.shard.count)


@dataclass(frozen=True)
class ScanAttempt:
    """A scan that goes on, or begins: ``fingerprint`` are those it began with, by name (none where
    it begins), ``seconds`` what it has spent by stage, ``resumed`` how often it was gone on
    with."""

    config: ScanConfig
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: Mapping[str, float] = field(default_factory=dict)
    resumed: int = 0

    def values(
        self, fingerprint: Mapping[str, str], seconds: Mapping[str, float]
    ) -> dict[str, Any]:
        """What a later attempt must know."""
        return {
            "request": self.config.values(),
            "folder": str(Path.cwd()),
            "terms": dict(fingerprint),
            "started": self.started.isoformat(),
            "seconds": dict(seconds),
            "resumed": self.resumed,
        }


def load_attempt(
    target: Path,
    group: SingleProcess,
    trust_remote_code: bool = False,
    in_memory: InMemoryModel | None = None,
) -> ScanAttempt:
    """The scan of which something is kept beside ``target``, to be gone on with; HeadprobeError
    where nothing is, where it is of another run, or where others would have to go on: other ranks,
    in another folder, or with the model that was in memory. Consent to remote code is what is given
    now, never what is kept."""
    own = ScanCheckpoint(target, group.index, group.count)
    kept = next((note for note in group.gather(own.load_note()) if note is not None), None)
    if kept is None:
        raise _nothing_saved(target)
    try:
        folder = build_value(str, kept["folder"])
        attempt = ScanAttempt(
            ScanConfig.of(kept["request"], trust_remote_code, in_memory),
            build_value(dict[str, str], kept["terms"]),
            datetime.fromisoformat(kept["started"]),
            build_value(dict[str, float], kept["seconds"]),
            build_value(int, kept["resumed"]) + 1,
        )
        written = run_target(attempt.config)
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


def _nothing_saved(target: Path) -> HeadprobeError:
    others = find_checkpoints(target.absolute().parent, target.name)
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


def check_not_interrupted(target: Path, overwrite: bool) -> None:
    """HeadprobeError where a scan of ``target`` could be gone on with; with ``overwrite`` what is
    kept of it is thrown away."""
    for checkpoint in find_checkpoints(target.absolute().parent, target.name):
        if overwrite:
            checkpoint.remove()
        else:
            raise HeadprobeError(
                str(target),
                "an interrupted scan of it can be resumed",
                f"Resume it with {replace(checkpoint, target=target).command}, "
                "or start again with --overwrite",
            )
