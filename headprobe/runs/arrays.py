"""Reading and writing ``.npz`` files: arrays are declared, and checked before they are used.

A run may come from anywhere, and its files may be damaged. So each array is declared once: its
kind, its axes and the range of its values. ``read_arrays`` checks the header of each array before
its data are read, so that no file can claim more memory than it is due, and the values after. No
pickle is ever read.
"""

import math
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headprobe.runs.files import check_memory

Kind = Literal["count", "number", "flag", "text"]

_DTYPES: Mapping[Kind, str] = MappingProxyType(
    {"count": "iu", "number": "f", "flag": "b", "text": "U"}
)
"""The kinds of numpy dtypes that hold each kind of values."""

_ARCHIVE_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
"""The first bytes of a ZIP archive, and of an empty one."""

_SURROGATES = (0xD800, 0xDFFF)
"""Code points that are not characters, the first and the last of them."""

_LAST_CHARACTER = 0x10FFFF

_LEVEL = 1
"""Level of compression. Level 6 saves another 1 % of the bits of hits, in 2.6 times the time."""


@dataclass(frozen=True)
class Declared:
    """What is known of an array before it is read."""

    kind: Kind
    """Integers, floating-point numbers, booleans or text."""

    axes: str
    """One letter for each axis. Axes with the same letter have the same size."""

    low: float | None = None
    """The smallest value; None if there is no limit."""

    below: str | int | None = None
    """Values are smaller than this number, or than the size of the axis with this letter; None if
    there is no limit."""

    ascending: bool = False
    """Whether the values are distinct and sorted."""


def read_arrays(
    path: Path,
    declared: Mapping[str, Declared],
    sizes: Mapping[str, int],
    only: Collection[str] | None = None,
    optional: Collection[str] = (),
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file that are ``declared``, or ``only`` some of them.

    The file may lack the ``optional`` ones, which are then missing from the result.
    ``sizes`` are those of the axes, by letter. An axis whose size is not given may have any, but
    the same in all arrays. Raises ValueError where the file holds other arrays than ``declared``
    (unless ``only`` some are read) or an array that is not as declared, and any of
    ``files.READ_ERRORS`` where the file is damaged.
    """
    names = list(declared if only is None else only)
    known = dict(sizes)
    with _open(path) as archive:
        members = [info.filename for info in archive.infolist()]
        names = [name for name in names if name not in optional or f"{name}.npy" in members]
        for name in names:
            if members.count(f"{name}.npy") != 1:
                raise ValueError(f"it lacks the array {name}, or has it twice")
        if only is None and len(members) != len(names):
            others = sorted({*members} - {f"{name}.npy" for name in names})
            raise ValueError(f"it holds something else: {others[0][:60]}")
        arrays = {}
        for name in names:
            wanted = declared[name]
            array = _read(archive, name, _DTYPES[wanted.kind], wanted.axes, known)
            _check_values(name, array, wanted, known)
            arrays[name] = array
        return arrays


def read_any_arrays(path: Path, only: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz`` file, or ``only`` some; the caller knows what they must be.

    KeyError where one is missing, any of ``files.READ_ERRORS`` where the file is damaged.
    """
    with _open(path) as archive:
        members = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        return {name: _read(archive, name, "iufbU", None, {}) for name in only or members}


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], compressed: Collection[str]
) -> None:
    """Write ``arrays`` to an ``.npz`` file, those named in ``compressed`` with deflate."""
    # The mode and the method are those of an archive; the level of a single member is not public.
    modes: tuple[Literal["w", "a"], ...] = ("w", "a")
    for mode, method in zip(modes, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED), strict=True):
        with zipfile.ZipFile(path, mode, method, compresslevel=_LEVEL) as archive:
            for name, array in arrays.items():
                if (name in compressed) == (method == zipfile.ZIP_DEFLATED):
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    with path.open("rb") as file:
        if file.read(4) not in _ARCHIVE_STARTS:
            raise ValueError("not an .npz archive")
        with zipfile.ZipFile(file) as archive:
            yield archive


def _read(
    archive: zipfile.ZipFile, name: str, kinds: str, axes: str | None, sizes: dict[str, int]
) -> NDArray[Any]:
    """Read one array of a dtype of ``kinds``, and add the sizes of its ``axes`` to ``sizes``."""
    info = archive.getinfo(f"{name}.npy")
    member: Any
    with archive.open(info) as member:
        shape, is_fortran, dtype = _read_header(member, name)
        if dtype.kind not in kinds or not dtype.isnative or dtype.itemsize == 0:
            raise ValueError(f"{name} has the dtype {dtype}")
        if axes is not None:
            _check_shape(name, shape, axes, sizes)
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or info.file_size - member.tell() != size:
            raise ValueError(f"{name} has more or less data than its shape {shape}")
        check_memory(size)
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size and (count := member.readinto(view[done:])):
            done += count
        if done < size or member.read(1):  # the end is read, too, where the checksum is compared
            raise ValueError(f"{name} is truncated")
    order: Literal["F", "C"] = "F" if is_fortran else "C"
    return np.ndarray(shape, dtype, data, order=order)


def _read_header(member: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether the first axis varies fastest, and the dtype of an ``.npy`` file."""
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(member)
    raise ValueError(f"{name} is of an unknown version of the format")


def _check_shape(name: str, shape: tuple[int, ...], axes: str, sizes: dict[str, int]) -> None:
    """Raise ValueError where a shape is not that of the ``axes``; learn sizes that are new."""
    wanted = tuple(sizes.get(axis, size) for axis, size in zip(axes, shape, strict=False))
    if len(shape) != len(axes) or shape != wanted:
        raise ValueError(f"{name} has the shape {shape}, which does not fit the run")
    sizes.update(zip(axes, shape, strict=True))


def _check_values(
    name: str, array: NDArray[Any], declared: Declared, sizes: Mapping[str, int]
) -> None:
    if not array.size:
        return
    if declared.kind == "number" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    if declared.kind == "text":
        codes = np.frombuffer(np.ascontiguousarray(array), np.uint32)
        first, last = _SURROGATES
        if codes.max() > _LAST_CHARACTER or ((codes >= first) & (codes <= last)).any():
            raise ValueError(f"{name} holds what is not text")
    if declared.low is not None and array.min() < declared.low:
        raise ValueError(f"{name} holds {array.min()}")
    below = sizes[declared.below] if isinstance(declared.below, str) else declared.below
    if below is not None and array.max() >= below:
        raise ValueError(f"{name} holds {array.max()}, and there are {below}")
    if declared.ascending and (np.diff(array) <= 0).any():
        raise ValueError(f"{name} is not sorted")
