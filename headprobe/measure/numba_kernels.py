"""Compiled loops over the attention of one head in one passage, for CPUs (numba).

``numba_view.fill_view`` calls them one after another for each head and passage, so that the weights
are read from memory once and stay in the cache: ``strip_rows`` reduces attention between tokens to
raw attention between words, ``renormalise`` makes rows of stripped attention of it, and the others
sum it by kind of pair or select from it.

Letters in shapes: T keys and R rows of the tile; W' words, of which the last W, from ``first`` on,
are query words (``batching.batches``). Only the first W of the tile's rows are rows of query words.
Attention between words is stored as [W' * W]: all rows of one word are contiguous, so that inner
loops run over rows r from ``low`` to ``high``. A row r gives attention to earlier words t only, so
the rows of word t start at ``t - first + 1``; entries of rows before that are never read.

Inner loops use few arrays, each with one axis, because the compiler makes vector instructions only
of such loops.
"""

import numpy as np
from numpy.typing import NDArray

from headprobe.arrays import Ints, Singles
from headprobe.compiled import numba_kernel

U = np.uintp
"""The type of counters in inner loops (``compiled.numba_kernel``)."""


@numba_kernel
def strip_rows(
    weights: Singles,
    scores: Singles,
    offset: int,
    stride: int,
    value_norm: Singles,
    received: Singles,
    extra: Ints,
    first: int,
    shares: Singles,
    words: int,
    queries: int,
    columns: Singles,
    kept: Singles,
    entropy_terms: Singles,
    best: Singles,
    best_word: NDArray[np.int32],
) -> float:
    """Reduce attention between tokens to raw attention between words.

    ``weights`` and ``scores`` are flat; key t of this head and passage starts at ``offset + t *
    stride``, followed by its rows. ``value_norm`` [T] is the norm of the head's value at each key,
    and ``extra`` [3, X] the extra tokens of the passage, ascending by word
    (``AlignedBatch.extra``). ``words`` is W' and ``queries`` W.

    Fills ``shares`` [2 * W' * W], raw and norm-weighted attention to earlier words; ``columns[0]``
    [W'], the attention that each word receives from later words; ``received`` [T - 1], the same for
    each token; ``kept`` [2, W], the row sums of ``shares``; ``entropy_terms`` [4, W], the sums of
    each row for ``sum_entropy``; and ``best`` and ``best_word`` [W], the largest weight of each row
    and its word, -1 if it is not unique or zero. Returns the summed attention of words to
    themselves.
    """
    low, rows, half = U(0), U(queries), U(words * queries)
    for r in range(rows):
        kept[0, r] = kept[1, r] = best[r] = 0
        entropy_terms[0, r] = entropy_terms[1, r] = entropy_terms[2, r] = 0
        best_word[r] = -1
        entropy_terms[3, r] = scores[U(offset) + r]
    # Start tokens, extra tokens, tokens of no usable word, and the null key. Extra tokens are
    # visited again below with their words.
    for t in range(words, len(value_norm)):
        key = U(offset) + U(t) * U(stride)
        _add_entropy_terms(weights, scores, key, entropy_terms, low, rows)
        if t < len(received):
            received[t] = _sum_key(weights, key, rows)
    # The words: their last token is key t, the others are extra tokens
    e, to_self = 0, 0.0
    for t in range(words):
        key, out = U(offset) + U(t) * U(stride), U(t) * rows
        # The word's own row, and the first row after it; rows before have zero weight
        own, later = U(max(t - first, 0)), U(max(t - first + 1, 0))
        _add_entropy_terms(weights, scores, key, entropy_terms, own, rows)
        _clear(shares, out, half, later, rows)
        total = _add_token(weights, key, value_norm[t], shares, out, half, kept, later, rows)
        received[t] = total
        if t >= first:
            to_self += weights[key + own]
        while e < extra.shape[1] and extra[2, e] == t:
            other = extra[1, e]
            key, norm = U(offset) + U(other) * U(stride), value_norm[other]
            more = _add_token(weights, key, norm, shares, out, half, kept, later, rows)
            received[other] = more
            total += more
            if t >= first:
                to_self += weights[key + own]
            e += 1
        columns[0, t] = total
        _update_best(shares, out, t, best, best_word, later, rows)
    return to_self


@numba_kernel
def renormalise(
    shares: Singles, words: int, first: int, kept: Singles, by_distance: Singles, columns: Singles
) -> None:
    """Divide ``shares`` [2 * W' * W] by their row sums ``kept`` [2, W], in place.

    The results are added to ``by_distance`` [2, W'] by distance in words, and stored in
    ``columns[1]`` and ``columns[2]`` [W'] as sums by word. Sums in ``kept`` that are zero become 1.
    """
    rows = U(kept.shape[1])
    # Division, because the reciprocal of the smallest numbers is infinite
    for r in range(rows):
        for k in range(2):
            kept[k, r] = kept[k, r] if kept[k, r] > 0 else np.float32(1)
    for k in range(2):
        row_sums, distances = kept[k], by_distance[k]
        for t in range(words):
            out, later = U(k * words + t) * rows, U(max(t - first + 1, 0))
            # Row r is at distance first + r - t; unsigned numbers wrap around where first < t
            shift = U(first - t)
            columns[k + 1, t] = _renormalise_word(
                shares, out, row_sums, distances, shift, later, rows
            )


