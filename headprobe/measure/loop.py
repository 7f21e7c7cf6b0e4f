"""A loaded model and an aligned corpus to sums: one pass for each passage.

How far a measurement is: what passed, and the sums so far as they stand on the device.

Which passes over the model a run, or a share of it, takes.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from headprobe.batching.batches import Batcher
from headprobe.batching.corpus import Corpus
from headprobe.batching.layout import Block, lay_flat, plan_chunks
from headprobe.config import Partition
from headprobe.errors import HeadprobeError
from headprobe.measure.collector import (
    StatisticsCollector,
    count_column_passages,
    count_profile_pairs,
)
from headprobe.measure.copying import CopyingObserver, repeat_tokens
from headprobe.measure.memory import BatchLimits, WorkingSet, retry_with_less_memory
from headprobe.measure.scheduler import ChunkScheduler, PlannedChunk
from headprobe.measure.statistics import state_tensors
from headprobe.model.forward import observe_flat
from headprobe.model.heads import ObservedModel
from headprobe.runs.checkpoint import CheckpointPart
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import LAGS, LONGEST


class MeasurementState:
    """``passages`` [P] and ``sequences`` (of repeated random tokens) that passed, the ``bits`` of
    the scored ones, and by reference the totals of all statistics. ``limits`` of the chunks belong
    to it: with these the rest falls into the same chunks, so that sums come out equal bit by bit.
    """

    def __init__(self, passages: int, limits: Mapping[str, int], summed: Sequence[object]) -> None:
        self.passages = np.zeros(passages, dtype=np.bool_)
        self.sequences = np.zeros(len(LAGS), dtype=np.bool_)
        self.bits = 0.0
        self.limits = dict(limits)
        self._totals = {
            name: total for each in summed for name, total in state_tensors(each).items()
        }

    @staticmethod
    def limits_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
        """The limits in what ``arrays`` gave before."""
        limits: dict[str, int] = json.loads(str(arrays["limits"]))
        return limits

    def left(self, passages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the passages that did not pass yet."""
        return passages[~self.passages[passages]]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, on the host."""
        return {
            "passages": self.passages,
            "sequences": self.sequences,
            "bits": np.array(self.bits),
            "limits": np.array(json.dumps(self.limits)),
            **{name: total.cpu().numpy() for name, total in self._totals.items()},
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what ``arrays`` gave before; ValueError or KeyError where it is of another run."""
        if arrays["passages"].shape != self.passages.shape:
            raise ValueError("another number of passages")
        self.passages, self.sequences = arrays["passages"].copy(), arrays["sequences"].copy()
        self.bits = float(arrays["bits"])
        self.limits = self.limits_of(arrays)
        for name, total in self._totals.items():
            kept = torch.from_numpy(arrays[name])
            if kept.shape != total.shape:
                raise ValueError(f"{name} has another shape")
            total.copy_(kept)


SCORED_PASSAGES = 32
"""Passages of the run whose text the output layer is asked about (bits per character), at most."""

SCORED_SHARE = 1 / 32
"""The part of the run's tokens that they may have: a large vocabulary costs as much as many layers
..."""

SCORED_TOKENS = 128
"""... but for so many."""


@dataclass(frozen=True)
class PassPlan:
    """Numbers of the passages whose text is scored, of the others, and of the sequences of repeated
    random tokens (``vocabulary.LAGS``). It is one of ``parts`` of the
    run, and the one that ``counts`` what is counted without the model."""

    scored: NDArray[np.int64]
    others: NDArray[np.int64]
    copy_sequences: NDArray[np.int64]
    parts: int = 1
    counts: bool = True

    @property
    def passages(self) -> int:
        """How many passages pass."""
        return len(self.scored) + len(self.others)

    def tokens(self, corpus: Corpus) -> int:
        """How many tokens they have."""
        return int(corpus.lengths[self.scored].sum() + corpus.lengths[self.others].sum())

    @classmethod
    def whole_run(cls, corpus: Corpus, seed: int) -> Self:
        """All that a run does."""
        scored = _choose_scored(corpus.lengths, seed).astype(np.int64)
        passages = np.arange(len(corpus.lengths))
        return cls(scored, np.setdiff1d(passages, scored), np.arange(len(LAGS)))

    def partition(self, corpus: Corpus, partitions: Sequence[Partition]) -> "PassPlan":
        """The share of a share ... of it; it does not depend on how much memory there is, so that
        machines of different size can share a run."""
        pass_plan = self
        for partition in partitions:
            pass_plan = PassPlan(
                partition.select(pass_plan.scored, corpus.lengths[pass_plan.scored]),
                partition.select(pass_plan.others, corpus.lengths[pass_plan.others]),
                partition.select(
                    pass_plan.copy_sequences, np.array(LAGS)[pass_plan.copy_sequences]
                ),
                pass_plan.parts * partition.count,
                pass_plan.counts and partition.index == 0,
            )
        return pass_plan


