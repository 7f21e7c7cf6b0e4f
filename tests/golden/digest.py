"""Run folders as plain values that can be stored in JSON: tables, arrays, manifests, hashes."""

import csv
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHOLE = 64
"""A table of so many rows is stored whole; of a larger one, each column is summed in blocks."""

BLOCKS = 16
"""Blocks into which a long column or an array is cut."""

VOLATILE = {"started", "seconds", "peak_memory_mib", "versions", "threads"}
"""Keys of a manifest that say when, where and how fast it was made."""

GOLDEN = (5**0.5 - 1) / 2

_FLOAT = re.compile(r"\d\.\d")

Normalise = Callable[[str], str]


def digest_run(folder: Path, normalise: Normalise) -> tuple[dict[str, Any], dict[str, str]]:
    """The numbers of all files of a run folder by file name, and hashes by file, column and array.

    Hashes are of values: a column keeps its hash when it stands in another place, an array when it
    has another name. What holds floats has no hash: the last digits of sums depend on what the
    compiler of the kernels found in its cache. Its numbers are compared within a tolerance.
    """
    numbers: dict[str, Any] = {}
    hashes: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        kind, name = path.suffix, path.name
        if kind == ".csv":
            numbers[name], parts = _table(path)
        elif kind == ".npz":
            numbers[name], parts = _arrays(path)
        elif kind == ".json":
            values = _steady(json.loads(path.read_text("utf-8")), normalise)
            numbers[name] = _short(values)
            parts = {"": _sha(json.dumps(values, sort_keys=True).encode())}
        else:
            data = normalise(path.read_text("utf-8")).encode()
            numbers[name] = _records(path) if kind == ".jsonl" else {"text": data.decode()}
            parts = {} if kind == ".jsonl" else {"": _sha(data)}
        hashes |= {f"{name}:{part}" if part else name: value for part, value in parts.items()}
    return numbers, hashes


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _steady(value: Any, normalise: Normalise) -> Any:
    if isinstance(value, dict):
        return {k: _steady(v, normalise) for k, v in value.items() if k not in VOLATILE}
    if isinstance(value, list):
        return [_steady(each, normalise) for each in value]
    return normalise(value) if isinstance(value, str) else value


def _short(value: Any) -> Any:
    """Without hashes, which the numbers of another machine would change as a whole."""
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32,}", value):
        return "<hash>"
    return value


def _table(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = list(csv.reader(file))
    columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    hashes = {
        name: _sha("\0".join(cells).encode())
        for name, cells in columns.items()
        if not any(_FLOAT.search(cell) for cell in cells)
    }
    digests = {name: _column(cells) for name, cells in columns.items()}
    return {"rows": len(rows), "columns": digests}, hashes


def _column(cells: tuple[str, ...]) -> Any:
    given = [cell for cell in cells if cell]
    try:
        values = np.array([float(cell) for cell in given])
    except ValueError:
        if len(cells) <= WHOLE:
            return list(cells)
        counts = {cell: cells.count(cell) for cell in sorted(set(cells))}
        if len(counts) <= WHOLE:
            return {"counts": counts}
        return {"distinct": len(counts), "sha256": _sha("\0".join(cells).encode())}
    if len(cells) <= WHOLE:
        return [float(cell) if cell else None for cell in cells]
    empty = [number for number, cell in enumerate(cells) if not cell]
    return {"empty": len(empty), "empty_at": _sha(str(empty).encode()), **_sums(values)}


def _arrays(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    with np.load(path, allow_pickle=False) as arrays:
        loaded = {name: arrays[name] for name in sorted(arrays.files)}
    hashes = {
        name: _sha(_canonical(array)) for name, array in loaded.items() if array.dtype.kind != "f"
    }
    return {name: _array(array) for name, array in loaded.items()}, hashes


def _canonical(array: NDArray[Any]) -> bytes:
    """The bytes of an array of text or of integers, the latter in one byte order and width."""
    if array.dtype.kind in "OUS":
        return f"{array.shape}{array.tolist()}".encode()
    return f"{array.shape}".encode() + array.astype("<i8").tobytes()


def _array(array: NDArray[Any]) -> dict[str, Any]:
    kind, shape = array.dtype.kind, list(array.shape)
    if kind in "OUS":
        return {"kind": "text", "shape": shape, "sha256": _sha(_canonical(array))}
    name = {"f": "float", "b": "bool"}.get(kind, "integer")
    return {"kind": name, "shape": shape, **_sums(array.reshape(-1).astype(np.float64))}


def _sums(values: NDArray[np.float64]) -> dict[str, Any]:
    """Weighted sums of blocks of values, and what the tolerance is relative to: of their sizes.

    Weights differ from value to value, so that values that change places change the sums.
    """
    count = min(BLOCKS, max(len(values), 1))
    weights = 1 + np.arange(1, len(values) + 1) * GOLDEN % 1
    finite = np.where(np.isfinite(values), values, 0.0) * weights
    blocks = np.array_split(finite, count)
    sums = [_rounded(block.sum()) for block in blocks]
    sizes = [_rounded(np.abs(block).sum()) for block in blocks]
    digest: dict[str, Any] = {"sums": sums}
    if sizes != sums:
        digest["sizes"] = sizes
    if missing := int((~np.isfinite(values)).sum()):
        digest["not_finite"] = missing
    return digest


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")


def _records(path: Path) -> dict[str, Any]:
    """Lines of JSON: their number, and the sums of all numbers by their key."""
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    sums: dict[str, float] = {}

    def add(key: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, each in value.items():
                add(f"{key}.{name}" if key else name, each)
        elif isinstance(value, list):
            for each in value:
                add(key, each)
        elif isinstance(value, str):
            sums[f"{key} (letters)"] = sums.get(f"{key} (letters)", 0) + len(value)
        elif value is not None:
            sums[key] = sums.get(key, 0) + value

    for record in records:
        add("", record)
    return {"records": len(records), "sums": {key: _rounded(each) for key, each in sums.items()}}
