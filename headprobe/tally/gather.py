"""Sums and picks of attention to words that is already stripped; shapes as in ``tally.strip``."""

import numpy as np
from numpy.typing import NDArray

from headprobe.tally.compiled import Floats, Ints, U, compiled


@compiled
def add_by_kind(
    share: Floats,
    kinds: NDArray[np.int16],
    first: int,
    sums: NDArray[np.float64],
    low: int,
    high: int,
) -> None:
    """Add ``share`` [B, G, W', S, W] to ``sums`` [H, KINDS], for heads from ``low`` to ``high``;
    every pair is of both ``kinds`` [2, B, W', W], where it is of any."""
    batch, _, words, shared, queries = share.shape
    for h in range(low, high):
        g, s = h // shared, h % shared
        for b in range(batch):
            for t in range(words):
                for r in range(U(max(t - first + 1, 0)), U(queries)):
                    one, other = kinds[0, b, t, r], kinds[1, b, t, r]
                    if one >= 0:
                        sums[h, one] += share[b, g, t, s, r]
                        sums[h, other] += share[b, g, t, s, r]


@compiled
def pick_shares(shares: Floats, pair: Ints, found: Floats) -> None:
    """Put the pairs of words ``pair`` [K] ((b * W' + earlier) * W + w) of ``shares``
    [2, B, G, W', S, W] in ``found`` [2, K, H]."""
    _, _, groups, words, shared, queries = shares.shape
    for i in range(len(pair)):
        r, t, b = pair[i] % queries, pair[i] // queries % words, pair[i] // (queries * words)
        for k in range(2):
            for g in range(groups):
                for s in range(shared):
                    found[k, i, g * shared + s] = shares[k, b, g, t, s, r]


@compiled
def pick_share(share: Floats, pair: Ints, found: Floats) -> None:
    """Put the pairs of words ``pair`` [P] ((b * W' + earlier) * W + w) of ``share``
    [B, G, W', S, W] in ``found`` [H, P]."""
    _, groups, words, shared, queries = share.shape
    for i in range(len(pair)):
        r, t, b = pair[i] % queries, pair[i] // queries % words, pair[i] // (queries * words)
        for g in range(groups):
            for s in range(shared):
                found[g * shared + s, i] = share[b, g, t, s, r]


@compiled
def find_strongest(
    share: Floats, row: Ints, first: int, word: NDArray[np.int64], weight: Floats
) -> None:
    """Put the words with the largest ``share`` in each ``row`` [I] (b * W + w), the largest first,
    in ``word`` [I, H, M], and these shares in ``weight``; 0 beyond the last earlier word."""
    _, groups, _, shared, queries = share.shape
    most = word.shape[2]
    for i in range(len(row)):
        b, r = row[i] // queries, row[i] % queries
        for h in range(groups * shared):
            g, s = h // shared, h % shared
            weight[i, h] = 0
            word[i, h] = 0
            for t in range(first + r):
                new = share[b, g, t, s, r]
                if new <= weight[i, h, most - 1]:
                    continue
                place = most - 1
                while place > 0 and new > weight[i, h, place - 1]:
                    weight[i, h, place] = weight[i, h, place - 1]
                    word[i, h, place] = word[i, h, place - 1]
                    place -= 1
                weight[i, h, place] = new
                word[i, h, place] = t


@compiled
def find_winners(
    share: Floats,
    row: Ints,
    of_sentence: NDArray[np.bool_],
    sentence: Ints,
    strict: Ints,
    other_form: Floats,
    first: int,
    winner: NDArray[np.int32],
) -> None:
    """Put in ``winner`` [I, H] who wins in each ``row`` [I] (b * W + w) that does not admit all
    earlier words: none but those of the sentence where ``of_sentence`` [I] (``sentence`` [B, W']),
    none but those that are 1 in its line of ``other_form`` [J, W'] where one of ``strict`` [J]."""
    _, groups, _, shared, queries = share.shape
    line = np.empty(len(row), np.int64)
    for i in range(len(row)):
        line[i] = -1
    for j in range(len(strict)):
        line[strict[j]] = j
    for i in range(len(row)):
        if not of_sentence[i] and line[i] < 0:
            continue
        b, r = row[i] // queries, row[i] % queries
        lowest = first + r
        while lowest > 0 and (
            not of_sentence[i] or sentence[b, lowest - 1] == sentence[b, first + r]
        ):
            lowest -= 1
        for h in range(groups * shared):
            g, s = h // shared, h % shared
            best, place = np.float32(0), -1
            for t in range(lowest, first + r):
                weight = share[b, g, t, s, r]
                if line[i] >= 0:
                    weight *= other_form[line[i], t]
                if weight > best:
                    best, place = weight, t
                elif weight == best:
                    place = -1
            winner[i, h] = place
