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
from headprobe.config import Share
from headprobe.errors import HeadprobeError
from headprobe.measure.collector import Tallier, count_column_passages, count_profile_pairs
from headprobe.measure.copying import CopyingObserver, repeat_tokens
from headprobe.measure.memory import BatchLimits, WorkingSet, measured_within
from headprobe.measure.scheduler import Abreast, Planned
from headprobe.measure.statistics import totals
from headprobe.model.forward import observe_flat
from headprobe.model.heads import HeadGrid
from headprobe.runs.checkpoint import Page
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import LAGS, LONGEST


class Ledger:
    """``passages`` [P] and ``sequences`` (of repeated random tokens) that passed, the ``bits`` of
    the scored ones, and by reference the totals of all statistics. ``limits`` of the chunks belong
    to it: with these the rest falls into the same chunks, so that sums come out equal bit by bit.
    """

    def __init__(self, passages: int, limits: Mapping[str, int], summed: Sequence[object]) -> None:
        self.passages = np.zeros(passages, dtype=np.bool_)
        self.sequences = np.zeros(len(LAGS), dtype=np.bool_)
        self.bits = 0.0
        self.limits = dict(limits)
        self._totals = {name: total for each in summed for name, total in totals(each).items()}

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
class Work:
    """Numbers of the passages whose text is scored, of the others, and of the sequences of repeated
    random tokens (``vocabulary.LAGS``). It is one of ``parts`` of the
    run, and the one that ``counts`` what is counted without the model."""

    scored: NDArray[np.int64]
    others: NDArray[np.int64]
    copied: NDArray[np.int64]
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
    def of(cls, corpus: Corpus, seed: int) -> Self:
        """All that a run does."""
        scored = _choose_scored(corpus.lengths, seed).astype(np.int64)
        passages = np.arange(len(corpus.lengths))
        return cls(scored, np.setdiff1d(passages, scored), np.arange(len(LAGS)))

    def share(self, corpus: Corpus, shares: Sequence[Share]) -> "Work":
        """The share of a share ... of it; it does not depend on how much memory there is, so that
        machines of different size can share a run."""
        work = self
        for share in shares:
            work = Work(
                share.take(work.scored, corpus.lengths[work.scored]),
                share.take(work.others, corpus.lengths[work.others]),
                share.take(work.copied, np.array(LAGS)[work.copied]),
                work.parts * share.count,
                work.counts and share.index == 0,
            )
        return work


