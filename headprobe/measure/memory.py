"""How much is held at once: the memory that measuring takes, and chunks that keep within it."""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from headprobe.batching.corpus import Corpus
from headprobe.errors import HeadprobeError
from headprobe.measure.similarity import PROJECTED
from headprobe.model.devices import free_memory
from headprobe.model.heads import HeadGrid

MIB = 2**20

CHUNK = 24 * MIB
"""On a CPU a thread's chunk takes about so much by default: larger ones are no faster, ..."""

LEAST_TOKENS = 512
"""... but it has so many tokens: smaller ones leave too little to each operation."""

ACCELERATED = 0.5
"""The part of an accelerator's free memory that is taken by default, ..."""

SHARED = 0.25
"""... and of the host's at most."""

SCORE = 48
"""Bytes for an attention weight of a rectangle: itself, and what statistics make of it, ..."""

SWEPT = 16
"""... and on a CPU, where they are made in one sweep of each head."""

LOGIT = 12
"""Bytes for a logit: itself, its logarithm, and what a model does to it."""

PAIR = 40
"""Bytes for a pair of words: its indices by kind, and what is sorted on the way to them; on a CPU,
where nothing is sorted, ..."""

PAIR_SWEPT = 16
"""... its kinds, and what they are worked out from."""

TOLD = 24
"""Bytes of what each head says of a token that wait until the last layer has attended."""

MOST_ABREAST = 8
"""More threads than these share operations: they would wait for the interpreter."""

LIBRARIES = 32 * MIB
"""What libraries keep for themselves, once operations of all kinds have run."""

SCATTERED = Fraction(6, 5)
"""What chunks hold that pass abreast lies between one another: they take so many times as much."""

LEAST_ROWS = 16
"""Blocks of fewer rows are too slow to be of use, ..."""

ENOUGH_ROWS = 64
"""... and of so many quick enough, however long the rows."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchLimits:
    """A chunk holds at most so many tokens (but always one passage), and where text is scored so
    many logits at a time; a block of it so many attention weights of one layer. So many ``workers``
    have a chunk at once."""

    tokens: int
    scores: int
    logits: int = 1 << 21
    workers: int = 1

    @classmethod
    def of(cls, device: torch.device) -> "BatchLimits":
        """Small enough for a CPU's caches, large enough to fill an accelerator."""
        if device.type == "cpu":
            return cls(tokens=1024, scores=1 << 20)
        return cls(tokens=32768, scores=1 << 27, logits=1 << 26)


