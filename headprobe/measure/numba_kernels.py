"""One head's attention in one passage: from weights to what is left of them for earlier words,
while both are still in the cache.

T keys and R rows of a rectangle, W' earlier words, of which the last W are query words from
``first`` on (``AlignedBatch``). Arrays that loops go through have one axis, and there are few of
them: of others no vectors are made.

Sums and picks of one head's stripped attention in one passage, while it is still in the cache.

``share`` [W' * W]: what the query words W, the last of the earlier words W' from ``first`` on,
give to those. Pairs and rows are counted over all passages of a batch, of which this is the one
that begins with the pair, or the row, ``base``.

Loops as machine code (numba), for CPUs.
"""

import numpy as np
from numpy.typing import NDArray

from headprobe.compiled import numba_kernel

Floats = NDArray[np.float32]

Ints = NDArray[np.int64]

U = np.uintp


@numba_kernel
def strip_rows(
    weights: Floats,
    scores: Floats,
    at: int,
    wide: int,
    value_norm: Floats,
    received: Floats,
    extra: Ints,
    first: int,
    shares: Floats,
    words: int,
    queries: int,
    columns: Floats,
    left: Floats,
    spread: Floats,
    best: Floats,
    place: NDArray[np.int32],
) -> float:
    """Fill ``shares`` [2 * W' * W] with attention to earlier words, raw and by ``value_norm`` [T],
    ``columns`` [3, W'] (the first of them) with what each gets, ``received`` [T - 1] with what each
    token gets from later words; ``left`` [2, W] with the sums of the rows, ``spread`` [4, W] (as
    below), ``best`` and ``place`` [W] with the word that alone has the largest weight above 0, or
    -1. Returns the attention of words to themselves.

    Keys stand ``wide`` apart in ``weights`` and ``scores``, from ``at`` on; ``extra`` [3, K] are
    those of ``AlignedBatch.extra`` that are of this passage.
    """
    low, rows, half = U(0), U(queries), U(words * queries)
    for r in range(rows):
        left[0, r] = left[1, r] = best[r] = spread[0, r] = spread[1, r] = spread[2, r] = 0
        place[r] = -1
        spread[3, r] = scores[U(at) + r]
    for t in range(words, len(value_norm)):
        key = U(at) + U(t) * U(wide)
        _add_entropy_terms(weights, scores, key, spread, low, rows)
        if t < len(received):
            received[t] = _sum_key(weights, key, rows)
    e, own = 0, 0.0
    for t in range(words):
        key, to = U(at) + U(t) * U(wide), U(t) * rows
        seen, later = U(max(t - first, 0)), U(max(t - first + 1, 0))
        _add_entropy_terms(weights, scores, key, spread, seen, rows)
        _clear(shares, to, half, later, rows)
        got = _add_token(weights, key, value_norm[t], shares, to, half, left, later, rows)
        received[t] = got
        if t >= first:
            own += weights[key + seen]
        while e < extra.shape[1] and extra[2, e] == t:
            other = extra[1, e]
            key, loud = U(at) + U(other) * U(wide), value_norm[other]
            more = _add_token(weights, key, loud, shares, to, half, left, later, rows)
            received[other] = more
            got += more
            if t >= first:
                own += weights[key + seen]
            e += 1
        columns[0, t] = got
        _update_best(shares, to, t, best, place, later, rows)
    return own


@numba_kernel
def renormalise(
    shares: Floats, words: int, first: int, left: Floats, by_distance: Floats, columns: Floats
) -> None:
    """Divide ``shares`` by what is ``left`` of their rows, and add them to ``by_distance``
    [2, W'] and, by word, to ``columns`` [3, W']."""
    rows = U(left.shape[1])
    # no product with the reciprocal: that of the smallest numbers is infinite
    for r in range(rows):
        for k in range(2):
            left[k, r] = left[k, r] if left[k, r] > 0 else np.float32(1)
    for k in range(2):
        of_rows, of_words = left[k], by_distance[k]
        for t in range(words):
            to, later = U(k * words + t) * rows, U(max(t - first + 1, 0))
            back = U(first - t)
            columns[k + 1, t] = _renormalise_word(shares, to, of_rows, of_words, back, later, rows)