def _choose_scored(lengths: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A seeded few of the passages, ascending."""
    order = np.random.default_rng(seed).permutation(len(lengths))[:SCORED_PASSAGES]
    before = np.cumsum(lengths[order]) - lengths[order]
    room = max(SCORED_TOKENS, lengths.sum() * SCORED_SHARE)
    return np.sort(order[before < room])


FEW = 32
"""Of so many chunks or fewer for each worker, all have as many."""


@dataclass(frozen=True)
class Measured:
    """The sums, and the distinct token ids that ``column_token`` counts."""

    tallies: Tallies
    token_numbers: NDArray[np.int32]


def measure(
    grid: HeadGrid,
    corpus: Corpus,
    *,
    seed: int,
    idle_line: float,
    advance: Callable[[int], None],
    memory: int | None = None,
    limits: BatchLimits | None = None,
    warn: Callable[[str], None] = lambda _: None,
    work: Work | None = None,
    page: Page | None = None,
) -> Measured:
    """Run every passage through the model once, then repeated random tokens; add everything up.

    Chunks keep within ``memory`` bytes over the weights (by default a share of what is free), or
    within ``limits`` where these are given, and get smaller where memory runs out all the same.
    With ``work`` only its part: the sums of all parts add to those of the run. What ``page`` has
    kept of an earlier attempt is gone on from, and it is shown what there is whenever sums are of
    whole chunks.
    HeadprobeError where there is too little memory, and where the model's numbers overflow: one
    such passage would spoil every sum.
    """
    todo = work or Work.of(corpus, seed)
    measuring = _Measuring(grid, corpus, seed, idle_line, advance, todo, page)
    if page is not None and (kept := page.kept()) is not None:
        limits = BatchLimits(**Ledger.limits_of(kept))
        del kept
    working = measuring.working
    return measured_within(working, limits or working.limits(memory), measuring.attempt, warn)


@dataclass
class _Measuring:
    """What the attempts at a measurement share; each begins with what ``page`` has kept, else with
    nothing, so that no sum of a chunk that was not ended counts."""

    grid: HeadGrid
    corpus: Corpus
    seed: int
    idle_line: float
    advance: Callable[[int], None]
    work: Work
    page: Page | None
    batcher: Batcher = field(init=False)
    working: WorkingSet = field(init=False)
    done: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.corpus, self.grid.device, self.grid.n_kv_heads)
        self.working = WorkingSet(self.grid, self.corpus, self._new_tallier().held)

    def attempt(self, limits: BatchLimits) -> Measured:
        """Measure what is left in chunks within ``limits``."""
        grid, corpus, work = self.grid, self.corpus, self.work
        tallier, copying = self._new_tallier(), CopyingObserver(grid, corpus.starts)
        ledger = Ledger(len(corpus.lengths), asdict(limits), (*tallier.statistics, copying))
        if self.page is not None and (kept := self.page.kept()) is not None:
            ledger.restore(kept)
            ledger.limits = asdict(limits)
            del kept
        self._advance(ledger)

        # what was kept may be of a machine that held all weights
        even = self._even(limits if grid.keeps_nothing else replace(limits, workers=1))
        planned = [
            Planned(blocks, logits)
            for passages, logits in ((work.scored, limits.logits), (work.others, None))
            for blocks in self._plan(ledger.left(passages), even)
        ]
        with Abreast(grid, self.batcher, tallier, even.workers) as abreast:
            for _ in abreast.run(planned, partial(self._passed, ledger)):
                self._show(ledger)
        start = corpus.token_ids[: corpus.starts]
        sequences = repeat_tokens(start, self.batcher.token_numbers, grid.context, self.seed)
        lengths = np.array([len(tokens) for tokens in sequences])
        left = work.copied[(lengths[work.copied] > 0) & ~ledger.sequences[work.copied]]
        for blocks in _plan(left, lengths, lengths, grid.n_heads, limits):
            copying.begin(blocks)
            observe_flat(grid, lay_flat(dict(enumerate(sequences)), blocks, grid.device), copying)
            ledger.sequences[_passages_of(blocks)] = True
        if self.page is not None:
            self.page.close(ledger)
        return Measured(self._finished(tallier, copying, ledger.bits), self.batcher.token_numbers)

    def _new_tallier(self) -> Tallier:
        return Tallier(
            self.grid,
            self.corpus.instances,
            len(self.batcher.token_numbers),
            self.corpus.starts,
            seed=self.seed,
            idle_line=self.idle_line,
        )

    def _plan(self, passages: NDArray[np.int64], limits: BatchLimits) -> list[list[Block]]:
        return _plan(passages, self.corpus.lengths, self.working.sizes, self.grid.n_heads, limits)

    def _even(self, limits: BatchLimits) -> BatchLimits:
        """With the smallest chunks that are no more, or as many more as let all workers have the
        same number: some would have nothing to do in the end. Of many chunks it would be little.
        Where there are fewer all the same, so are the workers, who share the threads."""

        def count(tokens: int) -> int:
            smaller = replace(limits, tokens=tokens)
            return sum(
                len(self._plan(part, smaller)) for part in (self.work.scored, self.work.others)
            )

        chunks, workers, tokens = count(limits.tokens), limits.workers, limits.tokens
        if workers > 1 and chunks <= FEW * workers:
            most = math.ceil(chunks / workers) * workers
            tokens = bisect_left(range(tokens), -most, key=lambda tokens: -count(tokens))
            workers = max(1, min(workers, count(tokens)))
        return replace(limits, tokens=tokens, workers=workers)

    def _passed(self, ledger: Ledger, chunk: Planned, bits: float) -> None:
        ledger.passages[_passages_of(chunk.blocks)] = True
        ledger.bits += bits
        self._advance(ledger)

    def _advance(self, ledger: Ledger) -> None:
        before, self.done = self.done, int(ledger.passages.sum())
        self.advance(self.done - before)

    def _show(self, ledger: Ledger) -> None:
        if self.page is not None:
            self.page.show(ledger)

    def _finished(self, tallier: Tallier, copying: CopyingObserver, bits: float) -> Tallies:
        """All sums, with what is counted without the model."""
        corpus, found, distinct = self.corpus, self.corpus.instances, self.batcher.token_numbers
        beside = {
            "profile_pairs": count_profile_pairs(found, LONGEST),
            "rows": np.array(found.usable.sum(), dtype=np.int64),
            **count_column_passages(self.batcher.token_columns(), corpus.starts, len(distinct)),
        }
        if not self.work.counts:
            beside = {name: np.zeros_like(counts) for name, counts in beside.items()}
        tallies = tallier.tallies(
            {
                **beside,
                "bits": np.array(bits),
                "characters": corpus.characters[self.work.scored].sum(),
                **{name: sums.cpu().numpy() for name, sums in copying.sums().items()},
            }
        )
        spoiled = [name for name, sums in tallies.arrays.items() if not np.isfinite(sums).all()]
        if spoiled:
            raise HeadprobeError(
                str(self.grid.model.dtype).removeprefix("torch."),
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
