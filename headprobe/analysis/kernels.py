"""Loops over word pairs as machine code: the parts of judging that grow with words times heads.

All heads of a block lie side by side in the last axis, so that each step of a loop is a vector
operation over heads, and tables of one block stay in the processor's cache. Sums of a head do not
depend on the other heads of its block, nor on the number of threads.

Large arrays have one axis, because loops over others are not vectorised; docstrings give their
shapes. B is the number of heads in a block, K the number of categories that one query word can meet
(``pos_control``), Z the number of cells that it can meet: halves of forms times labels.
Rows are the usable words of a run, by passage; the pairs of a row are those with the ``earlier``
rows right before it.
"""

from itertools import pairwise, starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headprobe.arrays import Floats, Ints, Singles
from headprobe.compiled import numba_kernel, thread_count
from headprobe.vocabulary import DEPRELS, MAX_DISTANCE, UPOS

U = np.uintp

N_UPOS, N_DEPRELS = len(UPOS), len(DEPRELS)

CELLS = 2 * N_DEPRELS
"""Z: kinds of earlier words, by half of the forms and label."""

FLUSH = 256
"""Rows summed in single precision before they are added in double precision."""

CHUNK = 256
"""Rows whose inverse sums are in the processor's cache at a time (``add_offered``). One byte counts
them."""

MOST_IN_LANE = 255
"""Hits that one byte of a sum of packed hits can count."""

HEADS = 128
"""Heads in one block: the tables of a block stay in the processor's cache."""


