"""A loaded model and an aligned corpus to sums: one pass for each passage."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headprobe.align.batches import Batcher
from headprobe.align.corpus import Corpus
from headprobe.align.flat import Block, lay_flat, plan_chunks
from headprobe.axes import LONGEST
from headprobe.errors import HeadprobeError
from headprobe.model.forward import observe_flat, run_chunks
from headprobe.model.heads import HeadGrid
from headprobe.store.tallies import Tallies
from headprobe.tally.copying import CopyingObserver, repeat_tokens
from headprobe.tally.tallier import Tallier, count_column_passages, count_profile_pairs
from headprobe.workflows.journal import Page
from headprobe.workflows.ledger import Ledger
from headprobe.workflows.work import Work


@dataclass(frozen=True)
class Measured:
    """The sums, and the distinct token ids that ``column_token`` counts."""

    tallies: Tallies
    token_numbers: NDArray[np.int32]


@dataclass(frozen=True)
class BatchLimits:
    """A chunk holds at most so many tokens (but always one passage), and where text is scored so
    many logits; a block of it so many attention weights of one layer."""

    tokens: int
    scores: int
    logits: int = 1 << 22

    @classmethod
    def of(cls, device: torch.device) -> "BatchLimits":
        """Small enough for a CPU's caches, large enough to fill an accelerator."""
        if device.type == "cpu":
            return cls(tokens=2048, scores=1 << 20)
        return cls(tokens=32768, scores=1 << 27, logits=1 << 28)


def measure(
    grid: HeadGrid,
    corpus: Corpus,
    *,
    seed: int,
    idle_line: float,
    limits: BatchLimits,
    advance: Callable[[int], None],
    work: Work | None = None,
    page: Page | None = None,
) -> Measured:
    """Run every passage through the model once, then repeated random tokens; add everything up.

    With ``work`` only its part: the sums of all parts add to those of the run. What ``page`` has
    kept of an earlier attempt is gone on from, and it is shown what there is after
    every chunk. HeadprobeError where the model's numbers overflow: one such passage would spoil
    every sum.
    """
    found = corpus.instances
    batcher = Batcher(corpus, grid.device)
    tallier = Tallier(
        grid,
        found,
        len(batcher.token_numbers),
        corpus.starts,
        seed=seed,
        idle_line=idle_line,
    )
    work = work or Work.of(corpus, seed)
    copying = CopyingObserver(grid, corpus.starts)
    ledger = Ledger(len(corpus.lengths), asdict(limits), (*tallier.statistics, copying))
    if page is not None and (kept := page.take()) is not None:
        ledger.restore(kept)
        limits = BatchLimits(**ledger.limits)
        advance(int(ledger.passages.sum()))

    def chunks(
        numbers: NDArray[np.int64], lengths: NDArray[np.integer], tokens: int
    ) -> list[list[Block]]:
        return plan_chunks(
            numbers, lengths[numbers], grid.n_heads, tokens=tokens, scores=limits.scores
        )

    def done(passages: NDArray[np.int64]) -> None:
        ledger.passages[passages] = True
        advance(len(passages))
        if page is not None:
            page.show(ledger)

    vocabulary = grid.model.config.get_text_config().vocab_size
    few = min(limits.tokens, limits.logits // vocabulary)
    for blocks in chunks(ledger.left(work.scored), corpus.lengths, few):
        ledger.bits += run_chunks(grid, batcher, [blocks], tallier, lambda _: None, score=True)
        done(np.unique(np.concatenate([block.passages for block in blocks])))
    run_chunks(
        grid,
        batcher,
        chunks(ledger.left(work.others), corpus.lengths, limits.tokens),
        tallier,
        lambda chunk: done(chunk.passages),
    )
    start = corpus.token_ids[: corpus.starts]
    sequences = repeat_tokens(start, batcher.token_numbers, grid.context, seed)
    lengths = np.array([len(tokens) for tokens in sequences])
    asked = work.copied[(lengths[work.copied] > 0) & ~ledger.sequences[work.copied]]
    for blocks in chunks(asked, lengths, limits.tokens):
        copying.begin(blocks)
        observe_flat(grid, lay_flat(dict(enumerate(sequences)), blocks, grid.device), copying)
        ledger.sequences[np.concatenate([block.passages for block in blocks])] = True
    if page is not None:
        page.close(ledger)
    beside = {
        "profile_pairs": count_profile_pairs(found, LONGEST),
        "rows": np.array(found.usable.sum(), dtype=np.int64),
        **count_column_passages(batcher.token_columns(), corpus.starts, len(batcher.token_numbers)),
    }
    if not work.counts:
        beside = {name: np.zeros_like(counts) for name, counts in beside.items()}
    tallies = tallier.tallies(
        {
            **beside,
            "bits": np.array(ledger.bits),
            "characters": corpus.characters[work.scored].sum(),
            **{name: sums.cpu().numpy() for name, sums in copying.sums().items()},
        }
    )
    spoiled = [name for name, sums in tallies.arrays.items() if not np.isfinite(sums).all()]
    if spoiled:
        raise HeadprobeError(
            str(grid.model.dtype).removeprefix("torch."),
            f"the model's numbers overflow on these probes ({spoiled[0]} is not a number)",
            "Try --dtype float32",
        )
    return Measured(tallies, batcher.token_numbers)
