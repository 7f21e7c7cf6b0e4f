"""``headprobe scan``: from a checkpoint and probes to a run folder."""

import gc
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from headprobe.commands.controls import (
    MeasurementSetup,
    config_text,
    measure_shuffled,
    measure_twin,
)
from headprobe.commands.distributed import ProcessGroup, SingleProcess
from headprobe.commands.estimate import estimate_scan
from headprobe.commands.fingerprint import WEIGHTS, early_fingerprint, scan_fingerprint
from headprobe.commands.judging import ControlSums, RunSums, write_run, write_shard
from headprobe.commands.prepare import PreparedScan, checkpoint_source, prepare_scan
from headprobe.commands.provenance import describe_model, draft_manifest
from headprobe.commands.resume import ScanAttempt, check_not_interrupted, run_target
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.format import relation_words
from headprobe.measure.loop import Measurement
from headprobe.model.heads import ObservedModel, observe_model
from headprobe.model.in_memory import InMemoryModel
from headprobe.model.load import open_model, quiet_libraries
from headprobe.model.quantization import describe_quantization
from headprobe.model.twin import build_twin
from headprobe.progress import Progress
from headprobe.results.views import Plan
from headprobe.roles.rules import Rules, load_rules
from headprobe.runs.checkpoint import CheckpointWriter, Clock, ScanCheckpoint
from headprobe.runs.files import CannotWriteError, check_space
from headprobe.runs.fingerprint import Fingerprint
from headprobe.runs.folder import Run, check_target
from headprobe.runs.manifest import Manifest, ModelNote, WorkNote
from headprobe.runs.shards import Shard
from headprobe.runs.sums import axis_sizes, least_bytes


def scan(config: ScanConfig, progress: Progress, in_memory: InMemoryModel | None = None) -> Run:
    """Measure every head, judge it and write the run folder.

    ``in_memory`` is measured in place of the checkpoint that ``config`` names. Raises
    HeadprobeError for errors that the user can correct; no partial files are left then.
    """
    return Run.load(run_scan(ScanAttempt(config, in_memory), progress, SingleProcess()))


def run_scan(attempt: ScanAttempt, progress: Progress, group: ProcessGroup) -> Path:
    """Run a scan, or one shard, from its start or from where it stopped.

    With several processes, each measures its share and the first one writes. Returns the folder.
    """
    progress, config, clock = group.wrap_progress(progress), attempt.config, Clock(attempt.seconds)
    rules, source = load_rules(config.rules), attempt.source
    target = Path(group.broadcast(str(run_target(config, source))))
    if group.index == 0:
        check_target(target, config.overwrite)
        if not attempt.resumed:
            check_not_interrupted(target, config.overwrite)
    if attempt.resumed:
        progress.stage(f"resuming the scan of {source.name}")
        early = early_fingerprint(config, source, rules)
        _check_unchanged(target, attempt.fingerprint.only(early.values), early)
    with clock("read"):
        prepared = prepare_scan(config, source, rules, progress, group.partition)
    checkpoint = ScanCheckpoint(target, group.index, group.count)
    writer = CheckpointWriter(checkpoint, progress.warn, resumed=attempt.resumed > 0)
    running = _RunningScan(attempt, target, rules, prepared, writer, group, progress, clock)
    try:
        model, measured, controls = running.measure()
        if group.index == 0:
            running.write(model, measured, controls)
        group.barrier()
    except CannotWriteError as error:
        writer.save_final()  # what was written of the run is removed, which makes room for it
        if writer.resume_hint() is None:
            raise
        then = f"Make room, then resume it: {checkpoint.command}"
        raise HeadprobeError(error.where, f"{error.what}; the sums are saved", then) from error
    except KeyboardInterrupt as interrupt:
        writer.save_final()
        interrupt.args = tuple(filter(None, [writer.resume_hint()]))
        raise
    except BaseException:
        if remedy := writer.resume_hint():
            progress.warn(remedy)
        raise
    checkpoint.remove()
    return target


def _check_unchanged(target: Path, start: Fingerprint, current: Fingerprint) -> None:
    """Raise HeadprobeError where a resumed scan differs from its ``start``."""
    if difference := start.first_difference(current):
        raise HeadprobeError(
            str(target),
            f"differs from the scan that was started in {difference}",
            "Start again with --overwrite, or restore what it was",
        )


