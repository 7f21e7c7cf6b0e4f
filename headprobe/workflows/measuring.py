"""A loaded model and an aligned corpus to sums: one pass for each passage."""

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from headprobe.align.batches import Batcher
from headprobe.align.corpus import Corpus
from headprobe.align.flat import Block, lay_flat, plan_chunks
from headprobe.axes import LONGEST
from headprobe.errors import HeadprobeError
from headprobe.model.forward import observe_flat
from headprobe.model.heads import HeadGrid
from headprobe.store.tallies import Tallies
from headprobe.tally.copying import CopyingObserver, repeat_tokens
from headprobe.tally.tallier import Tallier, count_column_passages, count_profile_pairs
from headprobe.workflows.abreast import Abreast, Planned
from headprobe.workflows.journal import Page
from headprobe.workflows.ledger import Ledger
from headprobe.workflows.limits import BatchLimits, WorkingSet, measured_within
from headprobe.workflows.work import Work

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
