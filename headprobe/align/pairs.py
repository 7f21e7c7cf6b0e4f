"""The word pairs of a batch by kind, so that a layer's attention is summed in one gather."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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


@dataclass(frozen=True)
class WordPairs:
    """All P pairs of a usable word and a usable earlier word of its passage.

    ``members`` [2 P] are pairs, (passage * W' + earlier word) * W + word with W counting query
    words, in the order of their kinds, cut into runs of one ``kind`` [S] each, which start at
    ``first`` [S].
    """

    members: Tensor
    first: Tensor
    kind: Tensor


def pair_words(
    usable: NDArray[np.bool_],
    upos: NDArray[np.integer],
    deprel: NDArray[np.integer],
    form_fold: NDArray[np.integer],
    document_fold: NDArray[np.integer],
    first_word: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """The fields of ``WordPairs``, of words [B, W'] and their passages' ``document_fold`` [B], the
    query words being those from ``first_word`` on."""
    both = usable[:, :, None] & usable[:, None, :]
    queries = np.tril(both, -1)[:, first_word:]
    passage, row, earlier = np.nonzero(queries)
    word = row + first_word

    def ends(of_words: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        wide = of_words.astype(np.int64)
        return wide[passage, word], wide[passage, earlier]

    by_category = category(_BINS[np.minimum(word - earlier, LONGEST)], *ends(upos))
    folds = document_fold.astype(np.int64)[passage], ends(form_fold)[1]
    by_deprel = DEPREL_PAIRS * quadrant(*folds) + deprel_pair(*ends(deprel))
    kinds = np.concatenate([by_category, CATEGORIES + by_deprel])
    # sorting numbers of 16 bits takes a tenth of the time
    order = np.argsort(kinds.astype(np.min_scalar_type(KINDS)), kind="stable")
    kinds = kinds[order]
    starts = np.diff(kinds, prepend=-1) > 0
    starts[::RUN] = True
    first = np.flatnonzero(starts)
    place = (passage * usable.shape[1] + earlier) * queries.shape[1] + row
    return {
        "members": place[order % max(len(word), 1)],
        "first": first,
        "kind": kinds[first],
    }
