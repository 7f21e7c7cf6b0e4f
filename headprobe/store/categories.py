"""Kinds of word pairs, in numbers that mean the same in every run, so that sums over them add.

A *category* is a word distance, the part of speech of the query word and that of the earlier word
(METHOD section 3); a *deprel pair* the dependency labels of the two words, and a *quadrant* says
into which half of the documents and of the earlier words' forms a pair falls (section 4).
"""

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from headprobe.axes import LONGEST

Ints = NDArray[np.int64]

UPOS = (
    *("", "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART"),
    *("PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""Universal parts of speech; the first stands for none and for any other."""

DEPRELS = (
    *("", "acl", "advcl", "advmod", "amod", "appos", "aux", "case", "cc", "ccomp", "clf"),
    *("compound", "conj", "cop", "csubj", "dep", "det", "discourse", "dislocated", "expl"),
    *("fixed", "flat", "goeswith", "iobj", "list", "mark", "nmod", "nsubj", "nummod", "obj"),
    *("obl", "orphan", "parataxis", "punct", "reparandum", "root", "vocative", "xcomp"),
)
"""Universal dependency relations, subtypes folded; the first stands for none and for any other."""

EXACT = 16
"""Distances are exact up to here, then in bins that double."""

DISTANCE_BINS = EXACT + int(np.ceil(np.log2((LONGEST + 1) / EXACT)))

CATEGORIES = DISTANCE_BINS * len(UPOS) ** 2

DEPREL_PAIRS = len(DEPRELS) ** 2

QUADRANTS = 4

_NUMBER_OF_UPOS = MappingProxyType({name: number for number, name in enumerate(UPOS)})
_NUMBER_OF_DEPREL = MappingProxyType({name: number for number, name in enumerate(DEPRELS)})


def number_upos(names: Sequence[str]) -> NDArray[np.int16]:
    """Indices into ``UPOS``."""
    return np.array([_NUMBER_OF_UPOS.get(name, 0) for name in names], dtype=np.int16)


def number_deprels(names: Sequence[str]) -> NDArray[np.int16]:
    """Indices into ``DEPRELS``; subtypes are folded."""
    folded = (name.partition(":")[0] for name in names)
    return np.array([_NUMBER_OF_DEPREL.get(name, 0) for name in folded], dtype=np.int16)


def distance_bins(longest: int = LONGEST) -> Ints:
    """[longest + 1]: the bin of each word distance, 1 and up; all beyond ``LONGEST`` share the last
    (index 0 is no distance and says -1)."""
    distance = np.arange(longest + 1)
    doubled = EXACT + np.floor(np.log2(np.maximum(distance - 1, 1) / EXACT)).astype(np.int64)
    bins = np.where(distance <= EXACT, distance - 1, doubled)
    return np.minimum(bins, DISTANCE_BINS - 1).astype(np.int64)


def category(distance_bin: Ints, query_upos: Ints, earlier_upos: Ints) -> Ints:
    """Category numbers, below ``CATEGORIES``, by broadcasting (also of tensors)."""
    return (distance_bin * len(UPOS) + query_upos) * len(UPOS) + earlier_upos


def deprel_pair(query_deprel: Ints, earlier_deprel: Ints) -> Ints:
    """Numbers of deprel pairs, below ``DEPREL_PAIRS``, by broadcasting (also of tensors)."""
    return query_deprel * len(DEPRELS) + earlier_deprel


def quadrant(document_fold: Ints, earlier_form_fold: Ints) -> Ints:
    """0 to 3: two times the parity of the document fold, and the parity of the fold of the earlier
    word's form, by broadcasting. Pairs in quadrants 0 and 3 share neither documents nor forms, nor
    do those in 1 and 2."""
    return (document_fold % 2) * 2 + earlier_form_fold % 2
