"""``headprobe scan``: from a checkpoint and probes to a run folder."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from headprobe.align.encoder import Encoder
from headprobe.errors import HeadprobeError
from headprobe.model.checkpoint import (
    Source,
    choose_device,
    choose_dtype,
    load_config,
    load_encoder,
    load_model,
    quietly,
)
from headprobe.model.heads import HeadGrid, observe_heads
from headprobe.model.twin import build_twin
from headprobe.probes.catalog import resolve
from headprobe.report.plan_view import Plan
from headprobe.report.progress import Progress
from headprobe.report.run_files import write_manifest, write_sums
from headprobe.store.manifest import ModelNote
from headprobe.store.run_folder import CONTROL_SUMS, Run, check_target, default_target, new_run
from headprobe.verdicts.rules import Rules, load_rules
from headprobe.verdicts.wording import asked_words
from headprobe.workflows.controls import Setting, describe_configuration, shuffled_of, twin_of
from headprobe.workflows.judging import (
    Control,
    doubt_of_text,
    doubts_of_roles,
    judge_sums,
    write_controls,
    write_judged,
)
from headprobe.workflows.measuring import Measured
from headprobe.workflows.provenance import describe_model, describe_run
from headprobe.workflows.reading import Reading, read_corpus


@dataclass(frozen=True)
class ScanRequest:
    """What is asked of a scan. ``budget``: tokens of a passage, the smaller of 512 and the model's
    context by default; ``out``: the run folder, named by model and time by default; ``rules``: a
    file of rules that differ from the packaged ones; ``twin``, ``shuffle``: the controls."""

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
    rules: Path | None = None
    twin: bool = False
    shuffle: bool = False


def scan(request: ScanRequest, progress: Progress) -> Run:
    """Measure every head, judge it, and write the run folder; HeadprobeError for what a user can
    mend, in which case nothing is left behind."""
    started, clock = datetime.now(UTC), _Clock()
    rules = load_rules(request.rules)
    source = _source(request)
    target = request.out or default_target(source.name, datetime.now())
    check_target(target, request.overwrite)
    found = _read(request, source, progress, clock)
    reading, instances = found.reading, found.reading.corpus.instances
    for doubt in doubts_of_roles(instances.relations, rules):
        progress.warn(doubt)

    sums = _measure(request, source, found, rules, target.absolute().parent, progress, clock)
    if unknown := doubt_of_text(sums.measured.bits_per_character, rules):
        progress.warn(unknown)

    with clock("judge"):
        progress.stage("judging")
        kv_heads = sums.model.n_kv_heads[0]
        judged = judge_sums(instances, sums.measured.tallies, kv_heads, rules)

    with new_run(target, request.overwrite) as folder:
        write_sums(folder, instances, sums.measured.tallies)
        for control in sums.controls:
            control.tallies.save(folder / CONTROL_SUMS[control.name])
        write_judged(folder, judged, reading.skipped, sums.model.n_kv_heads, rules)
        manifest = describe_run(
            sums.model,
            found.encoder,
            reading,
            sums.measured,
            rules,
            controls=write_controls(folder, sums.controls, kv_heads, rules),
            used=int(judged.evidence.n.sum()),
            seed=request.seed,
            started=started,
            seconds=clock.seconds,
        )
        write_manifest(folder, manifest)
    return Run.load(target)


def plan(request: ScanRequest, progress: Progress) -> Plan:
    """What ``scan`` would do: everything up to loading the weights."""
    rules = load_rules(request.rules)
    source = _source(request)
    target = request.out or default_target(source.name, datetime.now())
    check_target(target, request.overwrite)
    found = _read(request, source, progress, _Clock())
    text, reading = found.config.get_text_config(), found.reading
    instances, heads = reading.corpus.instances, text.num_attention_heads
    for doubt in doubts_of_roles(instances.relations, rules):
        progress.warn(doubt)
    controls = (("random twin", request.twin), ("shuffled links", request.shuffle))
    return Plan(
        model=source.name,
        architecture=(found.config.architectures or [found.config.model_type])[0],
        n_layers=text.num_hidden_layers,
        n_heads=heads,
        n_kv_heads=(getattr(text, "num_key_value_heads", None) or heads,) * text.num_hidden_layers,
        device=str(found.device),
        dtype=str(found.dtype).removeprefix("torch."),
        target=target,
        probes=reading.probes,
        passages=len(reading.corpus.lengths),
        tokens=int(reading.corpus.lengths.sum()),
        skipped=sum(skip.count for skip in reading.skipped),
        controls=tuple(name for name, asked in controls if asked),
        relations=tuple(
            (
                asked_words(relation.family, relation.name, relation.looks_to),
                len(instances.of(number)),
            )
            for number, relation in enumerate(instances.relations)
        ),
    )


class _Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.seconds[stage] = round(spent, 3)


@dataclass(frozen=True)
class _Found:
    """What a scan works with, before the weights are there."""

    config: Any
    encoder: Encoder
    device: torch.device
    dtype: torch.dtype
    reading: Reading


def _source(request: ScanRequest) -> Source:
    if request.model is None:
        return Source.demo()
    return Source(request.model, request.revision, request.trust_remote_code)


def _read(request: ScanRequest, source: Source, progress: Progress, clock: _Clock) -> _Found:
    """Everything that can be known without the weights: what is wrong there is said first."""
    with clock("read"):
        files = resolve(request.probes)
        if not files:
            raise HeadprobeError(
                "scan", "no probe sets are bundled yet", "Name probes: -p FILE-OR-FOLDER"
            )
        progress.stage("reading the model's configuration")
        config = load_config(source)
        device = choose_device(request.device)
        dtype = choose_dtype(request.dtype, config, device)
        encoder = load_encoder(source)
        reading = read_corpus(
            files,
            encoder,
            context=getattr(config.get_text_config(), "max_position_embeddings", None),
            budget=request.budget,
            max_passages=request.max_passages,
            seed=request.seed,
            progress=progress,
        )
    return _Found(config, encoder, device, dtype, reading)


@dataclass(frozen=True)
class _Sums:
    """What remains when the models are gone."""

    model: ModelNote
    measured: Measured
    controls: tuple[Control, ...]


def _measure(
    request: ScanRequest,
    source: Source,
    found: _Found,
    rules: Rules,
    runs: Path,
    progress: Progress,
    clock: _Clock,
) -> _Sums:
    """One pass of the checkpoint over the passages, and those of the controls that are asked for.
    The twin is built when the checkpoint is gone: never are both in memory."""
    setting = Setting(
        found.reading.corpus,
        describe_configuration(found.config),
        found.device,
        found.dtype,
        request.seed,
        rules.idle.output_norm,
    )
    passages = len(setting.corpus.lengths)
    proof = _proof_text(found.reading, found.device)

    def of_checkpoint() -> tuple[ModelNote, Measured, tuple[Control, ...]]:
        with clock("load"):
            progress.stage("loading the model")
            model = load_model(source, found.config, found.device, found.dtype, progress.warn)
            with quietly():
                grid = observe_heads(model, source.name, proof)
            note = describe_model(source, grid)
        with clock("measure"), quietly():
            progress.stage("measuring", passages, "passages")
            measured = setting.measure(grid, progress.advance)
        if not request.shuffle:
            return note, measured, ()
        with clock("controls"), quietly():
            progress.stage("measuring with shuffled links", passages, "passages")
            weights = note.weights_sha256
            return note, measured, (shuffled_of(setting, runs, weights, grid, progress.advance),)

    def twin() -> HeadGrid:
        model = build_twin(source, found.config, found.device, found.dtype, request.seed)
        return observe_heads(model, source.name, proof)

    note, measured, controls = of_checkpoint()
    gc.collect()  # modules may hold each other
    if request.twin:
        with clock("controls"), quietly():
            progress.stage("measuring the random twin", passages, "passages")
            controls = (twin_of(setting, runs, twin, progress.advance), *controls)
    return _Sums(note, measured, controls)


def _proof_text(reading: Reading, device: torch.device) -> torch.Tensor:
    """[T]: the start of the first passage, on which the capture is proved."""
    end = min(int(reading.corpus.token_first[1]), 64)
    return torch.from_numpy(reading.corpus.token_ids[:end]).long().to(device)
