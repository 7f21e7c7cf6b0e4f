"""The memory that a measurement needs, and chunk limits that keep within it.

All sizes are estimates from shapes. If memory runs out all the same, the measurement is repeated
with smaller chunks (``retry_with_less_memory``).
"""

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
"""Default size of a chunk's tokens on a CPU, per worker. Larger chunks are not faster."""

MIN_CHUNK_TOKENS = 512
"""Minimum number of tokens of a chunk by default, even if they exceed ``CHUNK_BYTES``: with fewer,
each operation would have too little work."""

ACCELERATOR_SHARE = 0.5
"""Share of an accelerator's free memory that is used by default."""

HOST_SHARE = 0.25
"""Maximum share of the host's free memory that is used by default."""

SCORE_BYTES = 48
"""Bytes per attention weight of a tile: the weight, its score, and what statistics compute from
them."""

SCORE_BYTES_CPU = 16
"""The same on a CPU, where compiled loops process one head at a time (``numba_view``)."""

LOGIT_BYTES = 12
"""Bytes per logit: the logit, its logarithm, and what the model computes in between."""

PAIR_BYTES = 40
"""Bytes per pair of words: its indices by kind, and the arrays from which these are sorted."""

PAIR_BYTES_CPU = 16
"""The same on a CPU, where pairs are not sorted: the kinds, and what they are computed from."""

PENDING_BYTES = 24
"""Bytes per token, head and layer of results that are kept until the last layer has attended."""

MAX_WORKERS = 8
"""Maximum number of chunks at once. If there are more threads, several share the operations of a
chunk, because more workers would wait for the interpreter."""

LIBRARY_BYTES = 32 * MIB
"""Memory that libraries keep for themselves once all kinds of operations have run."""

FRAGMENTATION = Fraction(6, 5)
"""Factor for chunks that run at once, because the blocks that they allocate lie between those of
others."""

MIN_BLOCK_ROWS = 16
"""Minimum number of rows of a block. Blocks with fewer rows are too slow to be useful."""