@numba_kernel
def sum_entropy(spread: Floats, rows: Ints) -> float:
    """In nats, over the rows of usable words: with p = exp(s - c) the entropy -sum(p log p) of a
    row is c sum(p) - sum(p s)."""
    entropy = 0.0
    for r in range(spread.shape[1]):
        if rows[r] >= 0 and spread[2, r] > 0:  # a learned sink may leave nothing
            entropy += (spread[3, r] - np.log(spread[2, r])) * spread[0, r] - spread[1, r]
    return entropy


@numba_kernel
def _add_entropy_terms(
    weights: Floats, scores: Floats, at: int, spread: Floats, low: int, high: int
) -> None:
    """Add a key to ``spread``: the sums of weights and of their products with scores, the largest
    weight and the largest score."""
    for r in range(low, high):
        weight, score = weights[at + r], scores[at + r]
        spread[0, r] += weight
        spread[1, r] += weight * score
        spread[2, r] = weight if weight > spread[2, r] else spread[2, r]
        spread[3, r] = score if score > spread[3, r] else spread[3, r]


@numba_kernel
def _sum_key(weights: Floats, at: int, high: int) -> np.float32:
    """What a key gets from all query words."""
    got = np.float32(0)
    for r in range(U(0), high):
        got += weights[at + r]
    return got


@numba_kernel
def _clear(shares: Floats, to: int, half: int, low: int, high: int) -> None:
    """A word's place in ``shares`` and in their second ``half``."""
    for r in range(low, high):
        shares[to + r] = 0
        shares[to + half + r] = 0


@numba_kernel
def _add_token(
    weights: Floats,
    at: int,
    loud: float,
    shares: Floats,
    to: int,
    half: int,
    left: Floats,
    low: int,
    high: int,
) -> np.float32:
    """Add attention to a token of a word, raw and by loudness, ``to`` the word's place in
    ``shares`` and in their second ``half``, and to what is ``left`` of its rows; what the token
    gets in all."""
    got = np.float32(0)
    for r in range(low, high):
        weight = weights[at + r]
        norm = weight * loud
        shares[to + r] += weight
        shares[to + half + r] += norm
        left[0, r] += weight
        left[1, r] += norm
        got += weight
    return got


@numba_kernel
def _update_best(
    shares: Floats,
    to: int,
    word: int,
    best: Floats,
    place: NDArray[np.int32],
    low: int,
    high: int,
) -> None:
    """Where a word's weight is the ``best`` of a row, and alone, the word is its ``place``."""
    here, nowhere = np.int32(word), np.int32(-1)
    for r in range(low, high):
        weight, most = shares[to + r], best[r]
        tied = nowhere if weight == most else place[r]
        place[r] = here if weight > most else tied
        best[r] = weight if weight > most else most


@numba_kernel
def _renormalise_word(
    shares: Floats,
    to: int,
    left: Floats,
    by_distance: Floats,
    back: int,
    low: int,
    high: int,
) -> np.float32:
    """Divide a word's weights by what is ``left`` of their rows; their sum."""
    got = np.float32(0)
    for r in range(low, high):
        weight = shares[to + r] / left[r]
        shares[to + r] = weight
        by_distance[back + r] += weight
        got += weight
    return got


@numba_kernel
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


@numba_kernel
def sum_classes(
    shares: Floats, classes: Floats, words: int, first: int, queries: int, sums: Floats
) -> None:
    """Set ``sums`` [2, C, W] to the attention of each row, plain and norm-weighted, to all earlier
    words of each class; ``classes`` [W', C] is 1 for members. Few words are members, so their rows
    are added one after another."""
    rows = U(queries)
    for k in range(2):
        for c in range(classes.shape[1]):
            total = sums[k, c]
            for r in range(U(0), rows):
                total[r] = 0
            for t in range(words):
                if classes[t, c] > 0:
                    to = U(k * words + t) * rows
                    for r in range(U(max(t - first + 1, 0)), rows):
                        total[r] += shares[to + r]


@numba_kernel
def gather_pairs(share: Floats, pair: Ints, base: int, shares: Floats) -> None:
    """Put ``share`` of each ``pair`` [P] in ``found`` [P]."""
    for i in range(len(pair)):
        shares[i] = share[pair[i] - base]


@numba_kernel
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


@numba_kernel
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
