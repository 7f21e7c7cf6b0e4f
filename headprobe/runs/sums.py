"""The sums of a run: arrays with a name and named axes.

Every array is a sum, so the arrays of passages, processes and shards add to those of the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from headprobe.runs.files import open_arrays

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


SPARSE = ("category", "deprel_pairs", "share_by_document", "share_by_form")
"""Arrays [..., L, H] whose rows [L, H] are mostly zero: a text has few of the possible kinds of
word pairs, and most relations few of the folds."""

BITS = ("hits",)
"""Arrays of packed bits: every row is filled once, so that they too can be added."""

_PRESENT = ".met"
"""Suffix of the array, in the file, that marks which rows of a ``SPARSE`` array are stored."""


@dataclass(frozen=True)
class Tallies:
    """Sums by name (``AXES``), float64 and int64, and bits, uint8. ``a + b`` are the sums over both
    texts."""

    arrays: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def __add__(self, other: "Tallies") -> "Tallies":
        if self.arrays.keys() != other.arrays.keys():
            raise ValueError("tallies of different statistics do not add")
        return Tallies({name: array + other[name] for name, array in self.arrays.items()})

    def first_spoiled(self) -> str | None:
        """The name of an array that holds NaN or infinity; None if all are finite."""
        spoiled = (name for name, sums in self.arrays.items() if not np.isfinite(sums).all())
        return next(spoiled, None)

    def save(self, path: Path) -> None:
        """Write all arrays to one uncompressed ``.npz`` file, without pickles.

        The digits of sums are nearly random, so compression takes long and saves little. Instead,
        rows of zeros are left out (``SPARSE``).
        """
        arrays: dict[str, NDArray[Any]] = {}
        for name, array in self.arrays.items():
            if name in SPARSE:
                present = np.asarray(array.any(axis=(-2, -1)))
                arrays |= {name + _PRESENT: present, name: array[present]}
            else:
                arrays[name] = _narrow(array)
        np.savez(path, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote. ValueError if an array holds NaN or infinity; any of
        ``files.READ_ERRORS`` if the file is damaged."""
        with open_arrays(path) as archive:
            names = [name for name in archive.files if not name.endswith(_PRESENT)]
            return cls({name: _read_array(archive, name) for name in names})


def pack_heads(hits: NDArray[Any]) -> NDArray[np.uint8]:
    """Pack the hits [I, N] of all heads into bytes [I, Z], as in the array ``hits``."""
    return np.packbits(np.asarray(hits, dtype=np.bool_), axis=1)


def packed_bytes(heads: int) -> int:
    """The number of bytes Z of a packed row of hits."""
    return -(-heads // 8)


def unpack_heads(packed: NDArray[np.uint8], heads: int) -> NDArray[np.uint8]:
    """The hits [I, N], zeros and ones, of the ``heads`` N in packed rows [I, Z]."""
    return np.unpackbits(packed, axis=1, count=heads)


def load_array(path: Path, name: str) -> NDArray[Any]:
    """Read only the array ``name`` of a file that ``Tallies.save`` wrote. Errors as from
    ``Tallies.load``."""
    with open_arrays(path) as archive:
        return _read_array(archive, name)


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Counts in the smallest unsigned type that holds them; other arrays unchanged."""
    if array.dtype != np.int64 or array.min(initial=0) < 0:
        return array
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))


def _read_array(archive: NpzFile, name: str) -> NDArray[Any]:
    """One array as it was before ``Tallies.save`` made it smaller."""
    array: NDArray[Any] = archive[name]
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if array.dtype.kind == "u" and name not in BITS:
        array = array.astype(np.int64)
    if name + _PRESENT in archive.files:
        present = archive[name + _PRESENT]
        whole = np.zeros((*present.shape, *array.shape[1:]), array.dtype)
        whole[present] = array
        return whole
    return array