ENOUGH_ROWS = 64
"""Number of rows of a block that are fast enough, whatever the number of keys."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class BatchLimits:
    """The maximum size of chunks, and how many run at once."""

    tokens: int
    """Maximum number of tokens of a chunk. A chunk always has at least one passage."""

    scores: int
    """Maximum number of attention weights of a block in one layer."""

    logits: int = 1 << 21
    """Maximum number of logits at a time, for chunks whose text is scored."""

    workers: int = 1
    """Number of chunks that run at once."""

    @classmethod
    def of(cls, device: torch.device) -> "BatchLimits":
        """Return limits for ample memory: small enough for a CPU's caches, large enough to keep an
        accelerator busy."""
        if device.type == "cpu":
            return cls(tokens=1024, scores=1 << 20)
        return cls(tokens=32768, scores=1 << 27, logits=1 << 26)


class WorkingSet:
    """The memory in bytes that a measurement needs beyond the loaded weights, and limits for it.

    ``sums`` are the bytes of the collector's sums. ``default_bytes`` and ``limits`` raise
    HeadprobeError if not even the longest passage fits.
    """

    held_bytes: int
    """Bytes that are held during the whole measurement, whatever the number of passages."""

    token_bytes: int
    """Bytes per token of a chunk."""

    sizes: NDArray[np.int64]
    """[P]: the size of each passage in a chunk, in units of tokens. It is the number of tokens plus
    the memory for pairs of words and for sampled rows, which are kept until the last layer has
    attended."""

    def __init__(self, observed: ObservedModel, corpus: Corpus, sums: int) -> None:
        instances, heads = corpus.instances, observed.n_heads
        self.held_bytes, self.token_bytes = sums + LIBRARY_BYTES, _token_bytes(observed)
        on_cpu = observed.device.type == "cpu"
        self._score_bytes, pair_bytes = (
            (SCORE_BYTES_CPU, PAIR_BYTES_CPU) if on_cpu else (SCORE_BYTES, PAIR_BYTES)
        )
        can_run_at_once = on_cpu and observed.is_stateless
        self._workers = min(torch.get_num_threads(), MAX_WORKERS) if can_run_at_once else 1
        words = np.diff(instances.passage_first)
        sampled = np.bincount(instances.passage[instances.sampled_words], minlength=len(words))
        # Per sampled row and head, in float32: attention to earlier words (on average half of the
        # passage), the projected output, and whether the head is active
        sampled_bytes = sampled * (words / 2 + PROJECTION_SIZE + 1) * 4
        extra_bytes = words**2 / 2 * pair_bytes + sampled_bytes * heads * len(observed.layers)
        lengths = corpus.lengths
        self.sizes = lengths + np.ceil(extra_bytes / self.token_bytes).astype(np.int64)
        self._longest_bytes = int(self.sizes.max()) * self.token_bytes
        self._row_bytes = int(lengths.max()) * heads * self._score_bytes
        most = BatchLimits.of(observed.device)
        tokens = (
            min(most.tokens, max(MIN_CHUNK_TOKENS, CHUNK_BYTES // self.token_bytes))
            if on_cpu
            else most.tokens
        )
        self._most = replace(
            most,
            tokens=max(tokens, int(self.sizes.max())),
            scores=max(most.scores, ENOUGH_ROWS * self._row_bytes // self._score_bytes),
        )
        self._devices = observed.devices

    @property
    def minimum(self) -> int:
        """The smallest number of bytes with which the longest passage can be measured."""
        return self.held_bytes + self._longest_bytes + MIN_BLOCK_ROWS * self._row_bytes

    @property
    def _worker_bytes(self) -> int:
        """Bytes of a worker's chunk with ample memory."""
        most = self._most
        return (
            max(most.tokens * self.token_bytes, self._longest_bytes)
            + most.scores * self._score_bytes
        )

    @property
    def default_bytes(self) -> int:
        """The memory to use by default: enough to be fast, but only a share of what is free."""
        home, *others = self._devices
        # The sums are held on the first device only
        free = min([free_memory(home), *(free_memory(each) + self.held_bytes for each in others)])
        if home.type == "cuda":
            wanted = int(free * ACCELERATOR_SHARE)
        else:
            wanted = self.held_bytes + _bytes_at_once(self._workers, self._worker_bytes)
            wanted = min(wanted, int(free * HOST_SHARE))
        wanted = max(self.minimum, wanted)
        if wanted > free:
            raise _too_little_memory(f"{_size(free)} of free memory", self, "Free some memory")
        return wanted

    def limits(self, memory: int | None) -> BatchLimits:
        """Return limits that keep within ``memory`` bytes, or within ``default_bytes``."""
        if memory is not None and memory < self.minimum:
            raise _too_little_memory(f"--memory {_size(memory)}", self, "Raise --memory")
        room = (self.default_bytes if memory is None else memory) - self.held_bytes
        logits = min(self._most.logits, room // 4 // LOGIT_BYTES)
        # As many workers as have ample memory each; a single one takes what there is
        workers = min(int(room / FRAGMENTATION // self._worker_bytes), self._workers)
        if workers > 1:
            room = int(room / FRAGMENTATION / workers)
        # At most about a third for the attention of a block, the rest for the chunk's tokens
        for_scores = min(
            self._most.scores * self._score_bytes,
            max(room // 3, MIN_BLOCK_ROWS * self._row_bytes),
            room - self._longest_bytes,
        )
        return BatchLimits(
            tokens=int(min(self._most.tokens, (room - for_scores) // self.token_bytes)),
            scores=for_scores // self._score_bytes,
            logits=logits,
            workers=max(workers, 1),
        )

    def halved(self, limits: BatchLimits) -> BatchLimits:
        """Return limits that need half the memory of ``limits``, but at least ``minimum``; raises
        HeadprobeError if these need no more than that already."""
        chunk_bytes = limits.tokens * self.token_bytes + limits.scores * self._score_bytes
        used = _bytes_at_once(limits.workers, chunk_bytes)
        least = self.minimum - self.held_bytes
        if used <= least:
            raise _too_little_memory("out of memory", self, "Free some memory")
        return self.limits(self.held_bytes + max(used // 2, least))


def _bytes_at_once(workers: int, chunk_bytes: int) -> int:
    """Return the bytes of ``workers`` chunks that run at once."""
    return chunk_bytes if workers == 1 else math.ceil(FRAGMENTATION * workers * chunk_bytes)


def retry_with_less_memory(
    working: WorkingSet,
    limits: BatchLimits,
    attempt: Callable[[BatchLimits], Result],
    warn: Callable[[str], None],
) -> Result:
    """Return the result of ``attempt``, repeated with half the limits whenever memory runs out.

    ``warn`` is called once, the first time. An attempt must not depend on what an earlier one left
    unfinished.
    """
    warned = False
    while True:
        try:
            return attempt(limits)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the except clause, because the traceback refers to the attempt's tensors
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        limits = working.halved(limits)
        if not warned:
            warn(
                "out of memory: continuing with chunks of half the size (to start with smaller "
                "chunks, set --memory)"
            )
            warned = True


def _token_bytes(observed: ObservedModel) -> int:
    """Return the bytes per token of a chunk: the larger of what the feed-forward part of a layer
    needs and what attention and the statistics of its outputs (in float32) need, plus what is kept
    until the last layer has attended."""
    config, item = observed.model.config.get_text_config(), observed.model.dtype.itemsize
    width = getattr(config, "moe_intermediate_size", None) or config.intermediate_size
    experts = getattr(config, "num_experts_per_tok", None) or 1
    outputs = observed.n_heads * observed.head_dim
    feed_forward = item * 4 * (config.hidden_size + width * experts)
    attention = item * 4 * (config.hidden_size + outputs) + 4 * 4 * outputs
    pending = PENDING_BYTES * observed.n_heads * len(observed.layers)
    return int(max(feed_forward, attention)) + pending


def _too_little_memory(where: str, working: WorkingSet, remedy: str) -> HeadprobeError:
    return HeadprobeError(
        where,
        f"the measurement needs at least {_size(working.minimum)} beyond the weights, for the sums "
        "and the longest passage",
        f"{remedy}, or make passages shorter with --budget",
    )


def _size(size: int) -> str:
    return f"{-(-size // MIB)}MiB" if size >= MIB else f"{size}B"
