"""Names of heads, and one letter for each axis of an array.

B batch, T token, W word, I instance, F fold, L layer, H query head, R relation, D distance,
C cell (a domain and an output fold), V value dimension of a head, K distinct token, X example row,
N flattened head (layer * heads + head), G domain, Y category, M deprel pair and O quadrant (see
``vocabulary``), A sampled row, E sequence of repeated random tokens.

What a head can be asked to look for.

Kinds of word pairs, in numbers that mean the same in every run, so that sums over them add.

A *category* is a word distance, the part of speech of the query word and that of the earlier word
(METHOD section 3); a *deprel pair* the dependency labels of the two words, and a *quadrant* says
into which half of the documents and of the earlier words' forms a pair falls (section 4).

Repeated random tokens: what is asked of heads that copy (METHOD section 5).

Each sequence is a run of different random tokens, said twice. In the rows of the repetition the
*duplicate* is the same token's earlier copy, and the *induction* target the token after it.

What was left out, and why.
"""

import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from headprobe.errors import HeadprobeError

FOLDS = 64
"""Document folds, and form folds, of every statistic (METHOD section 4)."""

OUTPUT_FOLDS = 16
"""Document folds of head outputs, each of four of the others: their sums are vectors, and 64 of
them for each domain and each of 1,024 heads would fill a third of a gigabyte."""

LONGEST = 511
"""Word distances are exact up to here; longer ones count as this one (METHOD section 3)."""

_HEAD = re.compile(r"(?:L(\d+)H(\d+)|(\d+)[.-](\d+))", re.IGNORECASE)


def head_name(layer: int, head: int) -> str:
    """``L{layer}H{head}``, both 0-based."""
    return f"L{layer}H{head}"


def parse_head(name: str | Sequence[int]) -> tuple[int, int]:
    """(layer, head) of ``"L12H5"``, ``"l12h5"``, ``"12.5"``, ``"12-5"`` or ``(12, 5)``;
    HeadprobeError for anything else."""
    if isinstance(name, str):
        match = _HEAD.fullmatch(name.strip())
        numbers = [int(number) for number in match.groups() if number is not None] if match else []
    else:
        numbers = [int(number) for number in name if isinstance(number, SupportsIndex)]
        numbers = numbers if len(numbers) == len(name) and min(numbers, default=0) >= 0 else []
    if len(numbers) != 2:
        raise HeadprobeError(
            f"head {name!r}", "not the name of a head", "Write it as L12H5, both counted from 0"
        )
    return numbers[0], numbers[1]


Scope = Literal["sentence", "passage"]


@dataclass(frozen=True, order=True, slots=True)
class Relation:
    """A query word, the earlier words that are its targets, and what they compete with.

    ``scope`` says which earlier words are candidates: those of the query's sentence or those of the
    whole passage. With ``strict`` the words that have the query's own lower-cased form are neither
    targets nor candidates. With ``every`` each usable word of a passage is a query and the targets
    are all earlier words of the class ``name`` (METHOD section 2, punctuation); otherwise each
    instance is a link of its own.
    """

    family: str
    name: str
    looks_to: str
    scope: Scope = "passage"
    strict: bool = False
    every: bool = False


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


LAGS = tuple(range(12, 36))
"""Tokens of the run that each sequence says twice, so the distance from a row to its copy (one less
to the token after it); all different, so that no distance by itself explains many hits."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """One thing left out: a row of ``skipped.csv``; ``count`` such share source and reason."""

    source: str
    what: str
    reason: str
    count: int = 1


def build_value(kind: Any, value: Any) -> Any:
    """``value`` as JSON gave it, as the type ``kind``; TypeError or KeyError where it cannot be."""
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        _expect(isinstance(value, dict), kind, value)
        known = [f.name for f in fields(kind) if f.name in value]
        return typing.cast(Any, kind)(
            **{name: build_value(hints[name], value[name]) for name in known}
        )
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else build_value(arguments[0], value)
    if origin is tuple:
        _expect(isinstance(value, list), kind, value)
        return tuple(build_value(arguments[0], item) for item in value)
    if origin is not None:  # the mappings
        _expect(isinstance(value, dict), kind, value)
        return {key: build_value(arguments[1], item) for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _expect(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), kind, value)
    return value


def _expect(holds: bool, kind: Any, value: Any) -> None:
    if not holds:
        name = getattr(kind, "__name__", str(kind))
        raise TypeError(f"{name} expected, {type(value).__name__} found")


POSITIONAL, DUPLICATE, INDUCTION = "positional", "duplicate-token", "induction"

UNNAMED, REDUNDANT, MIXED, NONE = "unnamed", "redundant", "mixed", "none"
