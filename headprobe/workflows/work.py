"""Which passes over the model a run, or a share of it, takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from headprobe.align.corpus import Corpus
from headprobe.store.copying import LAGS
from headprobe.workflows.shares import Share

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
    random tokens (``store.copying.LAGS``). It is one of ``parts`` of the
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
