"""The sums of a run: arrays with a name and named axes.

Every array is a sum, so the arrays of passages, processes and shards add to those of the run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headprobe.runs.arrays import (
    Declared,
    Kind,
    read_any_arrays,
    read_arrays,
    write_arrays,
)
from headprobe.runs.instances import Instances
from headprobe.runs.sketch import sketched_words
from headprobe.vocabulary import (
    CATEGORIES,
    DEPREL_PAIRS,
    FOLDS,
    LAGS,
    MAX_DISTANCE,
    QUADRANTS,
    SKETCH_WORDS,
)

AXES: Mapping[str, str] = MappingProxyType(
    {
        # Relations: one bit per instance and flattened head, eight heads to a byte, in the order of
        # Instances.first_instance; and sums over instances (docs/method.md, Relations), of `share`
        # by document fold and by form fold of the nearest target.
        "hits": "IZ",
        "mass": "RLH",
        "kept": "RLH",
        "share_norm": "RLH",
        "share_by_document": "RFLH",
        "share_by_form": "RFLH",
        # Instances in which the rule `embedding` chooses a target (docs/method.md, Baselines).
        "embedding_hits": "I",
        # Distance profiles: sums of stripped attention over usable pairs; index is distance - 1.
        "profile": "LHD",
        "profile_norm": "LHD",
        "profile_pairs": "D",
        # Sums of stripped attention by category, and by deprel pair within each quadrant (see
        # vocabulary).
        "category": "YLH",
        "deprel_pairs": "OMLH",
        # For each sampled row, the earlier word of the passage with the most attention: its place
        # in the passage from 1 (0: a tie, or nothing left), and the raw attention on all earlier
        # words together.
        "sampled_winner": "ALH",
        "sampled_kept": "ALH",
        # Repeated random tokens, by sequence: the rows of the repetition, the number of rows whose
        # earlier copy (induction: the token after it) gets the most attention among all earlier
        # tokens, and the raw attention on it.
        "copy_rows": "E",
        "duplicate_hits": "ELH",
        "duplicate_mass": "ELH",
        "induction_hits": "ELH",
        "induction_mass": "ELH",
        # Behaviour: sums over the rows of usable words; `distance` and `punctuation` only over
        # rows that have attention left after stripping.
        "rows": "",
        "rows_stripped": "LH",
        "sink": "LH",
        "self": "LH",
        "previous": "LH",
        "entropy": "LH",
        "distance": "LH",
        "punctuation": "LH",
        # Head outputs, in coordinates whose Euclidean norm is the norm after W_O.
        "output_rows": "C",
        "output_sum": "CLHV",
        "output_square": "CLH",
        "residual_square": "CL",
        # Pairs of heads, on sampled rows where both are active.
        "affinity": "NN",
        "cosine": "NN",
        "both_active": "NN",
        "sampled_rows": "",
        # Attention that whole columns receive, by token id and by position in the passage.
        "column_token": "LK",
        "column_token_rows": "K",
        "column_position": "LP",
        "column_position_rows": "P",
        "column_token_passages": "K",
        "column_position_passages": "P",
        # The sketch (docs/compare.md): stripped attention of each sketched row to the word that
        # stands 1, 2, ... words before it, and zero before the start of the passage.
        "sketch": "QLHJ",
        # Bits per character, on a sample of passages.
        "bits": "",
        "characters": "",
        # The words with the most attention of each example row: the place in the passage from 1
        # (0: none, so that the parts of a run add), and the raw attention.
        "example_word": "XLHS",
        "example_weight": "XLHS",
    }
)
"""The axes of every array: the letters of ``headprobe.vocabulary``, P for the position in the
passage, Z for bytes of packed heads and S for the rank of a word by its attention."""


COUNTS = frozenset(
    {
        *("hits", "embedding_hits", "profile_pairs", "sampled_winner"),
        *("copy_rows", "duplicate_hits", "induction_hits", "rows", "rows_stripped", "output_rows"),
        *("both_active", "sampled_rows", "column_token_rows", "column_position_rows"),
        *("column_token_passages", "column_position_passages", "characters", "example_word"),
    }
)
"""The arrays of integers; all others hold floating-point numbers."""

OPTIONAL = frozenset({"sketch"})
"""Arrays that runs of earlier versions lack."""

HALF = frozenset({"sketch"})
"""Arrays of half precision; all others of floating-point numbers but ``DOUBLE`` are saved in single
precision."""

DOUBLE = frozenset({"share_by_document", "share_by_form"})
"""Arrays that are saved in double precision: in a head that looks at its targets and nothing else,
a share just below 1 would be rounded to 1, which has no lift."""

BY_ROW = HALF | {"example_weight", "sampled_kept"}
"""Arrays of floating-point numbers whose rows are filled once, so that they add in any precision;
all others are added in double precision."""

_SIGNED = frozenset({"output_sum", "affinity", "cosine", "entropy", "bits"})
"""The arrays whose numbers may be below zero, entropy and bits by rounding."""

SPARSE: Mapping[str, str] = MappingProxyType(
    {"category": "y", "deprel_pairs": "m", "share_by_document": "u", "share_by_form": "w"}
)
"""Arrays [..., L, H] whose rows [L, H] are mostly zero, since a text has few of the possible kinds
of word pairs, and most relations few of the folds; and the axis of the rows that are stored."""

BITS = ("hits",)
"""Arrays of packed bits: every row is filled once, so that they too can be added."""

_PRESENT = ".met"
"""Suffix of the array, in the file, that marks which rows of a ``SPARSE`` array are stored."""


@dataclass(frozen=True)
class Tallies:
    """Sums by name (``AXES``): float64 while measuring, float32 once saved, int64, and bits, uint8.
    ``a + b`` are the sums over both texts."""

    arrays: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def __add__(self, other: "Tallies") -> "Tallies":
        if self.arrays.keys() != other.arrays.keys():
            raise ValueError("tallies of different statistics do not add")
        for name, array in self.arrays.items():
            if array.shape != other[name].shape:
                raise ValueError(f"{name} has the shapes {array.shape} and {other[name].shape}")
        return Tallies(
            {name: _add(name, array, other[name]) for name, array in self.arrays.items()}
        )

    def rounded(self) -> "Tallies":
        """The sums as ``save`` writes them, so that a scan judges the numbers that it saves."""
        return Tallies({name: _rounded(name, array) for name, array in self.arrays.items()})

    def first_spoiled(self) -> str | None:
        """The name of an array that holds NaN or infinity; None if all are finite."""
        spoiled = (name for name, sums in self.arrays.items() if not np.isfinite(sums).all())
        return next(spoiled, None)

    def save(self, path: Path) -> None:
        """Write all arrays to one ``.npz`` file, without pickles.

        Sums are rounded to single precision, that of the weights they add, except for ``DOUBLE``.
        Their digits are nearly random, so compression takes long and saves little; instead, rows of
        zeros are left out (``SPARSE``). Bits, counts and the arrays ``HALF`` are compressed.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for name, sums in self.arrays.items():
            array = _rounded(name, sums)
            if name in SPARSE:
                present = np.asarray(array.any(axis=(-2, -1)))
                arrays |= {name + _PRESENT: present, name: array[present]}
            else:
                arrays[name] = _narrow(array)
        compressed = [n for n, array in arrays.items() if n in HALF or array.dtype.kind != "f"]
        write_arrays(path, arrays, compressed)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote, whatever arrays these are; ``read_sums`` checks those of a run.

        ValueError if an array holds NaN or infinity; any of ``files.READ_ERRORS`` if the file is
        damaged.
        """
        found = read_any_arrays(path)
        names = [name for name in found if not name.endswith(_PRESENT)]
        sums = cls({name: _restored(name, found) for name in names})
        if spoiled := sums.first_spoiled():
            raise ValueError(f"{spoiled} holds NaN or infinity")
        return sums


def pack_heads(hits: NDArray[Any]) -> NDArray[np.uint8]:
    """Pack the hits [I, N] of all heads into bytes [I, Z], as in the array ``hits``."""
    return np.packbits(np.asarray(hits, dtype=np.bool_), axis=1)


def packed_bytes(heads: int) -> int:
    """The number of bytes Z of a packed row of hits."""
    return -(-heads // 8)


def unpack_heads(packed: NDArray[np.uint8], heads: int) -> NDArray[np.uint8]:
    """The hits [I, N], zeros and ones, of the ``heads`` N in packed rows [I, Z]."""
    return np.unpackbits(packed, axis=1, count=heads)


def load_array(
    path: Path, name: str, sizes: Mapping[str, int] = MappingProxyType({})
) -> NDArray[Any]:
    """Read only the array ``name`` of a run's sums; ``sizes`` are those of its axes that are known.

    Errors as from ``read_sums``.
    """
    return _load(path, sizes, (name,))[name]


def load_optional(path: Path, name: str, sizes: Mapping[str, int]) -> NDArray[Any] | None:
    """Read only the array ``name``; None where the run is of an earlier version that lacks it.

    Errors as from ``read_sums``.
    """
    return _load(path, sizes, (name,)).get(name)


def axis_sizes(layers: int, heads: int, instances: Instances | None = None) -> dict[str, int]:
    """The sizes of the axes of a run whose model has these ``layers`` and ``heads`` a layer.

    Without ``instances`` those sizes are left out that depend on the text.
    """
    sizes = {
        "L": layers,
        "H": heads,
        "N": layers * heads,
        "F": FOLDS,
        "D": MAX_DISTANCE,
        "E": len(LAGS),
        "Y": CATEGORIES,
        "M": DEPREL_PAIRS,
        "O": QUADRANTS,
        "Z": packed_bytes(layers * heads),
        "J": SKETCH_WORDS,
    }
    if instances is None:
        return sizes
    return sizes | {
        "R": len(instances.relations),
        "I": int(instances.first_instance[-1]),
        "G": len(instances.domains),
        "C": len(instances.cells),
        "X": len(instances.example_words),
        "A": len(instances.sampled_words),
        "Q": len(sketched_words(instances)),
    }


def least_bytes(sizes: Mapping[str, int]) -> int:
    """The bytes that a run's sums take at least, as far as the ``sizes`` of their axes are known.

    Arrays that are compressed do not count, nor the kinds of word pairs that a text does not have.
    """
    return sum(
        math.prod(sizes[axis] for axis in axes) * 4
        for name, axes in AXES.items()
        if name not in COUNTS | HALF | SPARSE.keys() and set(axes) <= sizes.keys()
    )


def read_sums(path: Path, layers: int, heads: int, instances: Instances) -> Tallies:
    """Read the sums of a run whose model has these ``layers`` and ``heads`` a layer.

    ValueError where they are not those of a measurement of ``instances``; any of
    ``files.READ_ERRORS`` if the file is damaged.
    """
    tallies = Tallies(_load(path, axis_sizes(layers, heads, instances), tuple(AXES)))
    _check_places(tallies, instances)
    return tallies


def _check_places(tallies: Tallies, instances: Instances) -> None:
    """Raise ValueError where an example or a sampled row names a word after its own."""
    for name, words in (
        ("example_word", instances.example_words),
        ("sampled_winner", instances.sampled_words),
    ):
        last = instances.place[words] + 1
        places = tallies[name].reshape(len(words), -1)
        if places.size and (places.max(axis=1) > last).any():
            raise ValueError(f"{name} names a later word")


def _declared(name: str) -> Declared:
    """What is known of an array in the file."""
    if name.endswith(_PRESENT):
        return Declared("flag", AXES[name.removesuffix(_PRESENT)][:-2])
    # Of sparse arrays only the rows that are present are in the file: an axis of their own.
    axes = SPARSE[name] + AXES[name][-2:] if name in SPARSE else AXES[name]
    if name in BITS:
        return Declared("count", axes, 0, 1 << 8)
    kind: Kind = "count" if name in COUNTS else "number"
    return Declared(
        kind, axes, None if name in _SIGNED else 0, 1 << 63 if kind == "count" else None
    )


def _load(path: Path, sizes: Mapping[str, int], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read arrays, as they were before ``Tallies.save`` made them smaller."""
    stored = [*names, *(name + _PRESENT for name in names if name in SPARSE)]
    declared = {name: _declared(name) for name in stored}
    only = None if names == tuple(AXES) else stored
    found = read_arrays(path, declared, sizes, only, OPTIONAL)
    return {name: _restored(name, found) for name in names if name in found}


def _restored(name: str, found: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    array = found[name]
    if array.dtype.kind == "u":
        array = array.astype(np.uint8 if name in BITS else np.int64)
    if name + _PRESENT not in found:
        return array
    present = found[name + _PRESENT]
    if np.count_nonzero(present) != len(array):
        raise ValueError(f"{name} has {len(array)} rows, and {np.count_nonzero(present)} marked")
    whole = np.zeros((*present.shape, *array.shape[1:]), array.dtype)
    whole[present] = array
    return whole


def _rounded(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Floating-point numbers in the precision in which they are saved; counts, and numbers that
    stand alone, unchanged."""
    if array.dtype.kind != "f" or array.ndim == 0 or name in DOUBLE:
        return array
    with np.errstate(over="ignore"):  # infinity is reported by `first_spoiled`
        return array.astype(np.float16 if name in HALF else np.float32, copy=False)


def _add(name: str, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    if one.dtype.kind != "f" or name in BY_ROW:
        return np.asarray(one + other)
    return np.asarray(np.add(one, other, dtype=np.float64))


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Counts in the smallest unsigned type that holds them; other arrays unchanged."""
    if array.dtype != np.int64 or array.min(initial=0) < 0:
        return array
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))
