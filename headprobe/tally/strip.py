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
    extra: Ints,
    extra_first: Ints,
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
    """Fill the last seven arrays (``by_distance`` is added to) for the items b * H + h from
    ``low`` to ``high``.

    ``weights`` and ``scores`` [B, G, T, S, R], ``loudness`` [B, T, H], ``rows`` [B, R] of the
    rectangle, ``extra`` [3, K] passage, key and word of the words' further tokens, which begin at
    ``extra_first`` [B + 1] for each passage. ``shares`` [2, B, G, W', S, W], ``kept`` [B, W, H],
    ``winner`` [B, W, H], ``columns`` [3, B, W', H], ``by_distance`` [2, B, H, W'], ``drawn``
    [H, B, T - 1], ``over_rows`` [5, B, H].
    """
    groups, shared = shares.shape[2], shares.shape[4]
    words, queries = shares.shape[3], shares.shape[5]
    # plain loops, where arrays have methods: those take long to compile
    left = np.empty((2, queries), np.float32)
    for item in range(low, high):
        b, h = item // (groups * shared), item % (groups * shared)
        g, s = h // shared, h % shared
        _take(weights, loudness, extra, extra_first, first, shares, drawn, b, g, s)
        _choose(shares, first, left, winner, b, g, s)
        sink = own = previous = stripped = 0.0
        for t in range(words, words + starts):
            sink += drawn[h, b, t]
        for e in range(extra_first[b], extra_first[b + 1]):
            if extra[2, e] >= first:
                own += weights[b, g, extra[1, e], s, extra[2, e] - first]
        for r in range(queries):
            own += weights[b, g, first + r, s, r]
            if first + r > 0:
                previous += shares[0, b, g, first + r - 1, s, r]
            kept[b, r, h] = left[0, r]
            stripped += left[0, r] > 0
            # no product with the reciprocal: that of the smallest numbers is infinite
            for k in range(2):
                if left[k, r] == 0:
                    left[k, r] = 1
        _renormalise(shares, first, left, columns, by_distance, b, g, s)
        over_rows[0, b, h] = sink
        over_rows[1, b, h] = own
        over_rows[2, b, h] = previous
        over_rows[3, b, h] = _sum_entropy(weights, scores, rows, words, first, queries, b, g, s)
        over_rows[4, b, h] = stripped


@compiled
def _take(
    weights: Floats,
    loudness: Floats,
    extra: Ints,
    extra_first: Ints,
    first: int,
    shares: Floats,
    drawn: Floats,
    b: int,
    g: int,
    s: int,
) -> None:
    """Attention to earlier words, raw and by loudness, to ``shares``; and what each key gets from
    later rows."""
    h, rows = g * shares.shape[4] + s, U(shares.shape[5])
    for t in range(shares.shape[3]):
        later, loud, got = U(max(t - first + 1, 0)), loudness[b, t, h], np.float32(0)
        for r in range(later):
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
    for e in range(extra_first[b], extra_first[b + 1]):
        t, word = extra[1, e], extra[2, e]
        loud, got = loudness[b, t, h], np.float32(0)
        for r in range(U(max(word - first + 1, 0)), rows):
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
    best, place = np.empty(rows, np.float32), np.empty(rows, np.int32)
    nowhere = np.int32(-1)
    for r in range(rows):
        left[0, r] = left[1, r] = best[r] = 0
        place[r] = nowhere
    for t in range(shares.shape[3]):
        here = np.int32(t)
        for r in range(U(max(t - first + 1, 0)), rows):
            weight, most = shares[0, b, g, t, s, r], best[r]
            left[0, r] += weight
            left[1, r] += shares[1, b, g, t, s, r]
            tied = nowhere if weight == most else place[r]
            place[r] = here if weight > most else tied
            best[r] = weight if weight > most else most
    for r in range(rows):
        winner[b, r, h] = place[r]


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
    top_weight, top_score = np.empty(queries, np.float32), np.empty(queries, np.float32)
    mass, product = np.empty(queries, np.float32), np.empty(queries, np.float32)
    for r in range(queries):
        top_weight[r] = mass[r] = product[r] = 0
        top_score[r] = scores[b, g, 0, s, r]
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
        if rows[b, r] >= 0 and top_weight[r] > 0:  # a learned sink may leave nothing
            entropy += (top_score[r] - np.log(top_weight[r])) * mass[r] - product[r]
    return entropy
