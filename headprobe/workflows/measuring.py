"""A loaded model and an aligned corpus to sums: one pass for each passage."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headprobe.align.batches import Batcher, Chunk
from headprobe.align.corpus import Corpus
from headprobe.align.flat import lay_flat, plan_chunks
from headprobe.axes import LONGEST
from headprobe.errors import HeadprobeError
from headprobe.model.forward import observe_flat, run_chunks
from headprobe.model.heads import HeadGrid
from headprobe.store.tallies import Tallies
from headprobe.tally.copying import CopyingObserver, repeat_tokens
from headprobe.tally.tallier import Tallier, count_column_passages, count_profile_pairs

SCORED_PASSAGES = 32
"""Passages of the run whose text the output layer is asked about (bits per character), at most."""

SCORED_SHARE = 1 / 32
"""The part of the run's tokens that they may have: a large vocabulary costs as much as many layers
..."""

SCORED_TOKENS = 128
"""... but for so many."""


@dataclass(frozen=True)
class Measured:
    """The sums, the distinct token ids that ``column_token`` counts, and the scored passages."""

    tallies: Tallies
    token_numbers: NDArray[np.int32]
    scored_passages: int

    @property
    def bits_per_character(self) -> float:
        """What the model needs for the scored passages' text."""
        return float(self.tallies["bits"]) / max(int(self.tallies["characters"]), 1)


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
            return cls(tokens=2048, scores=1 << 19)
        return cls(tokens=32768, scores=1 << 27, logits=1 << 28)


def measure(
    grid: HeadGrid,
    corpus: Corpus,
    *,
    seed: int,
    idle_line: float,
    limits: BatchLimits,
    advance: Callable[[int], None],
) -> Measured:
    """Run every passage through the model once, then repeated random tokens; add everything up.

    HeadprobeError where the model's numbers overflow: one such passage would spoil every sum.
    """
    found = corpus.instances
    batcher = Batcher(corpus, grid.device, grid.n_kv_heads)
    tallier = Tallier(
        grid,
        found,
        len(batcher.token_numbers),
        corpus.starts,
        seed=seed,
        idle_line=idle_line,
    )
    passages = np.arange(len(corpus.lengths))
    scored = _choose_scored(corpus.lengths, seed)

    def told(chunk: Chunk) -> None:
        advance(len(chunk.passages))

    bits = 0.0
    vocabulary = grid.model.config.get_text_config().vocab_size
    few = min(limits.tokens, limits.logits // vocabulary)
    for chosen, score, tokens in (
        (scored, True, few),
        (np.setdiff1d(passages, scored), False, limits.tokens),
    ):
        plan = plan_chunks(
            chosen, corpus.lengths[chosen], grid.n_heads, tokens=tokens, scores=limits.scores
        )
        bits += run_chunks(grid, batcher, plan, tallier, told, score=score)
    start = corpus.token_ids[: corpus.starts]
    sequences = repeat_tokens(start, batcher.token_numbers, grid.context, seed)
    beside = {
        "profile_pairs": count_profile_pairs(found, LONGEST),
        "rows": np.array(found.usable.sum(), dtype=np.int64),
        "bits": np.array(bits),
        "characters": corpus.characters[scored].sum(),
        **count_column_passages(batcher.token_columns(), corpus.starts, len(batcher.token_numbers)),
        **_copying(grid, sequences, corpus.starts, limits),
    }
    tallies = tallier.tallies(beside)
    spoiled = [name for name, sums in tallies.arrays.items() if not np.isfinite(sums).all()]
    if spoiled:
        raise HeadprobeError(
            str(grid.model.dtype).removeprefix("torch."),
            f"the model's numbers overflow on these probes ({spoiled[0]} is not a number)",
            "Try --dtype float32",
        )
    return Measured(tallies, batcher.token_numbers, len(scored))


def _copying(
    grid: HeadGrid, sequences: list[NDArray[np.int64]], starts: int, limits: BatchLimits
) -> dict[str, NDArray[np.generic]]:
    """What the heads do with repeated random tokens; empty sequences are left out."""
    observer = CopyingObserver(grid, starts)
    chosen = np.array([e for e, tokens in enumerate(sequences) if len(tokens)], dtype=np.int64)
    lengths = np.array([len(sequences[e]) for e in chosen], dtype=np.int64)
    for blocks in plan_chunks(
        chosen, lengths, grid.n_heads, tokens=limits.tokens, scores=limits.scores
    ):
        observer.begin(blocks)
        observe_flat(grid, lay_flat(dict(enumerate(sequences)), blocks, grid.device), observer)
    return {name: sums.cpu().numpy() for name, sums in observer.sums().items()}


def _choose_scored(lengths: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A seeded few of the passages, ascending."""
    order = np.random.default_rng(seed).permutation(len(lengths))[:SCORED_PASSAGES]
    before = np.cumsum(lengths[order]) - lengths[order]
    room = max(SCORED_TOKENS, lengths.sum() * SCORED_SHARE)
    return np.sort(order[before < room])