class WorkingSet:
    """What measuring takes over the loaded weights, in bytes, as far as shapes tell.

    ``token`` for every token of a chunk; ``sizes`` [P] what each passage counts in it, in tokens:
    more than it has where its word pairs or its sampled rows, which wait for the last layer, weigh
    more. What is ``held`` all the time, the ``sums`` first of all, does not grow with passages.
    """

    def __init__(self, grid: HeadGrid, corpus: Corpus, sums: int) -> None:
        found, heads = corpus.instances, grid.n_heads
        self.held, self.token = sums + LIBRARIES, _token_bytes(grid)
        swept = grid.device.type == "cpu"
        self._score, pair = (SWEPT, PAIR_SWEPT) if swept else (SCORE, PAIR)
        abreast = swept and grid.keeps_nothing
        self._workers = min(torch.get_num_threads(), MOST_ABREAST) if abreast else 1
        words = np.diff(found.passage_first)
        sampled = np.bincount(found.passage[found.sampled_words], minlength=len(words))
        kept = sampled * (words / 2 + PROJECTED + 1) * 4
        beside = words**2 / 2 * pair + kept * heads * len(grid.layers)
        lengths = corpus.lengths
        self.sizes: NDArray[np.int64] = lengths + np.ceil(beside / self.token).astype(np.int64)
        self._longest = int(self.sizes.max()) * self.token
        self._row = int(lengths.max()) * heads * self._score
        most = BatchLimits.of(grid.device)
        tokens = min(most.tokens, max(LEAST_TOKENS, CHUNK // self.token)) if swept else most.tokens
        self._most = replace(
            most,
            tokens=max(tokens, int(self.sizes.max())),
            scores=max(most.scores, ENOUGH_ROWS * self._row // self._score),
        )
        self._devices = grid.devices

    @property
    def least(self) -> int:
        """The smallest memory in which the longest passage can be measured."""
        return self.held + self._longest + LEAST_ROWS * self._row

    @property
    def _enough(self) -> int:
        """What a worker takes over what is held, where there is no need to be sparing."""
        most = self._most
        return max(most.tokens * self.token, self._longest) + most.scores * self._score

    @property
    def default(self) -> int:
        """Enough to be fast, little enough to leave the machine to others."""
        home, *others = self._devices
        free = min([free_memory(home), *(free_memory(each) + self.held for each in others)])
        if home.type == "cuda":
            wanted = int(free * ACCELERATED)
        else:
            wanted = self.held + _taken(self._workers, self._enough)
            wanted = min(wanted, int(free * SHARED))
        wanted = max(self.least, wanted)
        if wanted > free:
            raise _too_little(f"{_told(free)} of free memory", self)
        return wanted

    def limits(self, memory: int | None) -> BatchLimits:
        """Chunks that keep within so many bytes; HeadprobeError where that is too little."""
        if memory is not None and memory < self.least:
            raise _too_little(f"--memory {_told(memory)}", self)
        room = (self.default if memory is None else memory) - self.held
        logits = min(self._most.logits, room // 4 // LOGIT)
        workers = min(int(room / SCATTERED // self._enough), self._workers)
        if workers > 1:
            room = int(room / SCATTERED / workers)
        for_scores = min(
            self._most.scores * self._score,
            max(room // 3, LEAST_ROWS * self._row),
            room - self._longest,
        )
        return BatchLimits(
            tokens=int(min(self._most.tokens, (room - for_scores) // self.token)),
            scores=for_scores // self._score,
            logits=logits,
            workers=max(workers, 1),
        )

    def halved(self, limits: BatchLimits) -> BatchLimits:
        """What is left of these limits when the memory was not there."""
        of_chunk = limits.tokens * self.token + limits.scores * self._score
        taken = _taken(limits.workers, of_chunk)
        least = self.least - self.held
        if taken <= least:
            raise _too_little("out of memory", self)
        return self.limits(self.held + max(taken // 2, least))


def _taken(workers: int, of_chunk: int) -> int:
    """Bytes of as many chunks at once."""
    return of_chunk if workers == 1 else math.ceil(SCATTERED * workers * of_chunk)


def measured_within(
    working: WorkingSet,
    limits: BatchLimits,
    attempt: Callable[[BatchLimits], Result],
    warn: Callable[[str], None],
) -> Result:
    """What ``attempt`` gives; with half the limits as often as it runs out of memory, which is said
    once. An attempt must not count what one before it left unfinished."""
    told = False
    while True:
        try:
            return attempt(limits)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
        # only here the traceback, which holds the attempt's tensors, is gone
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        limits = working.halved(limits)
        if not told:
            warn(
                "out of memory: going on with chunks of half the size (--memory SIZE sets it "
                "from the start)"
            )
            told = True


def ran_out(error: BaseException) -> bool:
    """Whether this is how a device, or the host, says that its memory is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _token_bytes(grid: HeadGrid) -> int:
    """The larger of what a token takes in the feed-forward part of a layer, and while it attends
    and its heads' outputs are looked at in float32; and what is told of it until the end."""
    config, item = grid.model.config.get_text_config(), grid.model.dtype.itemsize
    wide = getattr(config, "moe_intermediate_size", None) or config.intermediate_size
    experts = getattr(config, "num_experts_per_tok", None) or 1
    outputs = grid.n_heads * grid.head_dim
    feeding = item * 4 * (config.hidden_size + wide * experts)
    attending = item * 4 * (config.hidden_size + outputs) + 4 * 4 * outputs
    return int(max(feeding, attending)) + TOLD * grid.n_heads * len(grid.layers)


def _too_little(where: str, working: WorkingSet) -> HeadprobeError:
    return HeadprobeError(
        where,
        f"measuring takes at least {_told(working.least)} over the weights, for sums and for the "
        "longest passage",
        "Give it that much with --memory, or have shorter passages with --budget",
    )


def _told(size: int) -> str:
    return f"{-(-size // MIB)}MiB" if size >= MIB else f"{size}B"
