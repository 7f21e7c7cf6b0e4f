"""Resuming a scan: what is saved of it, and when it can be continued."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headprobe import __version__
from headprobe.commands.distributed import ProcessGroup
from headprobe.commands.prepare import checkpoint_source
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.format import clip
from headprobe.model.in_memory import InMemoryModel
from headprobe.model.load import CheckpointSource
from headprobe.runs.checkpoint import ScanCheckpoint, find_checkpoints
from headprobe.runs.fingerprint import Fingerprint
from headprobe.runs.folder import MANIFEST, default_target
from headprobe.runs.shards import Shard
from headprobe.vocabulary import build_value


def run_target(config: ScanConfig, source: CheckpointSource) -> Path:
    """Return the folder that the scan writes; HeadprobeError for a shard without ``--out``."""
    if config.shard is None:
        return config.out or default_target(source.name, datetime.now())
    if config.out is None:
        raise HeadprobeError(
            f"--shard {config.shard}", "has no run to be a shard of", "Name it: --out RUN"
        )
    return Shard.target(config.out, config.shard.index, config.shard.count)


@dataclass(frozen=True)
class ScanAttempt:
    """A scan that starts, or that is resumed."""

    config: ScanConfig
    in_memory: InMemoryModel | None = None
    """The model, where the caller has it in memory."""
    fingerprint: Fingerprint = field(default_factory=Fingerprint)
    """The fingerprint that the scan started with; empty where it starts now."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When the first attempt started."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds that earlier attempts spent, by stage."""
    resumed: int = 0
    """How often the scan was resumed."""

    @property
    def source(self) -> CheckpointSource:
        """The source of the checkpoint, as the user names it."""
        return checkpoint_source(self.config, self.in_memory)

    def to_json(self, fingerprint: Fingerprint, seconds: Mapping[str, float]) -> dict[str, Any]:
        """Return what a later attempt must know, as JSON values."""
        return {
            "request": self.config.to_json(),
            "in_memory": self.in_memory is not None,
            "folder": str(Path.cwd()),
            "terms": dict(fingerprint.values),
            "started": self.started.isoformat(),
            "seconds": dict(seconds),
            "resumed": self.resumed,
        }


def load_attempt(
    target: Path,
    group: ProcessGroup,
    trust_remote_code: bool = False,
    in_memory: InMemoryModel | None = None,
) -> ScanAttempt:
    """Load the partial scan that is saved beside ``target``, to resume it.

    ``trust_remote_code`` is the consent that the user gives now: it is never stored. Raises
    HeadprobeError where nothing is saved, where it belongs to another run or another version of
    headprobe, or where it can only be resumed otherwise: by another number of processes, in another
    folder, or with the model that was in memory.
    """
    if not target.absolute().name:
        raise HeadprobeError(str(target), "not a run folder", "Name the interrupted run")
    own = ScanCheckpoint(target, group.index, group.count)
    saved = next((note for note in group.gather(own.load_note()) if note is not None), None)
    if saved is None:
        raise _nothing_saved(target)
    _check_version(target, saved)
    attempt, written, folder, needs_memory = _read_note(own, saved, trust_remote_code, in_memory)
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
            str(target), "was started with a checkpoint, not a model in memory", "Leave out model="
        )
    return attempt


def _read_note(
    checkpoint: ScanCheckpoint,
    saved: Mapping[str, Any],
    trust_remote_code: bool,
    in_memory: InMemoryModel | None,
) -> tuple[ScanAttempt, Path, str, bool]:
    """Return the attempt that continues a saved one, and what it must fit.

    That is the run that it writes, the folder where it was started, and whether its model was in
    memory.

    Raises HeadprobeError where the note is not what ``ScanAttempt.note`` writes.
    """
    try:
        fingerprint = Fingerprint(build_value(dict[str, str], saved["terms"]))
        folder = build_value(str, saved["folder"])
        attempt = ScanAttempt(
            ScanConfig.from_json(saved["request"], trust_remote_code=trust_remote_code),
            in_memory,
            fingerprint,
            datetime.fromisoformat(saved["started"]),
            build_value(dict[str, float], saved["seconds"]),
            build_value(int, saved["resumed"]) + 1,
        )
        if attempt.resumed < 1 or min(attempt.seconds.values(), default=0) < 0:
            raise ValueError("its number of attempts or its times are negative")
        written = run_target(attempt.config, attempt.source)
        needs_memory = build_value(bool, saved["in_memory"])
    except (HeadprobeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = error.what if isinstance(error, HeadprobeError) else str(error)
        raise HeadprobeError(
            str(checkpoint.path),
            f"is not the saved state of a scan ({clip(reason, 200)})",
            "Start again with --overwrite",
        ) from None
    return attempt, written, folder, needs_memory


def _check_version(target: Path, saved: Mapping[str, Any]) -> None:
    """Raise HeadprobeError where another version of headprobe saved the scan."""
    values = saved.get("terms")
    version = values.get("the version of headprobe") if isinstance(values, dict) else None
    if version not in (None, __version__):
        raise HeadprobeError(
            str(target),
            f"was started by headprobe {version}, and this is {__version__}",
            f"Resume it with headprobe {version}, or start again with --overwrite",
        )


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
        str(target), "nothing to resume: no sums of it are saved", "Start the scan again"
    )


def check_not_interrupted(target: Path, overwrite: bool) -> None:
    """Raise HeadprobeError where a partial scan of ``target`` could be resumed.

    With ``overwrite`` the partial scan is removed instead.
    """
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
