"""``headprobe scan``: from a checkpoint and probes to a run folder."""

import gc
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from headprobe.commands.controls import Setting, describe_configuration, shuffled_of, twin_of
from headprobe.commands.distributed import Alone
from headprobe.commands.fingerprint import WEIGHTS, early_terms, terms_of
from headprobe.commands.judging import Control, Sums, write_run, write_shard
from headprobe.commands.prepare import Found, look
from headprobe.commands.provenance import describe_model, draft_manifest
from headprobe.commands.resume import Attempt, check_unfinished, run_target
from headprobe.config import ScanRequest
from headprobe.errors import HeadprobeError
from headprobe.format import relation_words
from headprobe.measure.loop import Measured
from headprobe.model.heads import HeadGrid, observe_heads
from headprobe.model.load import open_model, quietly
from headprobe.model.quantization import describe_quantization
from headprobe.model.twin import build_twin
from headprobe.progress import Progress
from headprobe.results.views import Plan
from headprobe.roles.rules import Rules, load_rules
from headprobe.runs.checkpoint import Clock, Journal, Unfinished, difference
from headprobe.runs.folder import Run, check_target
from headprobe.runs.manifest import Manifest, ModelNote, WorkNote
from headprobe.runs.shards import Shard


def scan(request: ScanRequest, progress: Progress) -> Run:
    """Measure every head, judge it, and write the run folder; HeadprobeError for what a user can
    mend, in which case nothing half-written is left behind."""
    return Run.load(go_on(Attempt(request), progress, Alone()))


def go_on(attempt: Attempt, progress: Progress, ranks: Alone) -> Path:
    """``scan``, or a shard of it, from the beginning or from where it stopped, alone or as one of
    several ranks. Returns the folder, which the first rank writes."""
    progress, request, clock = ranks.hear(progress), attempt.request, Clock(attempt.seconds)
    rules = load_rules(request.rules)
    target = Path(ranks.of_first(str(run_target(request))))
    if ranks.index == 0:
        check_target(target, request.overwrite)
        if not attempt.resumed:
            check_unfinished(target, request.overwrite)
    if attempt.resumed:
        progress.stage(f"resuming the scan of {request.source.name}")
        _check_resumed(attempt, target, early_terms(request, rules))
    with clock("read"):
        found = look(request, rules, progress, ranks.share)
    kept = Unfinished(target, ranks.index, ranks.count)
    journal = Journal(kept, progress.warn, resumed=attempt.resumed > 0)
    work = _Scan(attempt, target, rules, found, journal, ranks, progress, clock)
    try:
        model, measured, controls = work.measure()
        if ranks.index == 0:
            work.write(model, measured, controls)
        ranks.meet()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*filter(None, [journal.remedy()])) from None
    except BaseException:
        if remedy := journal.remedy():
            progress.warn(remedy)
        raise
    kept.remove()
    return target


def _check_resumed(
    attempt: Attempt, target: Path, terms: Mapping[str, str], besides: Collection[str] | None = None
) -> None:
    """HeadprobeError where a scan that is resumed began with other ``terms``: compared are those of
    the same names, or all ``besides`` some."""
    began = {
        name: text
        for name, text in attempt.terms.items()
        if (name in terms if besides is None else name not in besides)
    }
    if differs := difference(began, terms):
        raise HeadprobeError(
            str(target),
            f"differs from what was begun in {differs}",
            "Start again with --overwrite, or go back to what it was",
        )


