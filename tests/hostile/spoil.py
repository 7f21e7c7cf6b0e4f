"""Ways to damage files: JSON, tables, archives of arrays, and what stands in place of a file."""

import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Damage = Callable[[Path], object]
"""Damages the file at a path."""

Arrays = dict[str, Any]


def content(raw: bytes | str) -> Damage:
    """Replace the content."""
    data = raw.encode() if isinstance(raw, str) else raw
    return lambda path: path.write_bytes(data)


def cut(share: float) -> Damage:
    """Keep only the first part of the content."""
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flip(share: float) -> Damage:
    """Flip the bits of one byte in the middle of the content."""

    def damage(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        raw[int(len(raw) * share)] ^= 0xFF
        path.write_bytes(raw)

    return damage


def remove(path: Path) -> None:
    path.unlink()


def fifo(path: Path) -> None:
    """A pipe that nobody writes to."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def link(target: str) -> Damage:
    """A symbolic link."""

    def damage(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return damage


def sparse(path: Path) -> None:
    """A file of one terabyte that takes no space on the disk."""
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def nested(path: Path) -> None:
    """Lists inside lists, 100,000 deep."""
    path.write_text("[" * 100_000 + "]" * 100_000)


def json_values(**changes: Any) -> Damage:
    """Change values of a JSON object; ``model__n_layers`` is the value n_layers of model."""

    def damage(path: Path) -> None:
        values = json.loads(path.read_text("utf-8"))
        for name, value in changes.items():
            *groups, key = name.split("__")
            inner = values
            for group in groups:
                inner = inner[int(group) if group.isdigit() else group]
            inner[key] = value
        path.write_text(json.dumps(values))

    return damage


def json_without(*keys: str) -> Damage:
    """Remove keys of a JSON object."""

    def damage(path: Path) -> None:
        values = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({key: values[key] for key in values if key not in keys}))

    return damage


def text(old: str, new: str) -> Damage:
    """Replace the first occurrence of a text, which must be there."""

    def damage(path: Path) -> None:
        before = path.read_text("utf-8")
        assert old in before, f"{old!r} is not in {path.name}"
        path.write_text(before.replace(old, new, 1), "utf-8")

    return damage


def cell(column: str, value: str, row: int = 1) -> Damage:
    """Replace one cell of a table of plain cells; rows count from 1."""

    def damage(path: Path) -> None:
        lines = path.read_text("utf-8").split("\n")
        place = lines[0].split(",").index(column)
        cells = lines[row].split(",")
        cells[place] = value
        lines[row] = ",".join(cells)
        path.write_text("\n".join(lines), "utf-8")

    return damage


def without_column(column: str) -> Damage:
    """Remove a column of a table of plain cells."""

    def damage(path: Path) -> None:
        rows = [line.split(",") for line in path.read_text("utf-8").splitlines()]
        place = rows[0].index(column)
        kept = [",".join(cells[:place] + cells[place + 1 :]) for cells in rows]
        path.write_text("\n".join(kept) + "\n", "utf-8")

    return damage


def lines(change: Callable[[list[str]], list[str]]) -> Damage:
    """Change the list of lines."""

    def damage(path: Path) -> None:
        kept = change(path.read_text("utf-8").splitlines())
        path.write_text("\n".join(kept) + "\n", "utf-8")

    return damage


def arrays(change: Callable[[Arrays], object]) -> Damage:
    """Change the arrays of an ``.npz`` file in place; all else stays as numpy writes it."""

    def damage(path: Path) -> None:
        with np.load(path, allow_pickle=False) as archive:
            held = dict(archive)
        change(held)
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=True, **held)

    return damage


def array(name: str, change: Callable[[Any], Any]) -> Damage:
    """Replace one array by what ``change`` makes of it."""
    return arrays(lambda held: held.update({name: change(held[name])}))


def without(name: str) -> Damage:
    """Remove one array."""
    return arrays(lambda held: held.pop(name))


def entry(name: str, at: int, value: Any) -> Damage:
    """Replace one entry of an array, by its place in the flattened array."""

    def change(values: Any) -> Any:
        widened = values.astype(np.result_type(values, np.min_scalar_type(value)))
        widened.flat[at] = value
        return widened

    return array(name, change)


def member(name: str, raw: bytes | Callable[[bytes], bytes]) -> Damage:
    """Replace the bytes of one member of an archive, ``name.npy``, or add it."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            held = {each: archive.read(each) for each in archive.namelist()}
        held[name] = raw(held[name]) if callable(raw) else raw
        with zipfile.ZipFile(path, "w") as archive:
            for each, data in held.items():
                archive.writestr(each, data)

    return damage


def header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    """The bytes of an ``.npy`` file with this header."""
    padded = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(padded)) + padded + data


def directory(offset: int, raw: bytes) -> Damage:
    """Overwrite bytes of the first entry of a ZIP archive's central directory."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        start = data.index(b"PK\x01\x02")
        data[start + offset : start + offset + len(raw)] = raw
        path.write_bytes(data)

    return damage


def bomb(name: str) -> Damage:
    """An array of 128 MiB of zeros, which take a thousandth of that in the file."""

    def damage(path: Path) -> None:
        start = header(f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({1 << 24},)}}")
        with zipfile.ZipFile(path) as archive:
            held = {each: archive.read(each) for each in archive.namelist() if each != name}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for each, data in held.items():
                archive.writestr(each, data)
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(start)
                file.write(bytes(1 << 27))

    return damage


def pickled(path_name: str) -> bytes:
    """An ``.npy`` file of pickled objects that would make the file ``path_name``."""

    class Planted:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (path_name,)

    held = io.BytesIO()
    np.save(held, np.array([Planted()], dtype=object), allow_pickle=True)
    return held.getvalue()


def copy_over(origin: str) -> Damage:
    """Put another file of the folder in the place of this one."""
    return lambda path: shutil.copyfile(path.with_name(origin), path)
