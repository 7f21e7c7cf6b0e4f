"""Rows of a batch that are looked at one by one, as indices."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def rows_of(
    words: NDArray[np.integer], word_rows: Sequence[slice]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[S]: the rows (b * W + w) of the ``words`` in a batch, ascending word numbers of the run; and
    [S] their places in ``words``."""
    places = [np.arange(*np.searchsorted(words, [s.start, s.stop])) for s in word_rows]
    place = np.concatenate(places).astype(np.int64)
    passage = np.repeat(np.arange(len(word_rows)), [len(each) for each in places])
    base = np.array([span.start for span in word_rows])
    length = max(span.stop - span.start for span in word_rows)
    return passage * length + words[place] - base[passage], place


def with_earlier(rows: NDArray[np.int64], words: int, first_word: int) -> NDArray[np.int64]:
    """[P]: the pairs (b * W' + earlier) * W + w of rows b * W + w, one row after another, where W
    of the ``words`` W' are query words, from ``first_word`` on."""
    queries = words - first_word
    passage, row = np.divmod(rows, max(queries, 1))
    counts = first_word + row
    earlier = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    found: NDArray[np.int64] = np.repeat(passage * words * queries + row, counts)
    found += earlier * queries
    return found
