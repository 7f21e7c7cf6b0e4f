"""For tests of long scans: probes of many passages, small chunks, and files that are compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from headprobe.measure.memory import BatchLimits
from headprobe.runs.folder import Run
from headprobe.runs.sums import HALF
from tests.helpers.probes import PROBES

SMALL = BatchLimits(tokens=96, scores=1 << 12)

FAST = """
import os, signal, sys
from headprobe.runs import checkpoint as journal
from headprobe.measure import memory as limits, loop as measuring
from headprobe.commands import distributed as ranks
journal.WRITE_INTERVAL = journal.WRITE_COST_FACTOR = 0
limits.MAX_WORKERS = 1
small = measuring.BatchLimits(tokens=96, scores=1 << 12)
measuring.BatchLimits.of = classmethod(lambda cls, device: small)
"""
"""The beginning of a program that keeps what it has after every chunk; chunks are small, and
pass one by one on machines with any number of cores."""


def write_many(folder: Path, copies: int = 4) -> Path:
    """The tiny probes again and again, each document under another name."""
    text = PROBES.read_text("utf-8")
    parts = [text.replace("# newdoc id = ", f"# newdoc id = copy{copy}-") for copy in range(copies)]
    path = folder / "many.conllu"
    path.write_text("".join(parts), encoding="utf-8")
    return path


def hurry(patch: pytest.MonkeyPatch) -> None:
    """What ``FAST`` does, in this process."""
    patch.setattr("headprobe.runs.checkpoint.WRITE_INTERVAL", 0)
    patch.setattr("headprobe.runs.checkpoint.WRITE_COST_FACTOR", 0)
    patch.setattr("headprobe.measure.memory.MAX_WORKERS", 1)
    patch.setattr(BatchLimits, "of", classmethod(lambda cls, device: SMALL))


def assert_same_files(one: Run, other: Run) -> None:
    """Bit by bit, up to times and to how it came about."""
    names = {path.name for path in one.path.iterdir()}
    assert {path.name for path in other.path.iterdir()} == names
    for name in names - {"manifest.json"}:
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes(), name
    first, second = (json.loads((run.path / "manifest.json").read_text()) for run in (one, other))
    for key in ("started", "seconds", "peak_memory_mib", "work"):
        del first[key], second[key]
    assert first == second


def assert_alike(one: Run, other: Run) -> None:
    """The same up to rounding, and the same verdicts."""
    for name, sums in one.tallies.arrays.items():
        theirs = other.tallies[name]
        if sums.dtype.kind == "i":
            assert np.array_equal(sums, theirs), name
        else:
            rounding = 1e-3 if name in HALF else 1e-6
            assert np.allclose(sums, theirs, rtol=rounding, atol=1e-6 * np.abs(sums).max()), name
    for name in ("pairs.csv", "skipped.csv", "instances.npz", "rules.yaml"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes(), name
    assert list(one.heads["role"]) == list(other.heads["role"])
    assert one.relations["n"].equals(other.relations["n"])
    assert np.allclose(one.relations["top1"], other.relations["top1"], atol=1e-4)
    first, second = one.manifest, other.manifest
    assert (first.model, first.probes, first.used) == (second.model, second.probes, second.used)
    assert (first.passages, first.tokens) == (second.passages, second.tokens)
    bits, theirs = first.bits_per_character, second.bits_per_character
    assert bits is not None and theirs is not None
    assert (bits.passages, bits.characters) == (theirs.passages, theirs.characters)
    assert bits.value == pytest.approx(theirs.value, rel=1e-6)
