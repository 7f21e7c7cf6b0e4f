"""``headprobe trace``: scan every checkpoint of a training, and find when roles begin and end."""

import gc
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from headprobe.commands.distributed import SingleProcess
from headprobe.commands.fingerprint import software
from headprobe.commands.prepare import checkpoint_source
from headprobe.commands.provenance import hash_model
from headprobe.commands.resume import ScanAttempt, load_attempt
from headprobe.commands.scan import run_scan
from headprobe.commands.trace_folder import NOTE, StepNote, TraceNote, load_trace, write_tables
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.format import fraction
from headprobe.model.dtypes import choose_dtype
from headprobe.model.in_memory import InMemoryModel
from headprobe.model.load import CheckpointSource, choose_device, load_config, load_encoder
from headprobe.model.revisions import Revision, cached_commits, list_revisions, remove_commit
from headprobe.model.twin import build_twin
from headprobe.model.underflow import SHARE, underflowing_share
from headprobe.probes.catalog import find_probe_files
from headprobe.progress import Progress
from headprobe.results.trace import ONSETS, STEPS, TRACE, Trace
from headprobe.roles.rules import load_rules
from headprobe.runs.checkpoint import ScanCheckpoint
from headprobe.runs.fingerprint import Fingerprint
from headprobe.runs.folder import MANIFEST, RUNS, Run, default_target

_ALONE = SingleProcess()

TWIN_NAME = "random weights"
"""The name of the twin that stands in for a checkpoint of step 0."""


@dataclass(frozen=True)
class TraceRequest:
    """What to trace."""

    models: tuple[str, ...]
    """Folders of checkpoints, or one Hub id with ``revisions``."""
    config: ScanConfig
    """How each checkpoint is scanned; its model, revision and run are set for each step."""
    revisions: str | None = None
    """A shell pattern of the branches and tags of the Hub id."""
    out: Path | None = None
    """The folder of the trace."""
    drop: bool = False
    """Whether each revision is removed from the cache after use."""
    resume: bool = False
    """Whether finished steps in ``out`` are reused."""


@dataclass(frozen=True)
class _Checkpoint:
    """A checkpoint of the series."""

    step: int
    name: str
    model: str
    commit: str | None = None


def trace(request: TraceRequest, progress: Progress) -> Trace:
    """Scan all checkpoints, write the tables and return the trace.

    Raises HeadprobeError for errors that the user can correct. Finished steps stay in the folder,
    and ``resume`` goes on from there.
    """
    checkpoints = _list_checkpoints(request)
    model = request.models[0] if request.revisions else _common_name(request.models)
    target = request.out or _default_folder(model)
    fingerprint = _fingerprint(request.config)
    note = TraceNote(model, fingerprint.values, _notes(checkpoints))
    earlier = _check_target(request, target, fingerprint)
    if earlier is not None:
        note = replace(note, downloaded=earlier.downloaded, warnings=earlier.warnings)
    created = [each for each in (target, *target.parents) if not each.exists()]
    note.save(target)
    running = _RunningTrace(request, target, checkpoints, progress)
    try:
        running.measure(note)
    except BaseException:
        if earlier is None and {path.name for path in target.iterdir()} == {NOTE}:
            (target / NOTE).unlink()
            for folder in created:
                folder.rmdir()
        raise
    found = load_trace(target)
    write_tables(found)
    return found


# --- the checkpoints of a series


def _list_checkpoints(request: TraceRequest) -> tuple[_Checkpoint, ...]:
    """The checkpoints by step; HeadprobeError where their names do not say which step each is."""
    models, revisions = request.models, request.revisions
    if not models:
        remedy = "Name folders, or a Hub id with --revisions 'step*'"
        raise HeadprobeError("trace", "names no checkpoints", remedy)
    if revisions is None:
        if request.drop:
            raise HeadprobeError(
                "--drop", "removes downloaded revisions, and none is downloaded", "Leave it out"
            )
        return _by_step([(Path(each).name or each, each, None) for each in models])
    if len(models) > 1 or Path(models[0]).exists():
        what = "names more than one model" if len(models) > 1 else f"{models[0]} is a local folder"
        raise HeadprobeError("--revisions", what, "Name one Hub id, or folders without --revisions")
    found: Sequence[Revision] = list_revisions(models[0], revisions)
    return _by_step([(each.name, models[0], each.commit) for each in found])


