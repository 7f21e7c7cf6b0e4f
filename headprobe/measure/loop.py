"""Measure a loaded model on an aligned corpus: one forward pass per passage gives all sums.

1. ``PassPlan`` selects the passages of this process: few whose text is also scored (bits per
   byte), and the others.
2. The passages are packed into chunks that fit the memory limits (``batching.layout``).
3. ``ChunkScheduler`` runs the chunks through the model, several at a time on a CPU. During each
   pass the ``StatisticsCollector`` adds every layer's attention and head outputs to its sums.
4. Repeated random tokens are run through the model for the copying statistics.
5. ``MeasurementState`` is saved now and then (``CheckpointWriter``), always between whole chunks.
6. The sums are moved to the host, completed with counts that need no model, and checked.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from headprobe.batching.batches import Batcher
from headprobe.batching.corpus import Corpus
from headprobe.batching.layout import Block, pack_passages, plan_chunks
from headprobe.config import Partition
from headprobe.errors import HeadprobeError
from headprobe.measure.collector import (
    StatisticsCollector,
    count_column_passages,
    count_profile_pairs,
)
from headprobe.measure.copying import CopyingObserver, repeat_tokens
from headprobe.measure.embedding import embedding_hits
from headprobe.measure.memory import BatchLimits, WorkingSet, retry_with_less_memory
from headprobe.measure.scheduler import ChunkScheduler, PlannedChunk
from headprobe.measure.statistics import state_tensors
from headprobe.model.devices import input_device
from headprobe.model.forward import observe_packed
from headprobe.model.heads import ObservedModel
from headprobe.runs.checkpoint import CheckpointPart
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import LAGS, MAX_DISTANCE


class MeasurementState:
    """The progress of a measurement, as it is saved for ``--resume``.

    It has flags of the ``passages`` [P] and of the ``sequences`` of repeated random tokens that are
    done, the ``bits`` of the scored passages, references to the sums of all statistics, and the
    ``limits`` of the chunks. With equal limits the remaining passages form the same chunks, so a
    resumed measurement gives bitwise equal sums. ``share`` is not saved: the share of the passages
    that were left at the start of this attempt and are done now.
    """

    def __init__(self, passages: int, limits: Mapping[str, int], summed: Sequence[object]) -> None:
        self.passages = np.zeros(passages, dtype=np.bool_)
        self.sequences = np.zeros(len(LAGS), dtype=np.bool_)
        self.bits = 0.0
        self.share = 0.0
        self.limits = dict(limits)
        self._totals = {
            name: total for each in summed for name, total in state_tensors(each).items()
        }

    @staticmethod
    def limits_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
        """Return the chunk limits stored in ``arrays``; KeyError, TypeError or ValueError if they
        are none."""
        limits: dict[str, int] = json.loads(str(arrays["limits"]))
        if not isinstance(limits, dict) or limits.keys() != {
            each.name for each in fields(BatchLimits)
        }:
            raise ValueError("it has no limits of chunks")
        for name, value in limits.items():
            if type(value) is not int or not 1 <= value < 1 << 62:
                raise ValueError(f"its limit of {name} is not a positive number")
        return limits

    @property
    def nbytes(self) -> int:
        """Size of the sums in bytes."""
        return sum(total.numel() * total.element_size() for total in self._totals.values())

    def left(self, passages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the passages that are not done."""
        return passages[~self.passages[passages]]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the whole state as host arrays."""
        return {
            "passages": self.passages,
            "sequences": self.sequences,
            "bits": np.array(self.bits),
            "limits": np.array(json.dumps(self.limits)),
            **{name: total.cpu().numpy() for name, total in self._totals.items()},
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore a state that ``arrays`` returned.

        Raises ValueError or KeyError if it is damaged or belongs to another measurement; nothing is
        restored then.
        """
        limits = self.limits_of(arrays)
        for name, own in self.arrays().items():
            saved = arrays[name]
            if name == "limits":
                continue
            if saved.shape != own.shape or saved.dtype != own.dtype:
                raise ValueError(f"{name} has another shape or dtype")
            if saved.dtype.kind == "f" and not np.isfinite(saved).all():
                raise ValueError(f"{name} holds NaN or infinity")
        self.passages, self.sequences = arrays["passages"].copy(), arrays["sequences"].copy()
        self.bits, self.limits = float(arrays["bits"]), limits
        for name, total in self._totals.items():
            total.copy_(torch.from_numpy(arrays[name]))


SCORED_PASSAGES = 32
"""Maximum number of passages whose text is scored (bits per byte)."""

SCORED_SHARE = 1 / 32
"""Maximum share of the run's tokens that are scored: the output layer of a large vocabulary costs
as much as many layers."""

SCORED_TOKENS = 128
"""Number of tokens that may be scored whatever their share."""


