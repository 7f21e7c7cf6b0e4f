"""From a layer's weights to what statistics read of them, in a few sweeps over what is still in the
cache.

Shapes are those of ``AlignedBatch`` and ``LayerView``: B passages, G key/value heads, S query heads
of each, T keys, W' earlier words, of which the last W are query words from ``first`` on.
"""

import numpy as np
from numpy.typing import NDArray

from headprobe.tally.compiled import Floats, Ints, U, compiled


@compiled
def strip(
    weights: Floats,
    scores: Floats,
    loudness: Floats,
    rows: Ints,
    seen: Ints,
    extra: Ints,
    starts: int,
    first: int,
    shares: Floats,
    kept: Floats,
    winner: NDArray[np.int32],
    columns: Floats,
    by_distance: Floats,
    drawn: Floats,
    over_rows: NDArray[np.float64],
    low: int,
    high: int,
) -> None:
    """Fill the last seven arrays for the items b * H + h from ``low`` to ``high``.

    ``weights`` and ``scores`` [B, G, T, S, R], ``loudness`` [N, H], ``rows`` [B, R], ``seen``
    [B, T] of the rectangle, ``extra`` [3, K] passage, key and word of the words' further tokens.
    ``shares`` [2, B, G, W', S, W], ``kept`` [B, W, H], ``winner`` [B, W, H], ``columns``
    [3, B, W', H], ``by_distance`` [2, B, H, W'], ``drawn`` [H, B, T - 1], ``over_rows`` [5, B, H].
    """
    groups, _, shared = weights.shape[1:4]
    words, queries = shares.shape[3], shares.shape[5]
    left = np.empty((2, queries), np.float32)
    for item in range(low, high):
        b, h = item // (groups * shared), item % (groups * shared)
        g, s = h // shared, h % shared
        loud = loudness[seen[b], h]
        _take(weights, loud, extra, first, shares, drawn, b, g, s)
        left[:] = 0
        _choose(shares, first, left, winner, b, g, s)
        kept[b, :, h] = left[0]
        own = previous = 0.0
        for r in range(queries):
            own += weights[b, g, first + r, s, r]
            if first + r > 0:
                previous += shares[0, b, g, first + r - 1, s, r]
            # no product with the reciprocal: that of the smallest numbers is infinite
            for k in range(2):
                if left[k, r] == 0:
                    left[k, r] = 1
        for e in range(np.searchsorted(extra[0], b), np.searchsorted(extra[0], b + 1)):
            if extra[2, e] >= first:
                own += weights[b, g, extra[1, e], s, extra[2, e] - first]
        by_distance[:, b, h] = 0
        _renormalise(shares, first, left, columns, by_distance, b, g, s)
        over_rows[0, b, h] = drawn[h, b, words : words + starts].sum()
        over_rows[1, b, h] = own
        over_rows[2, b, h] = previous
        over_rows[3, b, h] = _sum_entropy(weights, scores, rows, words, first, queries, b, g, s)
        over_rows[4, b, h] = (kept[b, :, h] > 0).sum()


@compiled
def _take(
    weights: Floats,
    loudness: Floats,
    extra: Ints,
    first: int,
    shares: Floats,
    drawn: Floats,
    b: int,
    g: int,
    s: int,
) -> None:
    """Attention to earlier words, raw and by ``loudness`` [T], to ``shares``; and what each key
    gets from later rows."""
    h, rows = g * shares.shape[4] + s, U(shares.shape[5])
    for t in range(shares.shape[3]):
        later, loud, got = U(max(t - first + 1, 0)), loudness[t], np.float32(0)
        for r in range(U(0), later):
            shares[0, b, g, t, s, r] = 0
            shares[1, b, g, t, s, r] = 0
        for r in range(later, rows):
            weight = weights[b, g, t, s, r]
            shares[0, b, g, t, s, r] = weight
            shares[1, b, g, t, s, r] = weight * loud
            got += weight
        drawn[h, b, t] = got
    for t in range(shares.shape[3], drawn.shape[2]):
        got = np.float32(0)
        for r in range(U(0), rows):
            got += weights[b, g, t, s, r]
        drawn[h, b, t] = got
    for e in range(np.searchsorted(extra[0], b), np.searchsorted(extra[0], b + 1)):
        t, word = extra[1, e], extra[2, e]
        later, loud, got = U(max(word - first + 1, 0)), loudness[t], np.float32(0)
        for r in range(later, rows):
            weight = weights[b, g, t, s, r]
            shares[0, b, g, word, s, r] += weight
            shares[1, b, g, word, s, r] += weight * loud
            got += weight
        drawn[h, b, t] = got


