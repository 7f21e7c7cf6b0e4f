"""Tokens without padding: passages one after another, and the rows that attend together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NONE, NOWHERE = -1, -2

ALIKE = 0.8
"""Passages share a rectangle while the shortest has this part of the longest's tokens, ..."""

SPARED = 1 << 18
"""... or while no more attention weights than these are of padding: they cost less than one more
rectangle does."""

EVEN = 64
"""Blocks have a multiple of so many rows, where they may: a CPU's vectors go through keys of an odd
number of rows up to three times slower."""


@dataclass(frozen=True)
class Block:
    """The tokens ``first`` to ``stop`` of some passages (numbers, longest first), whose attention
    is computed at once; all tokens where there are several passages."""

    passages: NDArray[np.int64]
    first: int
    stop: int


@dataclass(frozen=True)
class Rectangle:
    """A block in a flat run: R rows of each of B passages, which look at T keys; both are tokens'
    places in their passage, in any order.

    ``rows`` [B, R] and ``keys`` [B, T] are ``NONE`` where there is no token. The last key is
    ``NOWHERE``: it takes the whole weight of rows that are no token, and nothing else. ``asking``
    [B, R] and ``seen`` [B, T] are places in the run (of some token, where there is none). ``real``
    [n] are the rows (b * R + r) of the places from ``start`` on.
    """

    rows: Tensor
    keys: Tensor
    asking: Tensor
    seen: Tensor
    real: Tensor
    start: int


@dataclass(frozen=True)
class Flat:
    """``token_ids`` and ``positions`` [1, N] of passages one after another, each counted from 0,
    and the rectangles that cover every row once."""

    token_ids: Tensor
    positions: Tensor
    rectangles: tuple[Rectangle, ...]


Arrangement = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The rows [B, R] and the keys [B, T] of a block."""


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
        padding = np.cumsum(heads * (longest**2 - lengths[alike].astype(np.int64) ** 2))
        together = (lengths[alike] >= ALIKE * longest) | (padding <= SPARED)
        alike = alike[together & (np.cumsum(sizes[alike]) <= room)]
        alike = order[start : start + max(1, len(alike))]
        numbers = np.asarray(passages)[alike].astype(np.int64)
        chunks[-1] += _blocks(numbers, longest, max(1, scores // (heads * longest)))
        room -= int(sizes[alike].sum())
        start += len(alike)
    return chunks


def _blocks(passages: NDArray[np.int64], longest: int, most_rows: int) -> list[Block]:
    if len(passages) > 1 or longest <= most_rows:
        return [Block(passages, 0, longest)]
    rows = max(1, most_rows // EVEN * EVEN or most_rows)
    edges = [*range(0, longest, rows), longest]
    return [Block(passages, a, b) for a, b in pairwise(edges)]


def lay_flat(
    sequences: Mapping[int, NDArray[np.integer]],
    blocks: Sequence[Block],
    device: torch.device,
    arranged: Sequence[Arrangement] = (),
) -> Flat:
    """The passages of ``blocks`` as one run; ``sequences[p]`` are the tokens of passage p.

    ``arranged`` are the rows and keys of each block, in the order they shall have; else they stand
    as in the passages.
    """
    places: dict[int, int] = {}
    tokens, total = [], 0
    for block in blocks:
        for passage in block.passages.tolist():
            if passage not in places:
                places[passage] = total
                tokens.append(sequences[passage])
                total += len(sequences[passage])

    def rectangle(block: Block, rows: NDArray[np.int64], keys: NDArray[np.int64]) -> Rectangle:
        starts = np.array([places[passage] for passage in block.passages.tolist()])[:, None]
        keys = np.concatenate([keys, np.full_like(starts, NOWHERE)], axis=1)
        asking = starts + np.maximum(rows, 0)
        slots = np.flatnonzero(rows >= 0)
        real = slots[np.argsort(asking.flat[slots])]
        seen, start = starts + np.maximum(keys, 0), int(starts[0, 0]) + block.first
        return Rectangle(
            rows=on_device(rows, device),
            keys=on_device(keys, device),
            asking=on_device(asking, device),
            seen=on_device(seen, device),
            real=on_device(real, device),
            start=start,
        )

    ends = ({p: len(sequences[p]) for p in block.passages.tolist()} for block in blocks)
    arranged = arranged or [_as_they_stand(b, e) for b, e in zip(blocks, ends, strict=True)]
    return Flat(
        on_device(np.concatenate(tokens)[None], device),
        on_device(np.concatenate([np.arange(len(ids)) for ids in tokens])[None], device),
        tuple(rectangle(b, *order) for b, order in zip(blocks, arranged, strict=True)),
    )


def _as_they_stand(block: Block, lengths: Mapping[int, int]) -> Arrangement:
    ends = np.array([[lengths[passage]] for passage in block.passages.tolist()])
    keys = np.where(np.arange(block.stop) < ends, np.arange(block.stop), NONE)
    return keys[:, block.first :], keys


def on_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor there; integers as indices."""
    wide = array.astype(np.int64) if array.dtype.kind in "iu" else array
    tensor = torch.from_numpy(np.ascontiguousarray(wide))
    if device.type == "cuda":  # from other memory the copy would wait for what was asked before
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