@numba_kernel
def sum_entropy(entropy_terms: Singles, rows: Ints) -> float:
    """Return the entropy in nats, summed over the rows of usable words.

    The softmax gives p = exp(s - c) for the scores s of a row, with c = max(s) - log(max(p)). So
    its entropy -sum(p log p) is c sum(p) - sum(p s), and one logarithm per row suffices.
    ``entropy_terms`` [4, W] holds sum(p), sum(p s), max(p) and max(s); ``rows`` is negative for
    unusable words.
    """
    entropy = 0.0
    for r in range(entropy_terms.shape[1]):
        # A learned sink may leave no weight at all
        if rows[r] >= 0 and entropy_terms[2, r] > 0:
            c = entropy_terms[3, r] - np.log(entropy_terms[2, r])
            entropy += c * entropy_terms[0, r] - entropy_terms[1, r]
    return entropy


@numba_kernel
def _add_entropy_terms(
    weights: Singles, scores: Singles, key: int, entropy_terms: Singles, low: int, high: int
) -> None:
    """Add one key to ``entropy_terms`` [4, W]: the sums of weights and of weight times score, the
    largest weight and the largest score."""
    for r in range(low, high):
        weight, score = weights[key + r], scores[key + r]
        entropy_terms[0, r] += weight
        entropy_terms[1, r] += weight * score
        entropy_terms[2, r] = weight if weight > entropy_terms[2, r] else entropy_terms[2, r]
        entropy_terms[3, r] = score if score > entropy_terms[3, r] else entropy_terms[3, r]


@numba_kernel
def _sum_key(weights: Singles, key: int, high: int) -> np.float32:
    """Return the attention that a key receives from all query words."""
    total = np.float32(0)
    for r in range(U(0), high):
        total += weights[key + r]
    return total


@numba_kernel
def _clear(shares: Singles, out: int, half: int, low: int, high: int) -> None:
    """Set a word's rows to zero in both halves of ``shares``."""
    for r in range(low, high):
        shares[out + r] = 0
        shares[out + half + r] = 0


@numba_kernel
def _add_token(
    weights: Singles,
    key: int,
    value_norm: float,
    shares: Singles,
    out: int,
    half: int,
    kept: Singles,
    low: int,
    high: int,
) -> np.float32:
    """Add the attention to one token to its word in ``shares`` and to the row sums ``kept``.

    The word's rows start at ``out`` for raw attention and at ``out + half`` for norm-weighted
    attention. Returns the raw attention that the token receives from all of these rows.
    """
    total = np.float32(0)
    for r in range(low, high):
        weight = weights[key + r]
        norm = weight * value_norm
        shares[out + r] += weight
        shares[out + half + r] += norm
        kept[0, r] += weight
        kept[1, r] += norm
        total += weight
    return total


@numba_kernel
def _update_best(
    shares: Singles,
    out: int,
    word: int,
    best: Singles,
    best_word: NDArray[np.int32],
    low: int,
    high: int,
) -> None:
    """Update the largest weight of each row and its word, or -1 after a tie."""
    here, nowhere = np.int32(word), np.int32(-1)
    for r in range(low, high):
        weight, most = shares[out + r], best[r]
        tied = nowhere if weight == most else best_word[r]
        best_word[r] = here if weight > most else tied
        best[r] = weight if weight > most else most


@numba_kernel
def _renormalise_word(
    shares: Singles,
    out: int,
    row_sums: Singles,
    by_distance: Singles,
    shift: int,
    low: int,
    high: int,
) -> np.float32:
    """Divide a word's rows by their sums and add them by distance, ``shift + r``; returns their
    total."""
    total = np.float32(0)
    for r in range(low, high):
        weight = shares[out + r] / row_sums[r]
        shares[out + r] = weight
        by_distance[shift + r] += weight
        total += weight
    return total


@numba_kernel
def add_by_kind(
    share: Singles,
    category: NDArray[np.int16],
    deprels: NDArray[np.int16],
    words: int,
    first: int,
    queries: int,
    sums: NDArray[np.float64],
) -> None:
    """Add ``share`` [W' * W] to ``sums`` [KINDS], each pair to both its kinds.

    ``category`` and ``deprels`` [W' * W] are the kinds of each pair (``layout.pair_kinds``), -1 if
    one of its words is unusable.
    """
    for t in range(words):
        out = U(t * queries)
        for r in range(U(max(t - first + 1, 0)), U(queries)):
            kind = category[out + r]
            if kind >= 0:
                sums[U(kind)] += share[out + r]
                sums[U(deprels[out + r])] += share[out + r]


@numba_kernel
def sum_classes(
    shares: Singles, classes: Singles, words: int, first: int, queries: int, sums: Singles
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
def gather_pairs(share: Singles, pair: Ints, base: int, result: Singles) -> None:
    """Store ``share`` [W' * W] of each ``pair`` [P] in ``result`` [P]. Pairs are counted over the
    batch; the passage's first pair is ``base``."""
    for i in range(len(pair)):
        result[i] = share[pair[i] - base]


@numba_kernel
def find_strongest(
    share: Singles,
    row: Ints,
    base: int,
    first: int,
    queries: int,
    word: NDArray[np.int64],
    weight: Singles,
) -> None:
    """Find the words with the largest ``share`` [W' * W] in each ``row`` [S].

    Their indices are stored in ``word`` [S, M] and their shares in ``weight`` [S, M], descending,
    with zeros where there are fewer earlier words. Rows are counted over the batch; the passage's
    first row is ``base``.
    """
    most = word.shape[1]
    for i in range(len(row)):
        r = row[i] - base
        for m in range(most):
            weight[i, m] = 0
            word[i, m] = 0
        # Insertion into a short sorted list
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
    share: Singles,
    r: int,
    first: int,
    queries: int,
    lowest: int,
    admitted: Singles,
) -> int:
    """Return the word with the largest ``share`` [W' * W] in row ``r``, or -1 if it is not unique
    or zero.

    Candidates are the earlier words from ``lowest`` on for which ``admitted`` [W'] is 1; all of
    them if ``admitted`` is empty.
    """
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
