"""The word pairs of a batch by kind."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headprobe.align.flat import NONE
from headprobe.axes import LONGEST
from headprobe.store.categories import (
    CATEGORIES,
    DEPREL_PAIRS,
    QUADRANTS,
    category,
    deprel_pair,
    distance_bins,
    quadrant,
)

KINDS = CATEGORIES + QUADRANTS * DEPREL_PAIRS
"""Every pair is of two kinds: its category, and (after these) its deprel pair by quadrant."""

RUN = 64
"""Pairs that are added up in single precision, before the sums are added in double."""

_BINS = distance_bins()


def pair_kinds(
    usable: NDArray[np.bool_],
    upos: NDArray[np.integer],
    deprel: NDArray[np.integer],
    form_fold: NDArray[np.integer],
    document_fold: NDArray[np.integer],
    first_word: int = 0,
) -> NDArray[np.int16]:
    """[2, B, W', W]: the two kinds of every pair of an earlier word and a query word, ``NONE``
    where one of them is not usable or it is not earlier; of words [B, W'] and their passages'
    ``document_fold`` [B], the query words being the last W, those from ``first_word`` on."""
    words = np.arange(usable.shape[1])
    distance = words[first_word:] - words[:, None]
    bins: Any = _BINS[np.clip(distance, 0, LONGEST)].astype(np.int16)

    def ends(of_words: NDArray[np.integer]) -> tuple[Any, Any]:
        narrow = of_words.astype(np.int16)
        return narrow[:, None, first_word:], narrow[:, :, None]

    document: Any = document_fold.astype(np.int16)[:, None, None]
    quadrants: Any = quadrant(document, ends(form_fold)[1])
    by_deprel = CATEGORIES + DEPREL_PAIRS * quadrants + deprel_pair(*ends(deprel))
    kinds = np.stack([category(bins, *ends(upos)), by_deprel])
    known = usable[:, None, first_word:] & usable[:, :, None] & (distance > 0)
    return np.where(known, kinds, np.int16(NONE))


@dataclass(frozen=True)
class WordPairs:
    """All P pairs of a usable word and a usable earlier word of its passage, by kind.

    ``members`` [2 P] are pairs, (passage * W' + earlier word) * W + word with W counting query
    words, in the order of their kinds, cut into runs of one ``kind`` [S] each, which start at
    ``first`` [S].
    """

    members: NDArray[np.int64]
    first: NDArray[np.int64]
    kind: NDArray[np.int64]


def in_runs(kinds: NDArray[np.int16]) -> WordPairs:
    """The pairs of ``pair_kinds``."""
    flat = kinds.reshape(2, -1)
    place = np.flatnonzero(flat[0] != NONE)
    found = flat[:, place].flatten()
    order = np.argsort(found, kind="stable")
    found = found[order]
    starts = np.diff(found, prepend=np.int16(NONE)) > 0
    starts[::RUN] = True
    first = np.flatnonzero(starts)
    return WordPairs(place[order % max(len(place), 1)], first, found[first].astype(np.int64))