def _choose_scored(lengths: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A seeded few of the passages, ascending."""
    order = np.random.default_rng(seed).permutation(len(lengths))[:SCORED_PASSAGES]
    before = np.cumsum(lengths[order]) - lengths[order]
    room = max(SCORED_TOKENS, lengths.sum() * SCORED_SHARE)
    return np.sort(order[before < room])


FEW = 32
"""Of so many chunks or fewer for each worker, all have as many."""


@dataclass(frozen=True)
class Measurement:
    """The sums, and the distinct token ids that ``column_token`` counts."""

    tallies: Tallies
    distinct_tokens: NDArray[np.int32]


def measure(
    observed: ObservedModel,
    corpus: Corpus,
    *,
    seed: int,
    idle_line: float,
    advance: Callable[[int], None],
    memory: int | None = None,
    limits: BatchLimits | None = None,
    warn: Callable[[str], None] = lambda _: None,
    pass_plan: PassPlan | None = None,
    checkpoint: CheckpointPart | None = None,
) -> Measurement:
    """Run every passage through the model once, then repeated random tokens; add everything up.

    Chunks keep within ``memory`` bytes over the weights (by default a share of what is free), or
    within ``limits`` where these are given, and get smaller where memory runs out all the same.
    With ``pass_plan`` only its part: the sums of all parts add to those of the run. What
    ``checkpoint`` has kept of an earlier attempt is gone on from, and it is shown what there is
    whenever sums are of whole chunks.
    HeadprobeError where there is too little memory, and where the model's numbers overflow: one
    such passage would spoil every sum.
    """
    todo = pass_plan or PassPlan.whole_run(corpus, seed)
    measuring = _Measurer(observed, corpus, seed, idle_line, advance, todo, checkpoint)
    if checkpoint is not None and (saved := checkpoint.saved_arrays()) is not None:
        limits = BatchLimits(**MeasurementState.limits_of(saved))
        del saved
    working = measuring.working_set
    return retry_with_less_memory(
        working, limits or working.limits(memory), measuring.attempt, warn
    )


@dataclass
class _Measurer:
    """What the attempts at a measurement share; each begins with what ``checkpoint`` has kept, else
    with nothing, so that no sum of a chunk that was not ended counts."""

    observed: ObservedModel
    corpus: Corpus
    seed: int
    idle_line: float
    advance: Callable[[int], None]
    pass_plan: PassPlan
    checkpoint: CheckpointPart | None
    batcher: Batcher = field(init=False)
    working_set: WorkingSet = field(init=False)
    done: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.corpus, self.observed.device, self.observed.n_kv_heads)
        self.working_set = WorkingSet(self.observed, self.corpus, self._new_collector().held_bytes)

    def attempt(self, limits: BatchLimits) -> Measurement:
        """Measure what is left in chunks within ``limits``."""
        observed, corpus, pass_plan = self.observed, self.corpus, self.pass_plan
        collector, copying = self._new_collector(), CopyingObserver(observed, corpus.starts)
        state = MeasurementState(
            len(corpus.lengths), asdict(limits), (*collector.statistics, copying)
        )
        if self.checkpoint is not None and (saved := self.checkpoint.saved_arrays()) is not None:
            state.restore(saved)
            state.limits = asdict(limits)
            del saved
        self._advance(state)

        # what was kept may be of a machine that held all weights
        even = self._even(limits if observed.is_stateless else replace(limits, workers=1))
        planned = [
            PlannedChunk(blocks, logits)
            for passages, logits in ((pass_plan.scored, limits.logits), (pass_plan.others, None))
            for blocks in self._plan(state.left(passages), even)
        ]
        with ChunkScheduler(observed, self.batcher, collector, even.workers) as scheduler:
            for _ in scheduler.run(planned, partial(self._count_chunk, state)):
                self._save_if_due(state)
        start = corpus.token_ids[: corpus.starts]
        sequences = repeat_tokens(start, self.batcher.distinct_tokens, observed.context, self.seed)
        lengths = np.array([len(tokens) for tokens in sequences])
        left = pass_plan.copy_sequences[
            (lengths[pass_plan.copy_sequences] > 0) & ~state.sequences[pass_plan.copy_sequences]
        ]
        for blocks in _plan(left, lengths, lengths, observed.n_heads, limits):
            copying.begin(blocks)
            observe_flat(
                observed, lay_flat(dict(enumerate(sequences)), blocks, observed.device), copying
            )
            state.sequences[_passages_of(blocks)] = True
        if self.checkpoint is not None:
            self.checkpoint.save_final(state)
        return Measurement(
            self._finished(collector, copying, state.bits), self.batcher.distinct_tokens
        )

    def _new_collector(self) -> StatisticsCollector:
        return StatisticsCollector(
            self.observed,
            self.corpus.instances,
            len(self.batcher.distinct_tokens),
            self.corpus.starts,
            seed=self.seed,
            idle_line=self.idle_line,
        )

    def _plan(self, passages: NDArray[np.int64], limits: BatchLimits) -> list[list[Block]]:
        return _plan(
            passages, self.corpus.lengths, self.working_set.sizes, self.observed.n_heads, limits
        )

    def _even(self, limits: BatchLimits) -> BatchLimits:
        """With the smallest chunks that are no more, or as many more as let all workers have the
        same number: some would have nothing to do in the end. Of many chunks it would be little.
        Where there are fewer all the same, so are the workers, who share the threads."""

        def count(tokens: int) -> int:
            smaller = replace(limits, tokens=tokens)
            return sum(
                len(self._plan(part, smaller))
                for part in (self.pass_plan.scored, self.pass_plan.others)
            )

        chunks, workers, tokens = count(limits.tokens), limits.workers, limits.tokens
        if workers > 1 and chunks <= FEW * workers:
            most = math.ceil(chunks / workers) * workers
            tokens = bisect_left(range(tokens), -most, key=lambda tokens: -count(tokens))
            workers = max(1, min(workers, count(tokens)))
        return replace(limits, tokens=tokens, workers=workers)

    def _count_chunk(self, state: MeasurementState, chunk: PlannedChunk, bits: float) -> None:
        state.passages[_passages_of(chunk.blocks)] = True
        state.bits += bits
        self._advance(state)

    def _advance(self, state: MeasurementState) -> None:
        before, self.done = self.done, int(state.passages.sum())
        self.advance(self.done - before)

    def _save_if_due(self, state: MeasurementState) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save_if_due(state)

    def _finished(
        self, collector: StatisticsCollector, copying: CopyingObserver, bits: float
    ) -> Tallies:
        """All sums, with what is counted without the model."""
        corpus, instances, distinct = (
            self.corpus,
            self.corpus.instances,
            self.batcher.distinct_tokens,
        )
        host_counts = {
            "profile_pairs": count_profile_pairs(instances, LONGEST),
            "rows": np.array(instances.usable.sum(), dtype=np.int64),
            **count_column_passages(self.batcher.token_columns(), corpus.starts, len(distinct)),
        }
        if not self.pass_plan.counts:
            host_counts = {name: np.zeros_like(counts) for name, counts in host_counts.items()}
        tallies = collector.collect(
            {
                **host_counts,
                "bits": np.array(bits),
                "characters": corpus.characters[self.pass_plan.scored].sum(),
                **{name: sums.cpu().numpy() for name, sums in copying.sums().items()},
            }
        )
        spoiled = [name for name, sums in tallies.arrays.items() if not np.isfinite(sums).all()]
        if spoiled:
            raise HeadprobeError(
                str(self.observed.model.dtype).removeprefix("torch."),
                f"the model's numbers overflow on these probes ({spoiled[0]} is not a number)",
                "Try --dtype float32",
            )
        return tallies


def _plan(
    passages: NDArray[np.int64],
    lengths: NDArray[np.integer],
    sizes: NDArray[np.integer],
    heads: int,
    limits: BatchLimits,
) -> list[list[Block]]:
    return plan_chunks(
        passages,
        lengths[passages],
        heads,
        tokens=limits.tokens,
        scores=limits.scores,
        sizes=sizes[passages],
    )


def _passages_of(blocks: Sequence[Block]) -> NDArray[np.int64]:
    return np.concatenate([block.passages for block in blocks])