@dataclass(frozen=True)
class PassPlan:
    """The passes of one process: the whole run, or one part of it."""

    scored: NDArray[np.int64]
    """Numbers of the passages whose text is scored."""
    others: NDArray[np.int64]
    """Numbers of the other passages."""
    twins: NDArray[np.int64]
    """Numbers of the twins of passages, which share no chunk with other passages."""
    copy_sequences: NDArray[np.int64]
    """Numbers of the sequences of repeated random tokens (``vocabulary.LAGS``)."""
    parts: int = 1
    """Number of parts that the run was divided into."""
    counts: bool = True
    """Whether this part includes the counts that need no model. Exactly one part does."""

    @property
    def passages(self) -> int:
        """Number of passages."""
        return len(self.scored) + len(self.others) + len(self.twins)

    def tokens(self, corpus: Corpus) -> int:
        """Number of tokens in the passages."""
        return sum(int(corpus.lengths[each].sum()) for each in self.groups)

    @property
    def groups(self) -> tuple[NDArray[np.int64], ...]:
        """The passages in groups that share no chunk."""
        return self.scored, self.others, self.twins

    @classmethod
    def whole_run(cls, corpus: Corpus, seed: int) -> Self:
        """Return the passes of a whole run."""
        count = corpus.instances.text_passages
        scored = _choose_scored(corpus.lengths[:count], seed).astype(np.int64)
        others = np.setdiff1d(np.arange(count), scored)
        twins = np.arange(count, len(corpus.lengths))
        return cls(scored, others, twins, np.arange(len(LAGS)))

    def partition(self, corpus: Corpus, partitions: Sequence[Partition]) -> "PassPlan":
        """Return the share that results from applying the partitions one after another.

        It does not depend on the available memory, so machines of different size can share a run.
        """
        pass_plan = self
        for partition in partitions:
            scored, others, twins = (
                partition.select(group, corpus.lengths[group]) for group in pass_plan.groups
            )
            sequences = pass_plan.copy_sequences
            pass_plan = PassPlan(
                scored,
                others,
                twins,
                partition.select(sequences, np.array(LAGS)[sequences]),
                pass_plan.parts * partition.count,
                pass_plan.counts and partition.index == 0,
            )
        return pass_plan