@dataclass(frozen=True)
class _RunningScan:
    """A scan that is being measured."""

    attempt: ScanAttempt
    target: Path
    rules: Rules
    prepared: PreparedScan
    writer: CheckpointWriter
    group: ProcessGroup
    progress: Progress
    clock: Clock

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What the sums depend on besides the weights."""
        return scan_fingerprint(self.prepared, self.rules, self.attempt.config)

    def measure(self) -> tuple[ModelNote, Measurement, tuple[ControlSums, ...]]:
        """Measure the checkpoint and the requested controls.

        The twin is built after the checkpoint is freed, so that only one of them is in memory.
        """
        prepared, config = self.prepared, self.attempt.config
        if self.attempt.resumed:
            checked = self._early_fingerprint(config).values
            start = self.attempt.fingerprint.without({WEIGHTS, *checked})
            _check_unchanged(self.target, start, self.fingerprint.without(checked))
        if self.group.count > 1:
            self._compare_processes(self.fingerprint)
        check_space(self.target.absolute().parent, self._least_bytes())
        setup = MeasurementSetup(
            prepared.probes.corpus,
            config_text(prepared.config),
            prepared.device,
            prepared.dtype,
            config.seed,
            self.rules.idle.output_norm,
            config.memory,
            self.progress.warn,
            prepared.pass_plan,
            self.writer,
            self.group,
        )
        note, measured, controls = self._measure_checkpoint(setup)
        gc.collect()  # modules may hold each other
        if config.twin:
            with self.clock("controls"), quiet_libraries():
                self._stage("measuring the random twin")
                runs = self.target.absolute().parent
                twin = measure_twin(setup, runs, self._build_twin, self.progress.advance)
            controls = (twin, *controls)
        return note, measured, controls

    def _least_bytes(self) -> int:
        """The bytes that the run folder takes at least: a full disk is found early."""
        text = self.prepared.config.get_text_config()
        layers, heads = text.num_hidden_layers, text.num_attention_heads
        return least_bytes(axis_sizes(layers, heads, self.prepared.probes.corpus.instances))

    def _measure_checkpoint(
        self, setup: MeasurementSetup
    ) -> tuple[ModelNote, Measurement, tuple[ControlSums, ...]]:
        with ExitStack() as opened:
            return self._measure_opened(setup, opened)

    def _measure_opened(
        self, setup: MeasurementSetup, opened: ExitStack
    ) -> tuple[ModelNote, Measurement, tuple[ControlSums, ...]]:
        """Measure the checkpoint; closing ``opened`` restores a model in memory."""
        prepared, config = self.prepared, self.attempt.config
        with self.clock("load"):
            self.progress.stage("loading the model")
            source = prepared.source
            model = opened.enter_context(
                open_model(
                    source,
                    prepared.config,
                    prepared.device,
                    prepared.dtype,
                    self.progress.warn,
                    spread=config.device == "auto",
                )
            )
            with quiet_libraries():
                observed = observe_model(model, source.name, prepared.check_tokens)
            note = describe_model(source, observed, prepared.dtype_reason)
        self._pin_weights(note)
        with self.clock("measure"), quiet_libraries():
            self._stage("measuring")
            measured = setup.measure(observed, self.progress.advance)
        if not config.shuffle:
            return note, measured, ()
        with self.clock("controls"), quiet_libraries():
            self._stage("measuring with shuffled links")
            runs, weights = self.target.absolute().parent, note.weights_sha256
            shuffled = measure_shuffled(setup, runs, weights, observed, self.progress.advance)
        return note, measured, (shuffled,)

    def _build_twin(self) -> ObservedModel:
        prepared, config = self.prepared, self.attempt.config
        source = prepared.source
        spread = config.device == "auto"
        model = build_twin(
            source, prepared.config, prepared.device, prepared.dtype, config.seed, spread=spread
        )
        return observe_model(model, source.name, prepared.check_tokens)

    def _stage(self, name: str) -> None:
        self.progress.stage(name, self.prepared.pass_plan.passages, "passages")

    def _pin_weights(self, model: ModelNote) -> None:
        """Check that the weights are those of earlier attempts and of all processes.

        Checkpoints may be written from now on, since their fingerprint is complete.
        """
        weights = Fingerprint({WEIGHTS: model.weights_sha256})
        if self.attempt.resumed:
            _check_unchanged(self.target, self.attempt.fingerprint.only({WEIGHTS}), weights)
        self._compare_processes(weights)
        config = self.attempt.config
        pinned = replace(config, out=config.out or self.target, revision=model.revision)
        attempt = replace(self.attempt, config=pinned)
        fingerprint = self._early_fingerprint(pinned) | self.fingerprint | weights
        self.writer.begin(lambda: attempt.to_json(fingerprint, self.clock.seconds))

    def _early_fingerprint(self, config: ScanConfig) -> Fingerprint:
        source = checkpoint_source(config, self.attempt.in_memory)
        return early_fingerprint(config, source, self.rules)

    def _compare_processes(self, fingerprint: Fingerprint) -> None:
        """Raise HeadprobeError where another process has another fingerprint."""
        first, *others = map(Fingerprint, self.group.gather(dict(fingerprint.values)))
        for rank, other in enumerate(others, 1):
            if difference := first.first_difference(other):
                raise HeadprobeError(
                    f"rank {rank}",
                    f"differs from rank 0 in {difference}",
                    "Give all ranks the same",
                )

    def write(
        self, model: ModelNote, measured: Measurement, controls: tuple[ControlSums, ...]
    ) -> None:
        """Write the run folder, or the shard's folder."""
        prepared, config = self.prepared, self.attempt.config

        def draft() -> Manifest:
            return draft_manifest(
                model,
                prepared.encoder,
                prepared.probes,
                self.rules,
                seed=config.seed,
                started=self.attempt.started,
                seconds=self.clock.seconds,
                work=WorkNote(ranks=self.group.count, resumed=self.attempt.resumed),
            )

        def token(number: int) -> str:
            return prepared.encoder.tokens([int(measured.distinct_tokens[number])])[0]

        sums = RunSums(
            prepared.probes.corpus.instances,
            measured.tallies,
            controls,
            prepared.probes.skipped,
            model.n_kv_heads,
            token,
        )
        if config.shard is None:
            write_run(
                self.target,
                config.overwrite,
                sums,
                self.rules,
                draft,
                self.progress,
                self.clock,
            )
            return
        shard = Shard(
            self.target,
            config.shard.index,
            config.shard.count,
            {**self.fingerprint.values, WEIGHTS: model.weights_sha256},
            {control.name: control.key for control in controls},
            prepared.probes.skipped,
            draft(),
        )
        write_shard(shard, config.overwrite, sums, self.rules)