def _by_step(found: Sequence[tuple[str, str, str | None]]) -> tuple[_Checkpoint, ...]:
    """Sort checkpoints, given as name, model and commit, by the step that their names give."""
    names = [name for name, _, _ in found]
    numbers = step_numbers(names)
    steps: dict[int, str] = {}
    for name, number in zip(names, numbers, strict=True):
        if number in steps:
            raise HeadprobeError(
                f"{steps[number]} and {name}",
                f"are both step {number}",
                "Name each step once, with its number in the name",
            )
        steps[number] = name
    made = [
        _Checkpoint(number, name, model, commit)
        for number, (name, model, commit) in zip(numbers, found, strict=True)
    ]
    return tuple(sorted(made, key=lambda each: each.step))


def step_numbers(names: Sequence[str]) -> list[int]:
    """Return the step that each name gives: the number after ``step``, else the first number in
    which the names differ, else the last one.

    Raises HeadprobeError where a name has no number.
    """
    after_step = [
        re.search(r"(?:step|checkpoint|ckpt)[-_=]?([0-9]{1,15})", n, re.IGNORECASE) for n in names
    ]
    if all(after_step):
        return [int(match[1]) for match in after_step if match]
    numbers = [[int(digits) for digits in re.findall(r"[0-9]{1,15}", name)] for name in names]
    for name, found in zip(names, numbers, strict=True):
        if not found:
            raise HeadprobeError(
                name or "a checkpoint",
                "has no number in its name, by which steps are sorted",
                "Rename it, such as step1000",
            )
    if len({len(found) for found in numbers}) == 1:
        for column in zip(*numbers, strict=True):
            if len(set(column)) == len(column):
                return list(column)
    return [found[-1] for found in numbers]


def _notes(checkpoints: Sequence[_Checkpoint]) -> tuple[StepNote, ...]:
    """The steps of the trace, with the twin as step 0 where there is no checkpoint of it."""
    steps = [
        StepNote(each.step, each.name, f"step{each.step}", each.commit) for each in checkpoints
    ]
    if checkpoints[0].step > 0:
        steps.insert(0, StepNote(0, TWIN_NAME, "step0", twin=True))
    return tuple(steps)


def _common_name(models: Sequence[str]) -> str:
    """The name of the training: that of the folder in which the checkpoints are."""
    return Path(models[0]).absolute().parent.name or "checkpoints"


def _default_folder(model: str) -> Path:
    return default_target(f"{Path(model).name}-trace", datetime.now(), RUNS)


# --- the folder


def _fingerprint(config: ScanConfig) -> Fingerprint:
    """What the results of all steps depend on, besides the checkpoints."""
    probes, rules = find_probe_files(config.probes), load_rules(config.rules)
    return Fingerprint(
        {
            **{f"the probes {probe.name}": probe.sha256 for probe in probes},
            "the number of probe files": str(len(probes)),
            "the rules": rules.sha256,
            "the device": config.device,
            "the dtype": config.dtype,
            **config.fingerprint_values(),
            **software(),
        }
    )


def _check_target(
    request: TraceRequest, target: Path, fingerprint: Fingerprint
) -> TraceNote | None:
    """Return the note of the trace to resume, or None; HeadprobeError where ``target`` is taken."""
    if request.resume:
        if request.out is None:
            raise HeadprobeError("--resume", "which trace?", "Name its folder: -o DIR")
        earlier = TraceNote.load(target)
        if difference := Fingerprint(dict(earlier.fingerprint)).first_difference(fingerprint):
            raise HeadprobeError(
                str(target),
                f"differs from the trace that was started in {difference}",
                "Restore what it was, or trace to another folder: -o DIR",
            )
        return earlier
    if (target / NOTE).is_file():
        raise HeadprobeError(
            str(target), "is a trace already", "Go on with --resume, or name another folder: -o DIR"
        )
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise HeadprobeError(str(target), "exists already", "Name another folder: -o DIR")
    return None


# --- measuring