def head_blocks(heads: int, size: int) -> list[slice]:
    """Cut the axis of heads into blocks of at most ``size``, as many for each thread."""
    threads = thread_count()
    count = min(heads, -(-heads // (size * threads)) * threads)
    edges = [number * heads // count for number in range(count + 1)] if count else []
    return list(starmap(slice, pairwise(edges)))


@numba_kernel
def count_columns(
    word: Ints, upos: Ints, earlier: Ints, bins: Ints, edges: Ints, columns: Any, counts: Any
) -> int:
    """Count the earlier words of each row by distance bin and part of speech.

    Row r has the entries ``edges[r]`` to ``edges[r + 1]`` of ``columns`` and ``counts``: pairs of
    ``bin * U + upos`` and a count. Returns the number of entries; if ``columns`` is empty, only
    this number and ``edges`` are computed.
    """
    place = np.full((bins[-1] + 1) * N_UPOS, -1, np.int64)
    entries = 0
    for r in range(len(word)):
        edges[r] = entries
        for other in range(r - 1, r - 1 - earlier[r], -1):
            distance = min(word[r] - word[other], MAX_DISTANCE)
            column = bins[distance] * N_UPOS + upos[other]
            if place[column] < edges[r]:
                place[column] = entries
                if len(columns):
                    columns[entries] = column
                    counts[entries] = 0
                entries += 1
            if len(columns):
                counts[place[column]] += 1
    edges[len(word)] = entries
    return entries


@numba_kernel
def count_pairs(word: Ints, upos: Ints, earlier: Ints, bins: Ints, counts: Ints) -> None:
    """Add the number of pairs in each category (``vocabulary``) to ``counts`` [Y]."""
    for r in range(len(word)):
        for other in range(r - earlier[r], r):
            distance = min(word[r] - word[other], MAX_DISTANCE)
            counts[(bins[distance] * N_UPOS + upos[r]) * N_UPOS + upos[other]] += 1


@numba_kernel
def sort_by_column(
    rows: Ints,
    edges: Ints,
    columns: Any,
    counts: Any,
    first_run: Ints,
    run_edges: Ints,
    run_columns: Any,
    row_in_chunk: NDArray[np.uint8],
    run_counts: Any,
) -> int:
    """Sort the entries of ``rows`` by chunk of ``CHUNK`` rows, then by column.

    The entries of one column in one chunk are a run. Run u has the entries ``run_edges[u]`` to
    ``run_edges[u + 1]`` of ``row_in_chunk`` and ``run_counts``, and the column ``run_columns[u]``;
    chunk c has the runs ``first_run[c]`` to ``first_run[c + 1]``. Returns the number of runs.
    """
    n_columns: Any = 1
    for place in range(len(rows)):
        for e in range(edges[rows[place]], edges[rows[place] + 1]):
            n_columns = max(n_columns, np.int64(columns[e]) + 1)
    sizes, ends = np.zeros(n_columns, np.int64), np.empty(n_columns, np.int64)
    runs, entries = 0, 0
    for chunk in range(len(first_run) - 1):
        start, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, len(rows))
        first_run[chunk] = runs
        for place in range(start, stop):
            for e in range(edges[rows[place]], edges[rows[place] + 1]):
                sizes[columns[e]] += 1
        for column in range(n_columns):
            ends[column] = entries
            if sizes[column] > 0:
                run_edges[runs], run_columns[runs] = entries, column
                runs += 1
                entries += sizes[column]
                sizes[column] = 0
        for place in range(start, stop):
            for e in range(edges[rows[place]], edges[rows[place] + 1]):
                at = ends[columns[e]]
                row_in_chunk[at], run_counts[at] = place - start, counts[e]
                ends[columns[e]] += 1
    first_run[-1], run_edges[runs] = runs, entries
    return runs


@numba_kernel
def add_offered(
    rows: Ints,
    edges: Ints,
    columns: Any,
    counts: Any,
    first_run: Ints,
    run_edges: Ints,
    run_columns: Any,
    row_in_chunk: NDArray[np.uint8],
    run_counts: Any,
    weights: Singles,
    heads: int,
    offered: Floats,
) -> None:
    """Add to ``offered`` [K * B] the sum over ``rows`` of count / (sum of count * weight).

    ``weights`` is [K * B]; the other arrays are those of ``count_columns`` and ``sort_by_column``.
    First come the inverse sums of a chunk of rows, then the sums of each column over the chunk:
    both only read what they add up. To add each entry of a row to its column instead, which would
    need no sorted entries, also writes for each entry, and took a fifth longer.
    """
    wide = U(heads)
    inverse, total = np.empty(CHUNK * heads, np.float32), np.empty(heads, np.float32)
    for chunk in range(len(first_run) - 1):
        start = chunk * CHUNK
        for place in range(start, min(start + CHUNK, len(rows))):
            low, high = edges[rows[place]], edges[rows[place] + 1]
            _weigh_entries(low, high, columns, counts, weights, wide, total)
            to = U(place - start) * wide
            for h in range(wide):
                inverse[to + h] = np.float32(1) / total[h] if total[h] > 0 else np.float32(0)
        for run in range(first_run[chunk], first_run[chunk + 1]):
            low, high = run_edges[run], run_edges[run + 1]
            _weigh_entries(low, high, row_in_chunk, run_counts, inverse, wide, total)
            to = U(run_columns[run]) * wide
            for h in range(wide):
                offered[to + h] += total[h]


@numba_kernel
def _weigh_entries(
    low: int, high: int, places: Any, counts: Any, values: Singles, wide: int, total: Singles
) -> None:
    """Fill ``total`` [B] with the sum of count * value over the entries from ``low`` to ``high``.

    The values of entry e are row ``places[e]`` of ``values`` [... * B].
    """
    for h in range(wide):
        total[h] = 0
    # Four entries at a time, so that the sums are read and written a quarter as often.
    fours = high - (high - low) % 4
    for e in range(low, fours, 4):
        at, count = U(places[e]) * wide, np.float32(counts[e])
        at_1, count_1 = U(places[e + 1]) * wide, np.float32(counts[e + 1])
        at_2, count_2 = U(places[e + 2]) * wide, np.float32(counts[e + 2])
        at_3, count_3 = U(places[e + 3]) * wide, np.float32(counts[e + 3])
        for h in range(wide):
            two = count * values[at + h] + count_1 * values[at_1 + h]
            total[h] += two + (count_2 * values[at_2 + h] + count_3 * values[at_3 + h])
    for e in range(fours, high):
        at, count = U(places[e]) * wide, np.float32(counts[e])
        for h in range(wide):
            total[h] += count * values[at + h]


@numba_kernel
def add_expected(
    rows: Ints,
    word: Ints,
    upos: Ints,
    earlier: Ints,
    kind: Ints,
    query_cell: Ints,
    bins: Ints,
    weights: Singles,
    heads: int,
    expected: Floats,
) -> None:
    """Add the attention that ``weights`` [U * K * B] imply to ``expected``.

    ``kind`` [R] is the cell of each word as an earlier word, ``query_cell`` [R] as a query.
    ``expected`` is [Z * Z * B], by query cell and kind.
    """
    wide, of_query = U(heads), U(len(weights) // N_UPOS)
    sums, inverse = np.empty(CELLS * heads, np.float32), np.empty(heads, np.float32)
    met, latest = np.empty(CELLS, np.int64), np.full(CELLS, -1, np.int64)
    for r in rows:
        n_met = 0
        for other in range(r - earlier[r], r):
            distance = min(word[r] - word[other], MAX_DISTANCE)
            column = bins[distance] * N_UPOS + upos[other]
            at = U(upos[r]) * of_query + U(column) * wide
            to = U(kind[other]) * wide
            if latest[kind[other]] == r:
                for h in range(wide):
                    sums[to + h] += weights[at + h]
            else:
                latest[kind[other]] = r
                met[n_met] = kind[other]
                n_met += 1
                for h in range(wide):
                    sums[to + h] = weights[at + h]
        _invert_sums(sums, met, n_met, wide, inverse)
        for m in range(n_met):
            at = U(met[m]) * wide
            to = (U(query_cell[r]) * U(CELLS) + U(met[m])) * wide
            for h in range(wide):
                expected[to + h] += sums[at + h] * inverse[h]


@numba_kernel
def _invert_sums(sums: Singles, met: Ints, n_met: int, wide: int, inverse: Singles) -> None:
    """``inverse`` [B] = 1 / (sum of ``sums`` [Z * B] over the cells ``met``), 0 where that is 0."""
    for h in range(wide):
        inverse[h] = 0
    for m in range(n_met):
        at = U(met[m]) * wide
        for h in range(wide):
            inverse[h] += sums[at + h]
    for h in range(wide):
        inverse[h] = np.float32(1) / inverse[h] if inverse[h] > 0 else np.float32(0)


@numba_kernel
def add_shifts(
    rows: Ints,
    word: Ints,
    upos: Ints,
    earlier: Ints,
    kind: Ints,
    query_cell: Ints,
    bins: Ints,
    sentence: Ints,
    group: Ints,
    groups: int,
    written: Singles,
    weights: Singles,
    heads: int,
    shifts: Floats,
) -> None:
    """Add to ``shifts`` [Z * Z * J * B] how each of J surface features shifts attention.

    ``sentence``, ``group`` [R] and ``written`` [3, R] are those of ``SurfaceFeatures``; the other
    arrays are those of ``add_expected``. ``rows`` should be sorted by ``query_cell``.
    """
    wide, of_query = U(heads), U(len(weights) // N_UPOS)
    features = 2 + 2 * groups + len(written)
    of_cell = U(features) * wide
    sums, inverse = np.empty(CELLS * heads, np.float32), np.empty(heads, np.float32)
    valued = np.empty(CELLS * features * heads, np.float32)
    partial = np.zeros(CELLS * features * heads, np.float32)
    means = np.empty(features * heads, np.float32)
    met, latest = np.empty(CELLS, np.int64), np.full(CELLS, -1, np.int64)
    pending = 0
    for place in range(len(rows)):
        r = rows[place]
        n_met = 0
        for other in range(r - earlier[r], r):
            distance = min(word[r] - word[other], MAX_DISTANCE)
            column = bins[distance] * N_UPOS + upos[other]
            at, cell = U(upos[r]) * of_query + U(column) * wide, kind[other]
            to, values = U(cell) * wide, U(cell) * of_cell
            if latest[cell] != r:
                latest[cell] = r
                met[n_met] = cell
                n_met += 1
                for h in range(wide):
                    sums[to + h] = 0
                for i in range(of_cell):
                    valued[values + i] = 0
            _add_weights(weights, at, np.float32(1), sums, to, wide)
            apart = sentence[r] - sentence[other]
            _add_features(
                weights, at, apart, group[other], groups, written, other, valued, values, wide
            )
        _invert_sums(sums, met, n_met, wide, inverse)
        _add_moved(sums, valued, met, n_met, wide, inverse, means, partial)
        pending += 1
        last = place == len(rows) - 1
        if last or pending == FLUSH or query_cell[rows[place + 1]] != query_cell[r]:
            pending = 0
            to = U(query_cell[r]) * U(CELLS) * of_cell
            for i in range(U(len(partial))):
                shifts[to + i] += partial[i]
                partial[i] = 0


@numba_kernel
def _add_features(
    weights: Singles,
    at: int,
    apart: int,
    group: int,
    groups: int,
    written: Singles,
    other: int,
    valued: Singles,
    to: int,
    wide: int,
) -> None:
    """Add weight times feature of one pair to ``valued`` [J * B], from ``to`` on.

    Most features of most pairs are 0; only the others are added.
    """
    one = np.float32(1)
    if apart < 2:
        _add_weights(weights, at, one, valued, to + U(apart) * wide, wide)
    if group >= 0:
        place = U(2 + group + (groups if apart else 0))
        _add_weights(weights, at, one, valued, to + place * wide, wide)
    for f in range(len(written)):
        value = written[f, other]
        if value != 0:
            place = U(2 + 2 * groups + f)
            _add_weights(weights, at, value, valued, to + place * wide, wide)


@numba_kernel
def _add_moved(
    sums: Singles,
    valued: Singles,
    met: Ints,
    n_met: int,
    wide: int,
    inverse: Singles,
    means: Singles,
    moved: Singles,
) -> None:
    """Add the derivative of one row's softmax to ``moved`` [Z * J * B].

    ``sums`` [Z * B] and ``valued`` [Z * J * B] hold the weights and weight times feature of the
    cells ``met``. ``means`` [J * B] is scratch for the features' means over the row.
    """
    of_cell = U(len(means))
    features = of_cell // wide
    for i in range(of_cell):
        means[i] = 0
    for m in range(n_met):
        values = U(met[m]) * of_cell
        for i in range(of_cell):
            means[i] += valued[values + i]
    for f in range(features):
        for h in range(wide):
            means[f * wide + h] *= inverse[h]
    for m in range(n_met):
        to, values = U(met[m]) * wide, U(met[m]) * of_cell
        for f in range(features):
            mean, at = f * wide, values + f * wide
            for h in range(wide):
                more = valued[at + h] - sums[to + h] * means[mean + h]
                moved[at + h] += inverse[h] * more


@numba_kernel
def _add_weights(
    weights: Singles, at: int, value: np.float32, sums: Singles, to: int, wide: int
) -> None:
    """Add ``value`` times the weights from ``at`` on to the ``sums`` from ``to`` on."""
    for h in range(wide):
        sums[to + h] += value * weights[at + h]


@numba_kernel
def sum_packed(
    low: int,
    high: int,
    packed: NDArray[np.uint8],
    order: Ints,
    edges: Ints,
    lanes: NDArray[np.uint64],
    heads: int,
    sums: Floats,
) -> None:
    """Fill the rows from ``low`` to ``high`` of ``sums`` [C * N] with hits of packed rows [I * Z].

    Row c is the sum over the instances ``order[edges[c]:edges[c + 1]]``. ``lanes`` [256] holds the
    eight bits of each byte in eight bytes of one number, so that one addition counts eight heads.
    """
    wide, size = U(heads), U((heads + 7) // 8)
    counts = np.zeros(size, np.uint64)
    for c in range(low, high):
        to, pending = U(c) * wide, 0
        for h in range(wide):
            sums[to + h] = 0
        for place in range(edges[c], edges[c + 1]):
            at = U(order[place]) * size
            for z in range(size):
                counts[z] += lanes[packed[at + z]]
            pending += 1
            if pending == MOST_IN_LANE or place == edges[c + 1] - 1:
                pending = 0
                for h in range(wide):
                    lane = counts[h >> U(3)] >> (U(8) * (h & U(7)))
                    sums[to + h] += np.float64(lane & np.uint64(255))
                for z in range(size):
                    counts[z] = np.uint64(0)


@numba_kernel
def add_squared_changes(
    sums: Floats, sizes: Floats, total: float, mean: Floats, changes: Floats
) -> None:
    """Add to ``changes`` [N] the squared changes of ``mean`` [N] when each group is left out.

    ``sums`` is [J * N] and ``sizes`` [J]; groups without instances are skipped.
    """
    wide = U(len(mean))
    for j in range(len(sizes)):
        if sizes[j] > 0:
            at, size, rest = U(j) * wide, sizes[j], total - sizes[j]
            for h in range(wide):
                change = (sums[at + h] - size * mean[h]) / rest
                changes[h] += change * change