def plan(config: ScanConfig, progress: Progress) -> Plan:
    """Prepare a scan and return what it would measure and take; the weights are not loaded."""
    rules, source = load_rules(config.rules), checkpoint_source(config)
    target = run_target(config, source)
    check_target(target, config.overwrite)
    check_not_interrupted(target, overwrite=False)
    clock = Clock()
    with clock("read"):
        prepared = prepare_scan(config, source, rules, progress)
    progress.stage("timing a small model of this shape")
    estimate = estimate_scan(prepared, config, rules, clock.seconds["read"])
    text, probes = prepared.config.get_text_config(), prepared.probes
    instances, heads = probes.corpus.instances, text.num_attention_heads
    controls = (("random twin", config.twin), ("shuffled links", config.shuffle))
    return Plan(
        model=prepared.source.name,
        architecture=(prepared.config.architectures or [prepared.config.model_type])[0],
        n_layers=text.num_hidden_layers,
        n_heads=heads,
        n_kv_heads=(getattr(text, "num_key_value_heads", None) or heads,) * text.num_hidden_layers,
        device=str(prepared.device),
        dtype=str(prepared.dtype).removeprefix("torch."),
        dtype_reason=prepared.dtype_reason,
        target=target,
        probes=probes.files,
        passages=prepared.pass_plan.passages - len(prepared.pass_plan.twins),
        tokens=prepared.pass_plan.tokens(probes.corpus),
        skipped=sum(skip.count for skip in probes.skipped),
        controls=tuple(name for name, requested in controls if requested),
        quantization=describe_quantization(prepared.config),
        adapter=prepared.source.adapter,
        estimate=estimate,
        relations=tuple(
            (
                relation_words(relation.family, relation.name, relation.looks_to),
                len(instances.of(number)),
            )
            for number, relation in enumerate(instances.relations)
            if not relation.twin
        ),
    )
