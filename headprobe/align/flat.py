"""Tokens without padding: passages one after another, and the rows that attend together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ALIKE = 0.8
"""Passages share a rectangle while the shortest has this part of the longest's tokens."""


@dataclass(frozen=True)
class Block:
    """The tokens ``first`` to ``stop`` of some passages (numbers, longest first), whose attention
    is computed at once; all tokens where there are several passages."""

    passages: NDArray[np.int64]
    first: int
    stop: int


@dataclass(frozen=True)
class Rectangle:
    """A block in a flat run: ``keys`` [B, T] are the places of the passages' tokens up to the
    block's end; the rows are the columns from ``first`` on, R = T - ``first``.

    Shorter passages repeat a place on the right. ``real`` [n] are the rows (b * R + r) that are
    no such padding; in this order they are the places from ``start`` on.
    """

    keys: Tensor
    real: Tensor
    first: int
    start: int

    @property
    def rows(self) -> int:
        """R."""
        return self.keys.shape[1] - self.first


@dataclass(frozen=True)
class Flat:
    """``token_ids`` and ``positions`` [1, N] of passages one after another, each counted from 0,
    and the rectangles that cover every row once."""

    token_ids: Tensor
    positions: Tensor
    rectangles: tuple[Rectangle, ...]


def plan_chunks(
    passages: NDArray[np.integer],
    lengths: NDArray[np.integer],
    heads: int,
    *,
    tokens: int,
    scores: int,
    sizes: NDArray[np.integer] | None = None,
) -> list[list[Block]]:
    """Passages (numbers) by their ``lengths``, longest first, in runs of at most ``tokens`` tokens,
    of which a passage counts as ``sizes`` (as its length, where none are given).

    A block holds at most ``scores`` attention weights of one layer; a passage that is too long for
    that is cut into blocks of rows (of one row at least), and a run holds at least one passage.
    """
    sizes = lengths if sizes is None else sizes
    order = np.argsort(-np.asarray(lengths), kind="stable")
    chunks: list[list[Block]] = []
    room = start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        if room < sizes[order[start]]:
            chunks.append([])
            room = tokens
        most = max(1, min(room // longest, scores // (heads * longest**2)))
        alike = order[start : start + most]
        alike = alike[(lengths[alike] >= ALIKE * longest) & (np.cumsum(sizes[alike]) <= room)]
        alike = order[start : start + max(1, len(alike))]
        numbers = np.asarray(passages)[alike].astype(np.int64)
        chunks[-1] += _blocks(numbers, longest, max(1, scores // (heads * longest)))
        room -= int(sizes[alike].sum())
        start += len(alike)
    return chunks


def _blocks(passages: NDArray[np.int64], longest: int, most_rows: int) -> list[Block]:
    parts = -(-longest // most_rows) if len(passages) == 1 else 1
    edges = np.linspace(0, longest, parts + 1).round().astype(int).tolist()
    return [Block(passages, a, b) for a, b in pairwise(edges)]


def lay_flat(
    sequences: Mapping[int, NDArray[np.integer]], blocks: Sequence[Block], device: torch.device
) -> Flat:
    """The passages of ``blocks`` as one run; ``sequences[p]`` are the tokens of passage p."""
    places: dict[int, int] = {}
    tokens, total = [], 0
    for block in blocks:
        for passage in block.passages.tolist():
            if passage not in places:
                places[passage] = total
                tokens.append(sequences[passage])
                total += len(sequences[passage])

    def rectangle(block: Block) -> Rectangle:
        first, stop = block.first, block.stop
        starts = np.array([places[passage] for passage in block.passages.tolist()])
        ends = np.array([min(len(sequences[p]), stop) for p in block.passages.tolist()])
        columns = np.arange(stop)
        inside = columns < ends[:, None]
        keys = starts[:, None] + np.where(inside, columns, 0)
        real = np.flatnonzero(inside[:, first:])
        return Rectangle(
            on_device(keys, device), on_device(real, device), first, int(starts[0]) + first
        )

    return Flat(
        on_device(np.concatenate(tokens)[None], device),
        on_device(np.concatenate([np.arange(len(ids)) for ids in tokens])[None], device),
        tuple(rectangle(block) for block in blocks),
    )


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor there; integers as indices."""
    wide = array.astype(np.int64) if array.dtype.kind in "iu" else array
    tensor = torch.from_numpy(np.ascontiguousarray(wide))
    if device.type == "cuda":  # from other memory the copy would wait for what was asked before
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
