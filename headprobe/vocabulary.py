"""The vocabulary that every folder shares: heads, relations, axes, and kinds of word pairs.

Axes. Docstrings name the axes of arrays by one letter each. Of arrays in run folders, and of what
is computed from them: B batch, T token, W word, I instance, F fold, L layer, H query head, R
relation, D distance, C cell (a domain and an output fold), V value dimension of a head, K distinct
token, X example row, N flattened head (layer * heads + head), G domain, Y category, M deprel pair,
O quadrant, A sampled row, E sequence of repeated random tokens, Q sketched row, J distance in a
sketch. A module that needs other letters, or one of these with another meaning, lists them under
"Letters in shapes" in its docstring:
``batching`` (layout, batches, batch_instances), ``model.attention`` and ``measure`` (layer_view,
torch_view, numba_kernels) do for what one forward pass has.

Kinds of word pairs. A *category* is a word distance, the part of speech of the query word and that
of the earlier word (docs/method.md). A *deprel pair* is the dependency labels of the two words.
A *quadrant* says which half of the documents and which half of the earlier words' forms a pair
belongs to (docs/method.md). Their numbers mean the same in every run, so that sums over them can
be added across runs.

Repeated random tokens (docs/method.md, Roles). Each sequence is a series of distinct random tokens,
repeated once. For a row of the repetition, the *duplicate* is the earlier copy of the same token
and the *induction* target is the token after that copy.
"""

import math
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from headprobe.errors import HeadprobeError

if TYPE_CHECKING:  # commands that only print text start without numpy
    import numpy as np
    from numpy.typing import NDArray

    from headprobe.arrays import Ints

FOLDS = 64
"""Number of document folds, and of form folds, of every statistic (docs/method.md)."""

OUTPUT_FOLDS = 16
"""Number of document folds of head outputs; each joins four of the ``FOLDS``. The sums of outputs
are vectors, and 64 of them for each domain and each of 1,024 heads would need a third of a
gigabyte."""

MAX_DISTANCE = 511
"""The largest word distance that is counted exactly; longer distances count as this one
(docs/method.md, Baselines)."""

SKETCH_ROWS = 256
"""The most rows of a run whose attention is kept, to compare heads of different models."""

SKETCH_WORDS = 64
"""The number of nearest earlier words whose attention is kept of each of these rows."""

_HEAD = re.compile(r"(?:L([0-9]{1,9})H([0-9]{1,9})|([0-9]{1,9})[.-]([0-9]{1,9}))", re.IGNORECASE)


def head_name(layer: int, head: int) -> str:
    """Return ``L{layer}H{head}``; both are 0-based."""
    return f"L{layer}H{head}"


def parse_head(name: str | Sequence[int]) -> tuple[int, int]:
    """Parse ``"L12H5"``, ``"l12h5"``, ``"12.5"``, ``"12-5"`` or ``(12, 5)`` into (layer, head).

    Raises HeadprobeError for anything else.
    """
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


def is_head(name: str) -> bool:
    """Return whether ``name`` is written as the name of a head."""
    return _HEAD.fullmatch(name.strip()) is not None


Scope = Literal["sentence", "passage"]
"""Where the candidates of a relation come from."""


CandidateRule = Literal["any", "other-form", "same-upos"]
"""Which words of the scope are candidates: any; those of another lower-cased form than the query's;
or those with the query's part of speech and another lemma."""

ANAPHORS = ("pronoun", "nominal", "proper")
"""The coreference relations, named after the kind of anaphor."""

POOLED = "anaphor"
"""The name of the union of the coreference relations ``ANAPHORS``."""

ANY_MARK = "any"
"""Name of the punctuation relation to marks of all classes."""

STRICT_SUFFIX = "-strict"
"""Suffix of the names of relations that exclude words of the query's own form."""


@dataclass(frozen=True, order=True, slots=True)
class Relation:
    """A relation from a query word to its target words, which all come earlier."""

    family: str
    """``syntax``, ``coreference``, ``punctuation``, ``word-class``, ``semantic``, ``repetition``,
    ``user`` for a relation of a probe file, or the family of a maker of your own
    (docs/architecture.md)."""

    name: str
    """The relation within its family, for example ``nsubj`` or ``pronoun``."""

    looks_to: str
    """What the targets are to the query word, for example ``head`` or ``antecedent``."""

    scope: Scope = "passage"
    """Which earlier words are candidates: those of the query's sentence, or of the passage."""

    strict: bool = False
    """Words with the query's own lower-cased form are neither targets nor candidates."""

    every: bool = False
    """Every usable word of a passage is a query, and its targets are all earlier words of the class
    ``name`` (docs/method.md, Relations). Otherwise each instance is an explicit link."""

    same_upos: bool = False
    """Only words with the query's part of speech and another lemma are targets or candidates."""

    twin: bool = False
    """The instances are those of the twins of passages (docs/method.md, Baselines). They serve one
    baseline of the relation that is equal otherwise, and nothing else."""

    @property
    def candidates(self) -> CandidateRule:
        """Which words of the scope are candidates."""
        if self.same_upos:
            return "same-upos"
        return "other-form" if self.strict else "any"


