"""The sums of a run: named arrays with named axes, which add."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headprobe.runs.files import open_arrays

AXES: Mapping[str, str] = MappingProxyType(
    {
        # relations: sums over instances (METHOD section 2); hits by fold (section 4)
        "mass": "RLH",
        "kept": "RLH",
        "share": "RLH",
        "share_norm": "RLH",
        "hits_by_document": "RFLH",
        "hits_by_form": "RFLH",
        "hits_by_domain": "RGLH",
        # distance profiles: sums of stripped attention over usable pairs, index distance - 1
        "profile": "LHD",
        "profile_norm": "LHD",
        "profile_pairs": "D",
        # the same of stripped attention by category, and by deprel pair within each quadrant
        # (vocabulary)
        "category": "YLH",
        "deprel_pairs": "OMLH",
        # the earlier word of the passage that each sampled row attends to most: its place in the
        # passage counted from 1 (0: a tie, or nothing left), and the raw attention that all of them
        # get there
        "sampled_winner": "ALH",
        "sampled_kept": "ALH",
        # repeated random tokens, by sequence: rows of the repetition, in how many of them the
        # earlier copy (induction: the token after it) gets most among all earlier tokens, and the
        # raw attention it gets
        "copy_rows": "E",
        "duplicate_hits": "ELH",
        "duplicate_mass": "ELH",
        "induction_hits": "ELH",
        "induction_mass": "ELH",
        # shape: sums over the rows of usable words, `distance` and `punctuation` over rows that
        # have something left when stripped
        "rows": "",
        "rows_stripped": "LH",
        "sink": "LH",
        "self": "LH",
        "previous": "LH",
        "entropy": "LH",
        "distance": "LH",
        "punctuation": "LH",
        # head outputs in coordinates whose plain norm is the norm after W_O
        "output_rows": "C",
        "output_sum": "CLHV",
        "output_square": "CLH",
        "residual_square": "CL",
        # pairs of heads on sampled rows where both are active
        "affinity": "NN",
        "cosine": "NN",
        "both_active": "NN",
        "sampled_rows": "",
        # attention that whole columns draw: by token id, and by position in the passage
        "column_token": "LK",
        "column_token_rows": "K",
        "column_position": "LP",
        "column_position_rows": "P",
        "column_token_passages": "K",
        "column_position_passages": "P",
        # what the model makes of the text, on a sample of passages
        "bits": "",
        "characters": "",
        # the words that example rows attend to most: place in the passage counted from 1 (0: none),
        # so that parts of a run add, and the raw weight
        "example_word": "XLHS",
        "example_weight": "XLHS",
    }
)
"""Every array and its axes (letters of ``headprobe.vocabulary``; P position, S the strongest
words)."""


KINDS = ("category", "deprel_pairs")
"""Arrays over all kinds of word pairs that there could be, [..., L, H]."""

_MET = ".met"


@dataclass(frozen=True)
class Tallies:
    """Sums with named axes, float64 and int64. ``a + b`` are the sums over both."""

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
        """The name of an array that holds NaN or infinity, if there is one."""
        spoiled = (name for name, sums in self.arrays.items() if not np.isfinite(sums).all())
        return next(spoiled, None)

    def save(self, path: Path) -> None:
        """Write all arrays to one ``.npz`` file (no pickles).

        Sums are as good as random digits: compressing them takes long and saves little. What is
        left out instead are the zeros of kinds of word pairs that the text does not have.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for name, array in self.arrays.items():
            if name in KINDS:
                met = np.asarray(array.any(axis=(-2, -1)))
                arrays |= {name + _MET: met, name: array[met]}
            else:
                arrays[name] = _narrow(array)
        np.savez(path, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Self:
        with open_arrays(path) as archive:
            names = [name for name in archive.files if not name.endswith(_MET)]
            return cls({name: _read(archive, name) for name in names})


def load_array(path: Path, name: str) -> NDArray[Any]:
    """One array of those that ``Tallies.save`` wrote, the others left on disk. ValueError, as from
    ``Tallies.load``, where it holds NaN or infinity."""
    with open_arrays(path) as archive:
        return _read(archive, name)


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Counts as the smallest unsigned numbers that hold them; everything else as it is."""
    if array.dtype != np.int64 or array.min(initial=0) < 0:
        return array
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))


def _read(archive: Any, name: str) -> NDArray[Any]:
    array: NDArray[Any] = archive[name]
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if array.dtype.kind == "u":
        array = array.astype(np.int64)
    if name + _MET in archive.files:
        met = archive[name + _MET]
        whole = np.zeros((*met.shape, *array.shape[1:]), array.dtype)
        whole[met] = array
        return whole
    return array
