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
from headprobe.measure.similarity import PROJECTION_SIZE
from headprobe.model.devices import free_memory
from headprobe.model.heads import ObservedModel
from headprobe.model.load_errors import is_out_of_memory

MIB = 2**20

CHUNK_BYTES = 24 * MIB
"""On a CPU a thread's chunk takes about so much by default: larger ones are no faster, ..."""

MIN_CHUNK_TOKENS = 512
"""... but it has so many tokens: smaller ones leave too little to each operation."""

ACCELERATOR_SHARE = 0.5
"""The part of an accelerator's free memory that is taken by default, ..."""

HOST_SHARE = 0.25
"""... and of the host's at most."""

SCORE_BYTES = 48
"""Bytes for an attention weight of a rectangle: itself, and what statistics make of it, ..."""

SCORE_BYTES_CPU = 16
"""... and on a CPU, where they are made in one sweep of each head."""

LOGIT_BYTES = 12
"""Bytes for a logit: itself, its logarithm, and what a model does to it."""

PAIR_BYTES = 40
"""Bytes for a pair of words: its indices by kind, and what is sorted on the way to them; on a CPU,
where nothing is sorted, ..."""

PAIR_BYTES_CPU = 16
"""... its kinds, and what they are worked out from."""

PENDING_BYTES = 24
"""Bytes of what each head says of a token that wait until the last layer has attended."""

MAX_WORKERS = 8
"""More threads than these share operations: they would wait for the interpreter."""

LIBRARY_BYTES = 32 * MIB
"""What libraries keep for themselves, once operations of all kinds have run."""

FRAGMENTATION = Fraction(6, 5)
"""What chunks hold that pass abreast lies between one another: they take so many times as much."""

