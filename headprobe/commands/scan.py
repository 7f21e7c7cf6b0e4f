"""``headprobe scan``: from a checkpoint and probes to a run folder."""

import gc
from collections.abc import Collection, Mapping
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
from headprobe.commands.distributed import SingleProcess
from headprobe.commands.fingerprint import WEIGHTS, early_terms, fingerprint_of
from headprobe.commands.judging import ControlSums, RunSums, write_run, write_shard
from headprobe.commands.prepare import PreparedScan, prepare_scan
from headprobe.commands.provenance import describe_model, draft_manifest
from headprobe.commands.resume import ScanAttempt, check_not_interrupted, run_target
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.format import relation_words
from headprobe.measure.loop import Measurement
from headprobe.model.heads import ObservedModel, observe_model
from headprobe.model.load import open_model, quiet_libraries
from headprobe.model.quantization import describe_quantization
from headprobe.model.twin import build_twin
from headprobe.progress import Progress
from headprobe.results.views import Plan
from headprobe.roles.rules import Rules, load_rules
from headprobe.runs.checkpoint import CheckpointWriter, Clock, ScanCheckpoint, first_difference
from headprobe.runs.folder import Run, check_target
from headprobe.runs.manifest import Manifest, ModelNote, WorkNote
from headprobe.runs.shards import Shard


def scan(config: ScanConfig, progress: Progress) -> Run:
    """Measure every head, judge it, and write the run folder; HeadprobeError for what a user can
    mend, in which case nothing half-written is left behind."""
    return Run.load(run_scan(ScanAttempt(config), progress, SingleProcess()))


def run_scan(attempt: ScanAttempt, progress: Progress, group: SingleProcess) -> Path:
    """``scan``, or a shard of it, from the beginning or from where it stopped, alone or as one of
    several ranks. Returns the folder, which the first rank writes."""
    progress, config, clock = group.wrap_progress(progress), attempt.config, Clock(attempt.seconds)
    rules = load_rules(config.rules)
    target = Path(group.broadcast(str(run_target(config))))
    if group.index == 0:
        check_target(target, config.overwrite)
        if not attempt.resumed:
            check_not_interrupted(target, config.overwrite)
    if attempt.resumed:
        progress.stage(f"resuming the scan of {config.source.name}")
        _check_resumed(attempt, target, early_terms(config, rules))
    with clock("read"):
        prepared = prepare_scan(config, rules, progress, group.partition)
    checkpoint = ScanCheckpoint(target, group.index, group.count)
    writer = CheckpointWriter(checkpoint, progress.warn, resumed=attempt.resumed > 0)
    running = _RunningScan(attempt, target, rules, prepared, writer, group, progress, clock)
    try:
        model, measured, controls = running.measure()
        if group.index == 0:
            running.write(model, measured, controls)
        group.barrier()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*filter(None, [writer.resume_hint()])) from None
    except BaseException:
        if remedy := writer.resume_hint():
            progress.warn(remedy)
        raise
    checkpoint.remove()
    return target


def _check_resumed(
    attempt: ScanAttempt,
    target: Path,
    terms: Mapping[str, str],
    besides: Collection[str] | None = None,
) -> None:
    """HeadprobeError where a scan that is resumed began with other ``fingerprint``: compared are
    those of the same names, or all ``besides`` some."""
    began = {
        name: text
        for name, text in attempt.fingerprint.items()
        if (name in terms if besides is None else name not in besides)
    }
    if differs := first_difference(began, terms):
        raise HeadprobeError(
            str(target),
            f"differs from what was begun in {differs}",
            "Start again with --overwrite, or go back to what it was",
        )


@dataclass(frozen=True)
class _RunningScan:
    """A scan at work: what it is given, and what it tells."""

    attempt: ScanAttempt
    target: Path
    rules: Rules
    prepared: PreparedScan
    writer: CheckpointWriter
    group: SingleProcess
    progress: Progress
    clock: Clock

    @cached_property
    def fingerprint(self) -> Mapping[str, str]:
        """What the sums depend on, but for the weights."""
        return fingerprint_of(self.prepared, self.rules, self.attempt.config)

    def measure(self) -> tuple[ModelNote, Measurement, tuple[ControlSums, ...]]:
        """One pass of the checkpoint over the passages, and those of the controls that are asked
        for. The twin is built when the checkpoint is gone: never are both in memory."""
        prepared, config = self.prepared, self.attempt.config
        if self.attempt.resumed:
            early = early_terms(config, self.rules)
            others = {name: text for name, text in self.fingerprint.items() if name not in early}
            _check_resumed(self.attempt, self.target, others, {WEIGHTS, *early})
        if self.group.count > 1:
            self._compare_processes(self.fingerprint)
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

    def _measure_checkpoint(
        self, setup: MeasurementSetup
    ) -> tuple[ModelNote, Measurement, tuple[ControlSums, ...]]:
        with ExitStack() as opened:
            return self._measure_opened(setup, opened)

    def _measure_opened(
        self, setup: MeasurementSetup, opened: ExitStack
    ) -> tuple[ModelNote, Measurement, tuple[ControlSums, ...]]:
        """``opened`` gives a model in memory back when it is closed."""
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
        """The weights are there: are they what they were, and the same everywhere? What is kept
        from now on tells of them."""
        weights = {WEIGHTS: model.weights_sha256}
        if self.attempt.resumed:
            _check_resumed(self.attempt, self.target, weights)
        self._compare_processes(weights)
        config = self.attempt.config
        pinned = replace(config, out=config.out or self.target, revision=model.revision)
        attempt = replace(self.attempt, config=pinned)
        terms = {**early_terms(pinned, self.rules), **self.fingerprint, **weights}
        self.writer.begin(lambda: attempt.values(terms, self.clock.seconds))

    def _compare_processes(self, fingerprint: Mapping[str, str]) -> None:
        """HeadprobeError where the ranks have not the same."""
        first, *others = self.group.gather(fingerprint)
        for rank, theirs in enumerate(others, 1):
            if differs := first_difference(first, theirs):
                raise HeadprobeError(
                    f"rank {rank}", f"differs from rank 0 in {differs}", "Give all ranks the same"
                )

    def write(
        self, model: ModelNote, measured: Measurement, controls: tuple[ControlSums, ...]
    ) -> None:
        """The run folder, or that of the shard."""
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
            {**self.fingerprint, WEIGHTS: model.weights_sha256},
            {control.name: control.key for control in controls},
            prepared.probes.skipped,
            draft(),
        )
        write_shard(shard, config.overwrite, sums, self.rules)


def plan(config: ScanConfig, progress: Progress) -> Plan:
    """What ``scan`` would do: everything up to loading the weights."""
    rules = load_rules(config.rules)
    target = run_target(config)
    check_target(target, config.overwrite)
    check_not_interrupted(target, overwrite=False)
    prepared = prepare_scan(config, rules, progress)
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
        passages=prepared.pass_plan.passages,
        tokens=prepared.pass_plan.tokens(probes.corpus),
        skipped=sum(skip.count for skip in probes.skipped),
        controls=tuple(name for name, asked in controls if asked),
        quantization=describe_quantization(prepared.config),
        adapter=prepared.source.adapter,
        relations=tuple(
            (
                relation_words(relation.family, relation.name, relation.looks_to),
                len(instances.of(number)),
            )
            for number, relation in enumerate(instances.relations)
        ),
    )
