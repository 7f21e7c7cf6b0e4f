"""Loops over instances as machine code: what each head would choose, and whether it is a target.

Arrays are laid out as in ``analysis.kernels``. Q is the number of query rows in a block, D that of
distances in a profile, N that of all heads. Candidates are those of ``analysis.candidates``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.kernels import N_UPOS, U
from headprobe.arrays import Floats, Ints
from headprobe.compiled import numba_kernel
from headprobe.vocabulary import MAX_DISTANCE

TAIL_STEP = 16
"""Words between two looks at whether farther words can still be the best."""

LOST = 1e-3
"""The least share of a sum that corrections may leave; it is then accurate to about 1e-11."""


@numba_kernel
def choose_by_distance(
    query: Ints,
    first: Ints,
    usable: NDArray[np.bool_],
    tokens: Ints,
    most_tokens: Ints,
    required: Ints,
    excluded: Ints,
    profile: Floats,
    tail: Floats,
    heads: int,
    habit: Any,
    by_length: Any,
) -> None:
    """Fill ``habit`` and ``by_length`` [Q * B] with the distance of each head's best candidate.

    Candidates are the ``usable`` words from ``first`` [Q] to the query that share its ``required``
    number, and not its ``excluded`` one (``Instances.candidate_keys``). The best has the largest
    value of ``profile`` [D * B] at its distance, or the largest such value times ``tokens``; the
    nearer of equal ones. Of the candidates in the last bin only the nearest counts.

    ``tail`` [D * B] is the largest value of the profile from each distance on, and ``most_tokens``
    [W] the largest number of tokens up to each word of its passage. Where no farther word can be
    better for any head, the search ends.
    """
    wide = U(heads)
    best, longest = np.empty(heads), np.empty(heads)
    for q in range(len(query)):
        to = U(q) * wide
        for h in range(wide):
            best[h] = longest[h] = -1
            habit[to + h] = by_length[to + h] = 1
        for word in range(query[q] - 1, first[q] - 1, -1):
            distance = query[q] - word
            if distance % TAIL_STEP == 0:
                at = U(min(distance, MAX_DISTANCE) - 1) * wide
                most, open_heads = np.float64(most_tokens[word]), 0
                for h in range(wide):
                    open_heads += (tail[at + h] > best[h]) | (most * tail[at + h] > longest[h])
                if open_heads == 0:
                    break
            if (
                not usable[word]
                or required[word] != required[query[q]]
                or excluded[word] == excluded[query[q]]
            ):
                continue
            at, size = U(min(distance, MAX_DISTANCE) - 1) * wide, np.float64(tokens[word])
            near = np.int32(distance)
            for h in range(wide):
                value = profile[at + h]
                scaled = size * value
                habit[to + h] = near if value > best[h] else habit[to + h]
                best[h] = max(best[h], value)
                by_length[to + h] = near if scaled > longest[h] else by_length[to + h]
                longest[h] = max(longest[h], scaled)
            if distance >= MAX_DISTANCE:
                break


@numba_kernel
def choose_by_category(
    order: Ints,
    query: Ints,
    first: Ints,
    usable: NDArray[np.bool_],
    upos: Ints,
    required: Ints,
    excluded: Ints,
    bins: Ints,
    values: Any,
    heads: int,
    chosen: Any,
) -> None:
    """Fill ``chosen`` [Q * B] with the distance of each head's best candidate.

    Candidates are those of ``choose_by_distance``. The best is in the category with the largest of
    ``values`` [U * K * B]; the nearer of equal ones. Only the nearest candidate of each category
    can be the best, so the others are skipped.

    Queries are visited in ``order`` [Q]. If they are sorted by part of speech, the values that they
    need stay in the processor's cache.
    """
    wide, of_query = U(heads), U(len(values) // N_UPOS)
    latest = np.full((bins[-1] + 1) * N_UPOS, -1, np.int64)
    best = np.empty(heads, values.dtype)
    for q in order:
        to, row = U(q) * wide, U(upos[query[q]]) * of_query
        for h in range(wide):
            best[h] = -1
            chosen[to + h] = 1
        for word in range(query[q] - 1, first[q] - 1, -1):
            if (
                not usable[word]
                or required[word] != required[query[q]]
                or excluded[word] == excluded[query[q]]
            ):
                continue
            distance = query[q] - word
            column = bins[min(distance, MAX_DISTANCE)] * N_UPOS + upos[word]
            if latest[column] == q:
                continue
            latest[column] = q
            at, near = row + U(column) * wide, np.int32(distance)
            for h in range(wide):
                value = values[at + h]
                chosen[to + h] = near if value > best[h] else chosen[to + h]
                best[h] = max(best[h], value)


@numba_kernel
def sum_profiles(
    query: Ints,
    first: Ints,
    passage_first: Ints,
    usable: NDArray[np.bool_],
    tokens: Ints,
    required: Ints,
    excluded: Ints,
    odd: Ints,
    odd_first: Ints,
    odd_stop: Ints,
    is_whole: bool,
    profile: Floats,
    norm: Floats,
    profile_until: Floats,
    norm_until: Floats,
    heads: int,
    inverses: Floats,
) -> None:
    """Fill ``inverses`` [4, Q * B] with 1 / (sum of a profile over earlier words), 0 if that is 0.

    The sums are those of ``profile`` [D * B] over the candidates (``choose_by_distance``), and over
    all usable words from ``passage_first`` [Q] to the query that of ``norm``, of ``profile`` and of
    ``profile`` times ``tokens``. With ``is_whole``, these words are the candidates.

    Nearly all words are usable, and most have one token. So a sum is that of all distances, from
    the running sums ``profile_until`` and ``norm_until`` [D * B], corrected for the other words:
    ``odd`` are those of the run, in row q those from ``odd_first[q]`` to ``odd_stop[q]``. Where
    the corrections leave too little of a sum to be accurate, it is added up word by word.
    """
    wide = U(heads)
    plain, moved, weighted = np.empty(heads), np.empty(heads), np.empty(heads)
    candidates = np.empty(heads)
    for q in range(len(query)):
        before = query[q] - passage_first[q]
        last = U(max(min(before, MAX_DISTANCE), 1) - 1) * wide
        beyond = np.float64(max(before - MAX_DISTANCE, 0))
        some = np.float64(before > 0)
        for h in range(wide):
            plain[h] = some * (profile_until[last + h] + beyond * profile[last + h])
            moved[h] = some * (norm_until[last + h] + beyond * norm[last + h])
            weighted[h] = plain[h]
            candidates[h] = 0
        near, until = odd[odd_first[q] : odd_stop[q]], query[q]
        lost = _correct(near, until, usable, tokens, profile, norm, plain, moved, weighted)
        if lost:
            whole, whole_norm = profile_until[last : last + wide], norm_until[last : last + wide]
            if not (_are_accurate(plain, whole) and _are_accurate(moved, whole_norm)):
                start = passage_first[q]
                _sum_usable(start, until, usable, tokens, profile, norm, plain, moved, weighted)
        if is_whole:
            candidates[:] = plain
        else:
            for word in range(first[q], until):
                suits = required[word] == required[until] and excluded[word] != excluded[until]
                if usable[word] and suits:
                    at = U(min(until - word, MAX_DISTANCE) - 1) * wide
                    for h in range(wide):
                        candidates[h] += profile[at + h]
        to = U(q) * wide
        for h in range(wide):
            inverses[0, to + h] = 1 / candidates[h] if candidates[h] > 0 else 0.0
            inverses[1, to + h] = 1 / moved[h] if moved[h] > 0 else 0.0
            inverses[2, to + h] = 1 / plain[h] if plain[h] > 0 else 0.0
            inverses[3, to + h] = 1 / weighted[h] if weighted[h] > 0 else 0.0


@numba_kernel
def _correct(
    odd: Ints,
    query: int,
    usable: NDArray[np.bool_],
    tokens: Ints,
    profile: Floats,
    norm: Floats,
    plain: Floats,
    moved: Floats,
    weighted: Floats,
) -> bool:
    """Correct the sums [B] of one row for the ``odd`` words before the query; return whether any
    is unusable, so that something was subtracted."""
    wide, lost = U(len(plain)), False
    for word in odd:
        at = U(min(query - word, MAX_DISTANCE) - 1) * wide
        more = np.float64(tokens[word] - 1)
        if usable[word]:
            for h in range(wide):
                weighted[h] += more * profile[at + h]
        else:
            lost = True
            for h in range(wide):
                plain[h] -= profile[at + h]
                moved[h] -= norm[at + h]
                weighted[h] -= profile[at + h]
    return lost


@numba_kernel
def _are_accurate(sums: Floats, whole: Floats) -> bool:
    """Whether enough of each sum [B] is left after subtraction."""
    n_small = 0
    for h in range(U(len(sums))):
        n_small += sums[h] < LOST * whole[h]
    return n_small == 0


@numba_kernel
def _sum_usable(
    first: int,
    query: int,
    usable: NDArray[np.bool_],
    tokens: Ints,
    profile: Floats,
    norm: Floats,
    plain: Floats,
    moved: Floats,
    weighted: Floats,
) -> None:
    """Fill the sums [B] of one row, word by word."""
    wide = U(len(plain))
    for h in range(wide):
        plain[h] = moved[h] = weighted[h] = 0
    for word in range(first, query):
        if usable[word]:
            at = U(min(query - word, MAX_DISTANCE) - 1) * wide
            size = np.float64(tokens[word])
            for h in range(wide):
                plain[h] += profile[at + h]
                moved[h] += norm[at + h]
                weighted[h] += size * profile[at + h]


@numba_kernel
def add_target_shares(
    query: Ints,
    first: Ints,
    stop: Ints,
    targets: Ints,
    tokens: Ints,
    row: Ints,
    relation: Ints,
    document: Ints,
    form: Ints,
    folds: int,
    profile: Floats,
    norm: Floats,
    inverses: Floats,
    heads: int,
    start: int,
    all_heads: int,
    expected: Floats,
    share_norm: Floats,
    by_document: Floats,
    by_form: Floats,
) -> None:
    """Add the shares of the targets in the profiles to sums by relation, and by fold.

    Instance i has the ``targets`` from ``first[i]`` to ``stop[i]``. ``profile`` and ``norm`` are
    [D * B], and ``inverses`` [4, Q * B] those of ``sum_profiles`` in its ``row``. The sums are
    ``expected`` and ``share_norm`` [R * N] by ``relation``, and ``by_document`` and ``by_form``
    [2, R * F * N] by its folds, in the profile and in the profile times ``tokens``. The heads of
    the block are those from ``start`` on.
    """
    wide, total = U(heads), U(all_heads)
    plain, moved, weighted = np.empty(heads), np.empty(heads), np.empty(heads)
    for i in range(len(query)):
        for h in range(wide):
            plain[h] = moved[h] = weighted[h] = 0
        for t in range(first[i], stop[i]):
            at = U(min(query[i] - targets[t], MAX_DISTANCE) - 1) * wide
            size = np.float64(tokens[targets[t]])
            for h in range(wide):
                plain[h] += profile[at + h]
                moved[h] += norm[at + h]
                weighted[h] += size * profile[at + h]
        at, to = U(row[i]) * wide, U(relation[i]) * total + U(start)
        of_document = (U(relation[i]) * U(folds) + U(document[i])) * total + U(start)
        of_form = (U(relation[i]) * U(folds) + U(form[i])) * total + U(start)
        for h in range(wide):
            expected[to + h] += plain[h] * inverses[0, at + h]
            share_norm[to + h] += moved[h] * inverses[1, at + h]
            share = plain[h] * inverses[2, at + h]
            by_document[0, of_document + h] += share
            by_form[0, of_form + h] += share
            by_tokens = weighted[h] * inverses[3, at + h]
            by_document[1, of_document + h] += by_tokens
            by_form[1, of_form + h] += by_tokens


@numba_kernel
def pack_hits(
    low: int,
    high: int,
    number: Ints,
    row: Ints,
    query: Ints,
    first: Ints,
    stop: Ints,
    targets: Ints,
    width: int,
    chosen: Any,
    heads: int,
    packed: NDArray[np.uint8],
) -> None:
    """Pack whether each head's choice is a target, for the instances from ``low`` to ``high``.

    ``chosen`` [Q * N] is the distance of the word that each head chooses in each row, at most
    ``width``. The bits of an instance go to its row ``number`` of ``packed`` [I * Z], in the order
    of ``runs.sums.pack_heads``.
    """
    is_target = np.zeros(width + 1, np.uint8)
    wide, whole = U(heads), U(heads) // U(8)
    size = U((heads + 7) // 8)
    for i in range(low, high):
        word = query[row[i]]
        for t in range(first[i], stop[i]):
            is_target[word - targets[t]] = 1
        at, to = U(row[i]) * wide, U(number[i]) * size
        for z in range(whole):
            bits = np.uint8(0)
            for k in range(U(8)):
                bits = np.uint8(bits << 1) | is_target[U(chosen[at + z * U(8) + k])]
            packed[to + z] = bits
        if whole < size:
            bits, place = np.uint8(0), np.uint8(7)
            for h in range(whole * U(8), wide):
                bits |= np.uint8(is_target[U(chosen[at + h])] << place)
                place -= np.uint8(1)
            packed[to + whole] = bits
        for t in range(first[i], stop[i]):
            is_target[word - targets[t]] = 0