MIN_BLOCK_ROWS = 16
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

    ``token_bytes`` for every token of a chunk; ``sizes`` [P] what each passage counts in it, in
    tokens: more than it has where its word pairs or its sampled rows, which wait for the last
    layer, weigh more. What is ``held_bytes`` all the time, the ``sums`` first of all, does not grow
    with passages.
    """

    def __init__(self, observed: ObservedModel, corpus: Corpus, sums: int) -> None:
        instances, heads = corpus.instances, observed.n_heads
        self.held_bytes, self.token_bytes = sums + LIBRARY_BYTES, _token_bytes(observed)
        swept = observed.device.type == "cpu"
        self._score, pair = (
            (SCORE_BYTES_CPU, PAIR_BYTES_CPU) if swept else (SCORE_BYTES, PAIR_BYTES)
        )
        abreast = swept and observed.is_stateless
        self._workers = min(torch.get_num_threads(), MAX_WORKERS) if abreast else 1
        words = np.diff(instances.passage_first)
        sampled = np.bincount(instances.passage[instances.sampled_words], minlength=len(words))
        kept = sampled * (words / 2 + PROJECTION_SIZE + 1) * 4
        beside = words**2 / 2 * pair + kept * heads * len(observed.layers)
        lengths = corpus.lengths
        self.sizes: NDArray[np.int64] = lengths + np.ceil(beside / self.token_bytes).astype(
            np.int64
        )
        self._longest = int(self.sizes.max()) * self.token_bytes
        self._row = int(lengths.max()) * heads * self._score
        most = BatchLimits.of(observed.device)
        tokens = (
            min(most.tokens, max(MIN_CHUNK_TOKENS, CHUNK_BYTES // self.token_bytes))
            if swept
            else most.tokens
        )
        self._most = replace(
            most,
            tokens=max(tokens, int(self.sizes.max())),
            scores=max(most.scores, ENOUGH_ROWS * self._row // self._score),
        )
        self._devices = observed.devices

    @property
    def minimum(self) -> int:
        """The smallest memory in which the longest passage can be measured."""
        return self.held_bytes + self._longest + MIN_BLOCK_ROWS * self._row

    @property
    def _enough(self) -> int:
        """What a worker takes over what is held, where there is no need to be sparing."""
        most = self._most
        return max(most.tokens * self.token_bytes, self._longest) + most.scores * self._score

    @property
    def default_bytes(self) -> int:
        """Enough to be fast, little enough to leave the machine to others."""
        home, *others = self._devices
        free = min([free_memory(home), *(free_memory(each) + self.held_bytes for each in others)])
        if home.type == "cuda":
            wanted = int(free * ACCELERATOR_SHARE)
        else:
            wanted = self.held_bytes + _bytes_of_workers(self._workers, self._enough)
            wanted = min(wanted, int(free * HOST_SHARE))
        wanted = max(self.minimum, wanted)
        if wanted > free:
            raise _too_little_memory(f"{_size(free)} of free memory", self)
        return wanted

    def limits(self, memory: int | None) -> BatchLimits:
        """Chunks that keep within so many bytes; HeadprobeError where that is too little."""
        if memory is not None and memory < self.minimum:
            raise _too_little_memory(f"--memory {_size(memory)}", self)
        room = (self.default_bytes if memory is None else memory) - self.held_bytes
        logits = min(self._most.logits, room // 4 // LOGIT_BYTES)
        workers = min(int(room / FRAGMENTATION // self._enough), self._workers)
        if workers > 1:
            room = int(room / FRAGMENTATION / workers)
        for_scores = min(
            self._most.scores * self._score,
            max(room // 3, MIN_BLOCK_ROWS * self._row),
            room - self._longest,
        )
        return BatchLimits(
            tokens=int(min(self._most.tokens, (room - for_scores) // self.token_bytes)),
            scores=for_scores // self._score,
            logits=logits,
            workers=max(workers, 1),
        )

    def halved(self, limits: BatchLimits) -> BatchLimits:
        """What is left of these limits when the memory was not there."""
        of_chunk = limits.tokens * self.token_bytes + limits.scores * self._score
        taken = _bytes_of_workers(limits.workers, of_chunk)
        least = self.minimum - self.held_bytes
        if taken <= least:
            raise _too_little_memory("out of memory", self)
        return self.limits(self.held_bytes + max(taken // 2, least))


def _bytes_of_workers(workers: int, of_chunk: int) -> int:
    """Bytes of as many chunks at once."""
    return of_chunk if workers == 1 else math.ceil(FRAGMENTATION * workers * of_chunk)


def retry_with_less_memory(
    working: WorkingSet,
    limits: BatchLimits,
    attempt: Callable[[BatchLimits], Result],
    warn: Callable[[str], None],
) -> Result:
    """What ``attempt`` gives; with half the limits as often as it runs out of memory, which is said
    once. An attempt must not count what one before it left unfinished."""
    warned = False
    while True:
        try:
            return attempt(limits)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # only here the traceback, which holds the attempt's tensors, is gone
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        limits = working.halved(limits)
        if not warned:
            warn(
                "out of memory: going on with chunks of half the size (--memory SIZE sets it "
                "from the start)"
            )
            warned = True


def _token_bytes(observed: ObservedModel) -> int:
    """The larger of what a token takes in the feed-forward part of a layer, and while it attends
    and its heads' outputs are looked at in float32; and what is told of it until the end."""
    config, item = observed.model.config.get_text_config(), observed.model.dtype.itemsize
    wide = getattr(config, "moe_intermediate_size", None) or config.intermediate_size
    experts = getattr(config, "num_experts_per_tok", None) or 1
    outputs = observed.n_heads * observed.head_dim
    feeding = item * 4 * (config.hidden_size + wide * experts)
    attending = item * 4 * (config.hidden_size + outputs) + 4 * 4 * outputs
    return int(max(feeding, attending)) + PENDING_BYTES * observed.n_heads * len(observed.layers)


def _too_little_memory(where: str, working: WorkingSet) -> HeadprobeError:
    return HeadprobeError(
        where,
        f"measuring takes at least {_size(working.minimum)} over the weights, for sums and for the "
        "longest passage",
        "Give it that much with --memory, or have shorter passages with --budget",
    )


def _size(size: int) -> str:
    return f"{-(-size // MIB)}MiB" if size >= MIB else f"{size}B"