@compiled
def _choose(
    shares: Floats,
    first: int,
    left: Floats,
    winner: NDArray[np.int32],
    b: int,
    g: int,
    s: int,
) -> None:
    """What is ``left`` [2, W] of each row, and which word alone has the largest weight above 0."""
    h, rows = g * shares.shape[4] + s, U(shares.shape[5])
    best, place = np.zeros(rows, np.float32), np.full(rows, -1, np.int32)
    nowhere = np.int32(-1)
    for t in range(shares.shape[3]):
        here = np.int32(t)
        for r in range(U(max(t - first + 1, 0)), rows):
            weight, most = shares[0, b, g, t, s, r], best[r]
            left[0, r] += weight
            left[1, r] += shares[1, b, g, t, s, r]
            tied = nowhere if weight == most else place[r]
            place[r] = here if weight > most else tied
            best[r] = weight if weight > most else most
    winner[b, :, h] = place


@compiled
def _renormalise(
    shares: Floats,
    first: int,
    left: Floats,
    columns: Floats,
    by_distance: Floats,
    b: int,
    g: int,
    s: int,
) -> None:
    """Divide weights by what is ``left`` [2, W] of their rows, and sum by word and by distance."""
    h, rows = g * shares.shape[4] + s, U(shares.shape[5])
    for t in range(shares.shape[3]):
        later, back = U(max(t - first + 1, 0)), U(first - t)
        raw = share = loud = np.float32(0)
        for r in range(later, rows):
            raw += shares[0, b, g, t, s, r]
        for r in range(later, rows):
            weight = shares[0, b, g, t, s, r] / left[0, r]
            shares[0, b, g, t, s, r] = weight
            by_distance[0, b, h, back + r] += weight
            share += weight
        for r in range(later, rows):
            weight = shares[1, b, g, t, s, r] / left[1, r]
            shares[1, b, g, t, s, r] = weight
            by_distance[1, b, h, back + r] += weight
            loud += weight
        columns[0, b, t, h] = raw
        columns[1, b, t, h] = share
        columns[2, b, t, h] = loud


@compiled
def _sum_entropy(
    weights: Floats,
    scores: Floats,
    rows: Ints,
    words: int,
    first: int,
    queries: int,
    b: int,
    g: int,
    s: int,
) -> float:
    """In nats, over the rows of usable words: with p = exp(s - c) the entropy -sum(p log p) of a
    row is c sum(p) - sum(p s)."""
    top_weight, top_score = np.zeros(queries, np.float32), scores[b, g, 0, s, :queries].copy()
    mass, product = np.zeros(queries, np.float32), np.zeros(queries, np.float32)
    for t in range(weights.shape[2]):
        later = max(t - first, 0) if t < words else 0
        for r in range(U(later), U(queries)):
            weight, score = weights[b, g, t, s, r], scores[b, g, t, s, r]
            mass[r] += weight
            product[r] += weight * score
            top_weight[r] = weight if weight > top_weight[r] else top_weight[r]
            top_score[r] = score if score > top_score[r] else top_score[r]
    entropy = 0.0
    for r in range(queries):
        if rows[b, r] >= 0:
            entropy += (top_score[r] - np.log(top_weight[r])) * mass[r] - product[r]
    return entropy
