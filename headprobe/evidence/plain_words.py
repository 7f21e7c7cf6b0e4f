"""What can be said of a word without its label: where it stands, and how it is written.

Labels go with all of these (subjects open sentences, function words are short and frequent), so a
taste for one of them looks like a taste for labels that agrees over any split.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headprobe.evidence.arrays import Ints
from headprobe.store.instances import Instances

PLACES = (0, 1, 2, 4, 8, 16)
"""Where the places in a sentence that count as alike begin; from the last one on are the rest."""


class PlainWords:
    """``COUNT`` numbers for each pair of a query word and an earlier one: whether they share a
    sentence, or stand in neighbouring ones; the earlier word's place in its sentence, once for each
    case; its tokens and its frequency in the run (logarithms); whether it is capitalised."""

    COUNT = 2 + 2 * (len(PLACES) - 1) + 3

    def __init__(self, instances: Instances) -> None:
        self._sentence = instances.sentence.astype(np.int64)
        self._place = np.arange(len(instances.form)) - instances.sentence_first
        form = instances.folded_form
        capital = np.array([str(each)[:1].isupper() for each in instances.forms], dtype=np.bool_)
        self._written = np.array(
            [
                np.log(np.maximum(instances.tokens, 1)),
                np.log(np.bincount(form)[form]) if len(form) else form,
                capital[instances.form] if len(form) else form,
            ],
            dtype=np.float32,
        )

    def of(self, query: Ints, earlier: Ints) -> NDArray[np.float32]:
        """[P, COUNT] of pairs of word numbers [P] of one passage."""
        away = self._sentence[query] - self._sentence[earlier]
        place = self._place[earlier]
        same = away == 0
        there = [(place >= low) & (place < high) for low, high in pairwise(PLACES)]
        found = [
            same,
            away == 1,
            *(each & same for each in there),
            *(each & ~same for each in there),
        ]
        return np.array([*found, *self._written[:, earlier]], dtype=np.float32).T
