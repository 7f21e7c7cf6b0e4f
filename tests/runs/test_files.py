"""Atomic writes, and damaged files that cause one-line errors."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headprobe.errors import HeadprobeError
from headprobe.runs.arrays import read_any_arrays
from headprobe.runs.checkpoint import ScanCheckpoint
from headprobe.runs.files import (
    atomic_write,
    is_partial,
    read_json,
    read_or_fail,
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "sums.npz"
    np.savez_compressed(path, mass=np.arange(40.0), names=np.array(["a", "bc"]))
    return path


def read(path: Path) -> None:
    with read_or_fail(path, "Get another copy"):
        read_any_arrays(path)


def test_file_is_replaced_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    for content in (b"first", b"second"):
        before = path.read_bytes() if path.exists() else None
        with atomic_write(path) as file:
            file.write(content)
            assert (path.read_bytes() if path.exists() else None) == before
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_with_a_similar_name_is_not_lost(tmp_path: Path) -> None:
    """Neither one that another program calls partial, nor one that it links to."""
    path, other, mine = tmp_path / "page", tmp_path / "page.partial", tmp_path / "mine"
    mine.write_text("mine")
    other.symlink_to(mine)
    with atomic_write(path) as file:
        file.write(b"page")
    assert mine.read_text() == "mine"
    assert other.is_symlink()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failed_write_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = ScanCheckpoint(tmp_path / "run")
    checkpoint.save("twin", {"number": 1}, {"sums": np.ones(3)})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HeadprobeError, match="No space left"):
        checkpoint.save("twin", {"number": 2}, {"sums": np.zeros(3)})
    assert checkpoint.load_note() == {"number": 1}
    arrays = checkpoint.arrays("twin")
    assert arrays is not None and arrays["sums"].tolist() == [1, 1, 1]


def test_leftovers_of_a_killed_write_are_removed_with_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = ScanCheckpoint(tmp_path / "run")
    checkpoint.save("twin", {}, {})
    killed = atomic_write(checkpoint.path / "twin.npz")
    killed.__enter__().write(b"half")
    assert [path.name for path in checkpoint.path.iterdir() if is_partial(path.name)]
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_every_damaged_byte_is_harmless_or_gives_a_one_line_error(archive: Path) -> None:
    """Some bytes make the archive look encrypted or compressed in another way, for which zipfile
    has exceptions of its own."""
    good = archive.read_bytes()
    failed = 0
    for place in range(len(good)):
        for change in (0x01, 0xFF):
            damaged = bytearray(good)
            damaged[place] ^= change
            archive.write_bytes(damaged)
            try:
                read(archive)
            except HeadprobeError as error:
                failed += 1
                assert error.where == str(archive) and error.remedy == "Get another copy"
                assert error.what.startswith("cannot be read (")
                assert "unsafely" not in error.what and "()" not in error.what
                assert len(str(error).splitlines()) == 1
    assert failed > len(good)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: path.unlink(), r"No such file or directory"),
    (lambda path: path.write_bytes(b""), r"not an \.npz archive"),
    (lambda path: path.write_bytes(path.read_bytes()[:-100]), r"not a zip file"),
    (lambda path: np.save(path.open("wb"), np.ones(3)), r"not an \.npz archive"),
    (lambda path: np.savez(path, mass=np.array([{}], object)), r"has the dtype object"),
]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("damage", "reason"), DAMAGE)
def test_error_for_a_damaged_file_gives_the_reason(
    archive: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(archive)
    with pytest.raises(HeadprobeError, match=rf"cannot be read \(.*{reason}.*\)\. Get another"):
        read(archive)


def test_deeply_nested_json_gives_a_one_line_error(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text("[" * 100_000)
    with pytest.raises(HeadprobeError, match="cannot be read"), read_or_fail(path):
        read_json(path)
