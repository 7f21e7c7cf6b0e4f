"""Sums and picks of one head's stripped attention in one passage, while it is still in the cache.

``share`` [W' * W]: what the query words W, the last of the earlier words W' from ``first`` on,
give to those. Pairs and rows are counted over all passages of a batch, of which this is the one
that begins with the pair, or the row, ``base``.
"""

import numpy as np
from numpy.typing import NDArray

from headprobe.tally.compiled import Floats, Ints, U, compiled


@compiled
def add_by_kind(
    share: Floats,
    one: NDArray[np.int16],
    other: NDArray[np.int16],
    words: int,
    first: int,
    queries: int,
    sums: NDArray[np.float64],
) -> None:
    """Add ``share`` to ``sums`` [KINDS]; every pair is of ``one`` kind and of an ``other``
    [W' * W], where it is of any."""
    for t in range(words):
        to = U(t * queries)
        for r in range(U(max(t - first + 1, 0)), U(queries)):
            kind = one[to + r]
            if kind >= 0:
                sums[U(kind)] += share[to + r]
                sums[U(other[to + r])] += share[to + r]


@compiled
def pick(share: Floats, pair: Ints, base: int, found: Floats) -> None:
    """Put ``share`` of each ``pair`` [P] in ``found`` [P]."""
    for i in range(len(pair)):
        found[i] = share[pair[i] - base]


@compiled
def find_strongest(
    share: Floats,
    row: Ints,
    base: int,
    first: int,
    queries: int,
    word: NDArray[np.int64],
    weight: Floats,
) -> None:
    """Put the words with the largest ``share`` in each ``row`` [I], the largest first, in ``word``
    [I, M], and these shares in ``weight``; 0 beyond the last earlier word."""
    most = word.shape[1]
    for i in range(len(row)):
        r = row[i] - base
        for m in range(most):
            weight[i, m] = 0
            word[i, m] = 0
        for t in range(first + r):
            new = share[t * queries + r]
            if new <= weight[i, most - 1]:
                continue
            place = most - 1
            while place > 0 and new > weight[i, place - 1]:
                weight[i, place] = weight[i, place - 1]
                word[i, place] = word[i, place - 1]
                place -= 1
            weight[i, place] = new
            word[i, place] = t


@compiled
def find_winner(
    share: Floats,
    r: int,
    first: int,
    queries: int,
    lowest: int,
    admitted: Floats,
) -> int:
    """Who alone gets the most in the row ``r`` among the earlier words from ``lowest`` on, or -1;
    of these count those that are 1 in ``admitted`` [W'], or all, where it is empty."""
    best, place = np.float32(0), -1
    for t in range(lowest, first + r):
        weight = share[t * queries + r]
        if len(admitted):
            weight *= admitted[t]
        if weight > best:
            best, place = weight, t
        elif weight == best:
            place = -1
    return place