@dataclass(frozen=True)
class _RunningTrace:
    """A trace that is being measured."""

    request: TraceRequest
    target: Path
    checkpoints: tuple[_Checkpoint, ...]
    progress: Progress

    def measure(self, note: TraceNote) -> None:
        """Scan the steps that are not finished yet, one after another."""
        by_step = {each.step: each for each in self.checkpoints}
        for place, step in enumerate(note.steps, 1):
            self.progress.stage(f"step {step.step} ({place} of {len(note.steps)})")
            if step.twin:
                note = self._measure_twin(note, step)
            else:
                note = self._measure_step(note, step, by_step[step.step])
            gc.collect()  # modules may hold each other

    def _register(self, note: TraceNote, checkpoint: _Checkpoint) -> TraceNote:
        """Note, before anything of it is downloaded, whether a revision is downloaded by us."""
        commit = checkpoint.commit
        known = commit is None or commit in note.downloaded
        if not known and commit not in cached_commits(checkpoint.model):
            note = replace(note, downloaded=(*note.downloaded, str(commit)))
            note.save(self.target)
        return note

    def _config(self, step: StepNote, checkpoint: _Checkpoint) -> ScanConfig:
        return replace(
            self.request.config,
            model=checkpoint.model,
            revision=checkpoint.commit,
            out=self.target / step.run,
        )

    def _measure_step(self, note: TraceNote, step: StepNote, checkpoint: _Checkpoint) -> TraceNote:
        """Scan one checkpoint, unless it is finished. Returns the note with what happened."""
        config = self._config(step, checkpoint)
        path = self.target / step.run
        if (path / MANIFEST).is_file():
            self._check_finished(Run.load(path), config)
            return note
        note = self._register(note, checkpoint)
        with self._interrupts():
            run_scan(self._attempt(config, path), self.progress, _ALONE)
        if warning := self._underflow(step, config):
            self.progress.warn(warning)
            note = replace(note, warnings=(*note.warnings, warning))
            note.save(self.target)
        if self.request.drop and checkpoint.commit in note.downloaded:
            remove_commit(checkpoint.model, str(checkpoint.commit))
        return note

    def _attempt(self, config: ScanConfig, path: Path) -> ScanAttempt:
        """A new scan, or the one that was interrupted in this step."""
        if ScanCheckpoint(path).load_note() is None:
            return ScanAttempt(config)
        return load_attempt(path, _ALONE, config.trust_remote_code)

    def _check_finished(self, run: Run, config: ScanConfig) -> None:
        """Raise HeadprobeError where a finished step was measured on another checkpoint."""
        known = run.manifest.model
        if config.revision is not None:
            is_same = known.revision == config.revision
        else:
            source = checkpoint_source(config)
            is_same = hash_model(source, load_config(source)) == known.weights_sha256
        if not is_same:
            raise HeadprobeError(
                str(run.path),
                "was measured on a checkpoint that has changed since",
                "Remove this folder to measure it again, or trace to another folder: -o DIR",
            )

    def _underflow(self, step: StepNote, config: ScanConfig) -> str | None:
        """A warning where the checkpoint has weights that half precision cannot hold."""
        source = checkpoint_source(config)
        model_config = load_config(source)
        dtype, _ = choose_dtype(config.dtype, model_config, choose_device(config.device))
        share = underflowing_share(source, model_config, dtype)
        if share is None or share <= SHARE:
            return None
        return (
            f"step {step.step}: {fraction(share)} of the weights are too small for float16, so "
            "this is not the checkpoint as it was trained; its roles may be wrong"
        )

    def _measure_twin(self, note: TraceNote, step: StepNote) -> TraceNote:
        """Scan random weights of the same shape, unless that is finished."""
        path, first = self.target / step.run, self.checkpoints[0]
        if (path / MANIFEST).is_file():
            return note
        note = self._register(note, first)
        source = checkpoint_source(self._config(step, first))
        with self._interrupts():
            twin = self._twin(source, self.request.config)
            config = replace(self.request.config, out=path, device="auto", dtype="auto")
            # what was measured of a model in memory is not resumed, but replaced
            run_scan(ScanAttempt(replace(config, overwrite=True), twin), self.progress, _ALONE)
        return note

    def _twin(self, source: CheckpointSource, config: ScanConfig) -> InMemoryModel:
        """Random weights in place of a checkpoint, as a model in memory."""
        model_config = load_config(source)
        device = choose_device(config.device)
        dtype, _ = choose_dtype(config.dtype, model_config, device)
        model = build_twin(source, model_config, device, dtype, config.seed)
        model.name_or_path = TWIN_NAME
        return InMemoryModel(model, load_encoder(source).tokenizer)

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Name the command that resumes the trace where a step is interrupted."""
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "finished steps are saved. Resume with the same command and "
                f"-o {self.target} --resume"
            ) from None


OWN = (TRACE, ONSETS, STEPS, NOTE)
"""The files of a trace, besides the run folders of its steps."""