@dataclass(frozen=True)
class _Scan:
    """A scan at work: what it is given, and what it tells."""

    attempt: Attempt
    target: Path
    rules: Rules
    found: Found
    journal: Journal
    ranks: Alone
    progress: Progress
    clock: Clock

    @cached_property
    def terms(self) -> Mapping[str, str]:
        """What the sums depend on, but for the weights."""
        return terms_of(self.found, self.rules, self.attempt.request)

    def measure(self) -> tuple[ModelNote, Measured, tuple[Control, ...]]:
        """One pass of the checkpoint over the passages, and those of the controls that are asked
        for. The twin is built when the checkpoint is gone: never are both in memory."""
        found, request = self.found, self.attempt.request
        if self.attempt.resumed:
            early = early_terms(request, self.rules)
            others = {name: text for name, text in self.terms.items() if name not in early}
            _check_resumed(self.attempt, self.target, others, {WEIGHTS, *early})
        if self.ranks.count > 1:
            self._compare(self.terms)
        setting = Setting(
            found.reading.corpus,
            describe_configuration(found.config),
            found.device,
            found.dtype,
            request.seed,
            self.rules.idle.output_norm,
            request.memory,
            self.progress.warn,
            found.work,
            self.journal,
            self.ranks,
        )
        note, measured, controls = self._measure_checkpoint(setting)
        gc.collect()  # modules may hold each other
        if request.twin:
            with self.clock("controls"), quietly():
                self._stage("measuring the random twin")
                runs = self.target.absolute().parent
                twin = twin_of(setting, runs, self._build_twin, self.progress.advance)
            controls = (twin, *controls)
        return note, measured, controls

    def _measure_checkpoint(
        self, setting: Setting
    ) -> tuple[ModelNote, Measured, tuple[Control, ...]]:
        with ExitStack() as opened:
            return self._measure_opened(setting, opened)

    def _measure_opened(
        self, setting: Setting, opened: ExitStack
    ) -> tuple[ModelNote, Measured, tuple[Control, ...]]:
        """``opened`` gives a model in memory back when it is closed."""
        found, request = self.found, self.attempt.request
        with self.clock("load"):
            self.progress.stage("loading the model")
            source = found.source
            model = opened.enter_context(
                open_model(
                    source,
                    found.config,
                    found.device,
                    found.dtype,
                    self.progress.warn,
                    spread=request.device == "auto",
                )
            )
            with quietly():
                grid = observe_heads(model, source.name, found.proof)
            note = describe_model(source, grid, found.dtype_reason)
        self._know(note)
        with self.clock("measure"), quietly():
            self._stage("measuring")
            measured = setting.measure(grid, self.progress.advance)
        if not request.shuffle:
            return note, measured, ()
        with self.clock("controls"), quietly():
            self._stage("measuring with shuffled links")
            runs, weights = self.target.absolute().parent, note.weights_sha256
            shuffled = shuffled_of(setting, runs, weights, grid, self.progress.advance)
        return note, measured, (shuffled,)

    def _build_twin(self) -> HeadGrid:
        found, request = self.found, self.attempt.request
        source = found.source
        spread = request.device == "auto"
        model = build_twin(
            source, found.config, found.device, found.dtype, request.seed, spread=spread
        )
        return observe_heads(model, source.name, found.proof)

    def _stage(self, name: str) -> None:
        self.progress.stage(name, self.found.work.passages, "passages")

    def _know(self, model: ModelNote) -> None:
        """The weights are there: are they what they were, and the same everywhere? What is kept
        from now on tells of them."""
        weights = {WEIGHTS: model.weights_sha256}
        if self.attempt.resumed:
            _check_resumed(self.attempt, self.target, weights)
        self._compare(weights)
        asked = self.attempt.request
        pinned = replace(asked, out=asked.out or self.target, revision=model.revision)
        attempt = replace(self.attempt, request=pinned)
        terms = {**early_terms(pinned, self.rules), **self.terms, **weights}
        self.journal.begin(lambda: attempt.values(terms, self.clock.seconds))

    def _compare(self, terms: Mapping[str, str]) -> None:
        """HeadprobeError where the ranks have not the same."""
        first, *others = self.ranks.gather(terms)
        for rank, theirs in enumerate(others, 1):
            if differs := difference(first, theirs):
                raise HeadprobeError(
                    f"rank {rank}", f"differs from rank 0 in {differs}", "Give all ranks the same"
                )

    def write(self, model: ModelNote, measured: Measured, controls: tuple[Control, ...]) -> None:
        """The run folder, or that of the shard."""
        found, request = self.found, self.attempt.request

        def draft() -> Manifest:
            return draft_manifest(
                model,
                found.encoder,
                found.reading,
                self.rules,
                seed=request.seed,
                started=self.attempt.started,
                seconds=self.clock.seconds,
                work=WorkNote(ranks=self.ranks.count, resumed=self.attempt.resumed),
            )

        def token(number: int) -> str:
            return found.encoder.tokens([int(measured.token_numbers[number])])[0]

        sums = Sums(
            found.reading.corpus.instances,
            measured.tallies,
            controls,
            found.reading.skipped,
            model.n_kv_heads,
            token,
        )
        if request.shard is None:
            write_run(
                self.target,
                request.overwrite,
                sums,
                self.rules,
                draft,
                self.progress,
                self.clock,
            )
            return
        shard = Shard(
            self.target,
            request.shard.index,
            request.shard.count,
            {**self.terms, WEIGHTS: model.weights_sha256},
            {control.name: control.key for control in controls},
            found.reading.skipped,
            draft(),
        )
        write_shard(shard, request.overwrite, sums, self.rules)


def plan(request: ScanRequest, progress: Progress) -> Plan:
    """What ``scan`` would do: everything up to loading the weights."""
    rules = load_rules(request.rules)
    target = run_target(request)
    check_target(target, request.overwrite)
    check_unfinished(target, overwrite=False)
    found = look(request, rules, progress)
    text, reading = found.config.get_text_config(), found.reading
    instances, heads = reading.corpus.instances, text.num_attention_heads
    controls = (("random twin", request.twin), ("shuffled links", request.shuffle))
    return Plan(
        model=found.source.name,
        architecture=(found.config.architectures or [found.config.model_type])[0],
        n_layers=text.num_hidden_layers,
        n_heads=heads,
        n_kv_heads=(getattr(text, "num_key_value_heads", None) or heads,) * text.num_hidden_layers,
        device=str(found.device),
        dtype=str(found.dtype).removeprefix("torch."),
        dtype_reason=found.dtype_reason,
        target=target,
        probes=reading.probes,
        passages=found.work.passages,
        tokens=found.work.tokens(reading.corpus),
        skipped=sum(skip.count for skip in reading.skipped),
        controls=tuple(name for name, asked in controls if asked),
        quantization=describe_quantization(found.config),
        adapter=found.source.adapter,
        relations=tuple(
            (
                relation_words(relation.family, relation.name, relation.looks_to),
                len(instances.of(number)),
            )
            for number, relation in enumerate(instances.relations)
        ),
    )