UPOS = (
    *("", "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART"),
    *("PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""Universal parts of speech; the empty string stands for none and for any other."""

DEPRELS = (
    *("", "acl", "advcl", "advmod", "amod", "appos", "aux", "case", "cc", "ccomp", "clf"),
    *("compound", "conj", "cop", "csubj", "dep", "det", "discourse", "dislocated", "expl"),
    *("fixed", "flat", "goeswith", "iobj", "list", "mark", "nmod", "nsubj", "nummod", "obj"),
    *("obl", "orphan", "parataxis", "punct", "reparandum", "root", "vocative", "xcomp"),
)
"""Universal dependency relations without subtypes; the empty string stands for none and for any
other."""

EXACT_BINS = 16
"""Word distances up to this one have a bin each; the bins of longer distances double in width."""

DISTANCE_BINS = EXACT_BINS + math.ceil(math.log2((MAX_DISTANCE + 1) / EXACT_BINS))
"""Number of bins of word distances."""

CATEGORIES = DISTANCE_BINS * len(UPOS) ** 2
"""Number of categories."""

DEPREL_PAIRS = len(DEPRELS) ** 2
"""Number of deprel pairs."""

QUADRANTS = 4
"""Number of quadrants."""

_NUMBER_OF_UPOS = MappingProxyType({name: number for number, name in enumerate(UPOS)})

_NUMBER_OF_DEPREL = MappingProxyType({name: number for number, name in enumerate(DEPRELS)})


def number_upos(names: Sequence[str]) -> "NDArray[np.int16]":
    """Return the index of each name in ``UPOS``."""
    import numpy as np

    return np.array([_NUMBER_OF_UPOS.get(name, 0) for name in names], dtype=np.int16)


def number_deprels(names: Sequence[str]) -> "NDArray[np.int16]":
    """Return the index of each name in ``DEPRELS``, without its subtype."""
    import numpy as np

    folded = (name.partition(":")[0] for name in names)
    return np.array([_NUMBER_OF_DEPREL.get(name, 0) for name in folded], dtype=np.int16)


def distance_bins(longest: int = MAX_DISTANCE) -> "Ints":
    """Return the bin of each word distance, [longest + 1].

    All distances beyond ``MAX_DISTANCE`` share the last bin. Index 0 is not a distance and holds
    -1.
    """
    import numpy as np

    distance = np.arange(longest + 1)
    doublings = np.floor(np.log2(np.maximum(distance - 1, 1) / EXACT_BINS)).astype(np.int64)
    bins = np.where(distance <= EXACT_BINS, distance - 1, EXACT_BINS + doublings)
    return np.minimum(bins, DISTANCE_BINS - 1).astype(np.int64)


def category(distance_bin: "Ints", query_upos: "Ints", earlier_upos: "Ints") -> "Ints":
    """Return category numbers, below ``CATEGORIES``; arrays and tensors broadcast."""
    return (distance_bin * len(UPOS) + query_upos) * len(UPOS) + earlier_upos


def deprel_pair(query_deprel: "Ints", earlier_deprel: "Ints") -> "Ints":
    """Return numbers of deprel pairs, below ``DEPREL_PAIRS``; arrays and tensors broadcast."""
    return query_deprel * len(DEPRELS) + earlier_deprel


def quadrant(document_fold: "Ints", earlier_form_fold: "Ints") -> "Ints":
    """Return two times the parity of the document fold plus the parity of the form fold, 0 to 3.

    The form fold is that of the earlier word's form. Pairs in quadrants 0 and 3 share neither
    documents nor forms, and the same holds for quadrants 1 and 2. Arrays broadcast.
    """
    return (document_fold % 2) * 2 + earlier_form_fold % 2


LAGS = tuple(range(12, 36))
"""Length in tokens of the random series that each sequence repeats. It is the distance from a row
to the earlier copy; the token after the copy is one closer. All lengths differ, so that no single
distance explains many hits."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Input that a scan leaves out: a row of ``skipped.csv``."""

    source: str
    """Where the input stands, for example ``file:line``."""

    what: str
    """Its kind: ``sentence``, ``mention``, ``word``, ``instance`` or ``twin``."""

    reason: str
    """Why it is left out."""

    count: int = 1
    """How many of this kind share the source and the reason."""


WORD_CLASS = "word-class"
"""Family of the relations to all earlier words of a part of speech."""

REPETITION = "repetition"
"""Family of the relation to earlier copies of a word, which only plain text files have."""

POSITIONAL, DUPLICATE, INDUCTION = "positional", "duplicate-token", "induction"
"""Roles that need no relation."""

UNNAMED, REDUNDANT, MIXED, NONE = "unnamed", "redundant", "mixed", "none"
"""Values of the role column that name no relation."""


_LARGEST = 2**63
"""No number of a run comes near it; NaN is not below it either."""


def build_value(kind: Any, value: Any) -> Any:  # noqa: PLR0911 - one for each kind
    """Build an instance of the type ``kind`` from ``value``, as parsed from JSON.

    ``kind`` may be a dataclass (unknown keys are ignored), an optional type, a variadic tuple, a
    mapping, a literal or a plain type. Raises TypeError where ``value`` has another type, and
    ValueError where it is an integer of more than 64 bits or no finite number.
    """
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
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{' or '.join(map(repr, arguments))} expected")
        return value
    if origin is not None:  # a mapping
        _expect(isinstance(value, dict), kind, value)
        return {key: build_value(arguments[1], item) for key, item in value.items()}
    if isinstance(value, int | float) and not -_LARGEST < value < _LARGEST:
        raise ValueError("a number is out of range")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _expect(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), kind, value)
    return value


def _expect(condition: bool, kind: Any, value: Any) -> None:
    if not condition:
        name = getattr(kind, "__name__", str(kind))
        raise TypeError(f"{name} expected, {type(value).__name__} found")