def _choose_scored(lengths: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return a seeded sample of the passages to score, ascending."""
    order = np.random.default_rng(seed).permutation(len(lengths))[:SCORED_PASSAGES]
    before = np.cumsum(lengths[order]) - lengths[order]
    room = max(SCORED_TOKENS, lengths.sum() * SCORED_SHARE)
    return np.sort(order[before < room])


MAX_EVENED_CHUNKS = 32
"""Up to this number of chunks per worker, chunks are evened out so that no worker idles at the end.
With more chunks the gain is small."""


@dataclass(frozen=True)
class Measurement:
    """The sums, and the distinct token ids [K] that index ``column_token``."""

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
    """Run every passage through the model once, then repeated random tokens, and add up statistics.

    Chunks use at most ``memory`` bytes beyond the weights (by default a share of the free memory),
    or fit ``limits`` where these are given. If memory runs out all the same, they are made smaller.
    With ``pass_plan`` only that part of the run is measured; the sums of all parts add up to those
    of the run. ``checkpoint`` provides the state of an earlier attempt and saves the new one.
    ``advance`` is called with the number of passages done since the last call.

    Raises HeadprobeError if there is too little memory, or if the model's numbers overflow: a
    single such passage would make every sum NaN.
    """
    todo = pass_plan or PassPlan.whole_run(corpus, seed)
    measuring = _Measurer(observed, corpus, seed, idle_line, advance, todo, checkpoint)
    if checkpoint is not None and (saved := checkpoint.saved_arrays()) is not None:
        with checkpoint.restoring():
            limits = BatchLimits(**MeasurementState.limits_of(saved))
        del saved
    working = measuring.working_set
    return retry_with_less_memory(
        working, limits or working.limits(memory), measuring.attempt, warn
    )


@dataclass
class _Measurer:
    """Makes attempts at a measurement, each with smaller chunks than the one before.

    Every attempt starts from the saved checkpoint, or from zero, so the sums never include a chunk
    that was interrupted.
    """

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
        """Measure the remaining passages in chunks that fit ``limits``."""
        observed, corpus, pass_plan = self.observed, self.corpus, self.pass_plan
        collector, copying = self._new_collector(), CopyingObserver(observed, corpus.starts)
        state = MeasurementState(
            len(corpus.lengths), asdict(limits), (*collector.statistics, copying)
        )
        if self.checkpoint is not None and (saved := self.checkpoint.saved_arrays()) is not None:
            with self.checkpoint.restoring():
                state.restore(saved)
            state.limits = asdict(limits)
            del saved
        self._advance(state)

        # The saved limits may come from a machine that held all weights. A model whose passes
        # change its state must run one pass at a time here.
        even = self._even(limits if observed.is_stateless else replace(limits, workers=1))
        left = [state.left(passages) for passages in pass_plan.groups]
        planned = [
            PlannedChunk(blocks, logits)
            for passages, logits in zip(left, (limits.logits, None, None), strict=True)
            for blocks in self._plan(passages, even)
        ]
        count = partial(self._count_chunk, state, 1 / max(1, sum(map(len, left))))
        with self._deferring_interrupts():
            with ChunkScheduler(observed, self.batcher, collector, even.workers) as scheduler:
                for _ in scheduler.run(planned, count, self._is_interrupted):
                    self._save_if_due(state)
            self._run_copies(state, copying, limits)
            if self.checkpoint is not None:
                self.checkpoint.save_final(state)
        return Measurement(
            self._finished(collector, copying, state.bits), self.batcher.distinct_tokens
        )

    def _run_copies(
        self, state: MeasurementState, copying: CopyingObserver, limits: BatchLimits
    ) -> None:
        """Run the sequences of repeated random tokens that are not done yet."""
        observed, corpus, pass_plan = self.observed, self.corpus, self.pass_plan
        start = corpus.token_ids[: corpus.starts]
        in_text = corpus.token_ids[: corpus.token_first[corpus.instances.text_passages]]
        sequences = repeat_tokens(start, np.unique(in_text), observed.context, self.seed)
        lengths = np.array([len(tokens) for tokens in sequences])
        left = pass_plan.copy_sequences[
            (lengths[pass_plan.copy_sequences] > 0) & ~state.sequences[pass_plan.copy_sequences]
        ]
        for blocks in _plan(left, lengths, lengths, observed.n_heads, limits):
            copying.begin(blocks)
            observe_packed(
                observed,
                pack_passages(dict(enumerate(sequences)), blocks, observed.device),
                copying,
            )
            state.sequences[_passages_of(blocks)] = True
            self._save_if_due(state)

    def _deferring_interrupts(self) -> AbstractContextManager[None]:
        """Between chunks the sums are consistent: there a signal saves them and ends the scan."""
        if self.checkpoint is None:
            return nullcontext()
        return self.checkpoint.deferring_interrupts()

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
        """Return limits with which all workers get the same number of chunks.

        The chunks become as small as possible without exceeding the next multiple of the number of
        workers. If there are fewer chunks than workers, the number of workers is reduced, so that
        each has more threads.
        """

        def count(tokens: int) -> int:
            smaller = replace(limits, tokens=tokens)
            return sum(len(self._plan(part, smaller)) for part in self.pass_plan.groups)

        chunks, workers, tokens = count(limits.tokens), limits.workers, limits.tokens
        if workers > 1 and chunks <= MAX_EVENED_CHUNKS * workers:
            most = math.ceil(chunks / workers) * workers
            tokens = bisect_left(range(tokens), -most, key=lambda tokens: -count(tokens))
            workers = max(1, min(workers, count(tokens)))
        return replace(limits, tokens=tokens, workers=workers)

    def _count_chunk(
        self, state: MeasurementState, passage_share: float, chunk: PlannedChunk, bits: float
    ) -> None:
        passages = _passages_of(chunk.blocks)
        state.passages[passages] = True
        state.bits += bits
        state.share += passage_share * len(passages)
        self._advance(state)

    def _advance(self, state: MeasurementState) -> None:
        before, self.done = self.done, int(state.passages.sum())
        self.advance(self.done - before)

    def _is_interrupted(self) -> bool:
        return self.checkpoint is not None and self.checkpoint.is_interrupted()

    def _save_if_due(self, state: MeasurementState) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save_if_due(state)

    def _finished(
        self, collector: StatisticsCollector, copying: CopyingObserver, bits: float
    ) -> Tallies:
        """Return all sums and counts as host arrays; HeadprobeError if any is not finite."""
        corpus, instances, distinct = (
            self.corpus,
            self.corpus.instances,
            self.batcher.distinct_tokens,
        )
        token_columns = self.batcher.token_columns()[: instances.text_passages]
        host_counts: dict[str, NDArray[Any]] = {
            "profile_pairs": count_profile_pairs(instances, MAX_DISTANCE),
            "rows": np.array((instances.usable & instances.in_text).sum(), dtype=np.int64),
            **count_column_passages(token_columns, corpus.starts, len(distinct)),
            "embedding_hits": embedding_hits(
                self.observed.model.get_input_embeddings(),
                corpus,
                input_device(self.observed.model),
            ),
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
        not_finite = [name for name, sums in tallies.arrays.items() if not np.isfinite(sums).all()]
        if not_finite:
            raise HeadprobeError(
                str(self.observed.model.dtype).removeprefix("torch."),
                f"the model's numbers overflow on these probes ({not_finite[0]} is not a number)",
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
