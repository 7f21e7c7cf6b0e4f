"""The sketch of a run: which rows it has, and which rows two sketches share (docs/compare.md).

The sketch keeps the attention of a few words, in the array ``sketch`` of the sums. Its words are
chosen by a hash of their names - document, sentence and place - so that runs of one text sketch the
same words, whatever their tokenizers, passages and shards.

Letters in shapes: S shared rows; the others are those of ``vocabulary``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headprobe.arrays import Bools, Ints
from headprobe.runs.instances import Instances, Integers, smallest_keys
from headprobe.vocabulary import SKETCH_ROWS, SKETCH_WORDS

SKETCH_SEED = 20
"""The seed of the choice. It is the same in all runs, whatever their own seed."""

MIN_ROWS = 16
"""The fewest shared rows on which heads are compared."""


def sketched_words(instances: Instances) -> Integers:
    """[Q]: the word numbers of the sketched rows, ascending.

    They are the usable words with a usable earlier word in their passage, thinned to the
    ``SKETCH_ROWS`` with the smallest keys. Two runs that share most of their words share most of
    these rows, too.
    """
    before = instances.usable_before
    has_earlier = before[:-1] > before[instances.passage_first[instances.passage]]
    rows = np.flatnonzero(instances.usable & instances.in_text & has_earlier)
    return rows[smallest_keys(instances.word_keys(SKETCH_SEED)[rows], SKETCH_ROWS)]


@dataclass(frozen=True)
class SharedRows:
    """The rows that the sketches of two runs have in common, and the earlier words of each."""

    rows_a: Ints
    """[S]: the index of each row in the sketch of the first run."""

    rows_b: Ints
    """[S]: the index of the same row in the sketch of the second run."""

    words: Bools
    """[S, J]: whether both runs can use the word at this distance before the row."""

    def __len__(self) -> int:
        return len(self.rows_a)


def shared_rows(a: Instances, b: Instances) -> SharedRows:
    """Find the sketched rows that two runs share.

    A row is named by document, sentence and word, and must have the same form in both runs. Its
    earlier words count where both runs have them in the same passage, can use them, and spell them
    alike. Rows with fewer than two such words say nothing and are left out.
    """
    names_a, names_b = _names(a), _names(b)
    _, rows_a, rows_b = np.intersect1d(names_a, names_b, return_indices=True)
    known = np.isin(names_a[rows_a], np.concatenate([_repeated(a), _repeated(b)]), invert=True)
    rows_a, rows_b = rows_a[known], rows_b[known]
    forms, usable = zip(
        *(_words_before(each, rows) for each, rows in ((a, rows_a), (b, rows_b))), strict=True
    )
    alike = forms[0] == forms[1]
    words = usable[0][:, 1:] & usable[1][:, 1:] & alike[:, 1:]
    kept = alike[:, 0] & (words.sum(1) >= 2)
    return SharedRows(rows_a[kept], rows_b[kept], words[kept])


def _names(instances: Instances) -> NDArray[np.uint64]:
    """[Q]: the name of each sketched row, as a hash."""
    return instances.word_keys(SKETCH_SEED)[sketched_words(instances)]


def _repeated(instances: Instances) -> NDArray[np.uint64]:
    """The names of words that occur more than once: two probe files have a document of one id."""
    names = instances.word_keys(SKETCH_SEED)[instances.in_text]
    distinct, counts = np.unique(names, return_counts=True)
    return distinct[counts > 1]


def _words_before(instances: Instances, rows: Ints) -> tuple[NDArray[np.str_], Bools]:
    """[S, 1 + J] each: the form of the row's own word and of the words 1, 2, ... before it, and
    whether they are usable words of the row's passage."""
    word = sketched_words(instances)[rows]
    back = np.arange(SKETCH_WORDS + 1)
    exists = instances.place[word][:, None] >= back
    before = np.where(exists, word[:, None] - back, 0)
    return instances.forms[instances.form[before]], exists & instances.usable[before]
