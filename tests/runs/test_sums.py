"""Saving and loading of sums."""

from pathlib import Path

import numpy as np
import pytest

from headprobe.runs.sums import SPARSE, Tallies, load_array, pack_heads, unpack_heads

RNG = np.random.default_rng(0)
HALF = RNG.random((90, 1, 1)) < 0.5
SUMS = Tallies(
    {
        "mass": RNG.random((3, 2, 4)),
        "category": HALF * RNG.random((90, 2, 4)),
        "deprel_pairs": (HALF * RNG.random((90, 2, 4))).reshape(2, 45, 2, 4),
        "induction_hits": RNG.integers(0, 300, (24, 2, 4)),
        "hits": RNG.integers(0, 256, (20, 3), np.uint8),
        "both_active": RNG.integers(0, 1 << 40, (8, 8)),
        "output_rows": np.array([1, 3]),
        "rows": np.array(70_000),
        "example_word": RNG.integers(0, 9, (5, 2, 4, 5)).astype(np.int16),
        "example_weight": RNG.random((5, 2, 4, 5), np.float32),
        "copy_rows": np.zeros(0, np.int64),
    }
)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def test_saved_sums_load_in_single_precision(tmp_path: Path) -> None:
    SUMS.save(tmp_path / "sums.npz")
    found = Tallies.load(tmp_path / "sums.npz")
    rounded = SUMS.rounded()
    assert found.arrays.keys() == SUMS.arrays.keys() == rounded.arrays.keys()
    for name, array in SUMS.arrays.items():
        assert same(found[name], rounded[name]), name
        assert rounded[name].dtype == (np.float32 if array.dtype == np.float64 else array.dtype)
        np.testing.assert_allclose(rounded[name], array, rtol=1e-7)
        assert same(load_array(tmp_path / "sums.npz", name), rounded[name]), name
    with pytest.raises(KeyError):
        load_array(tmp_path / "sums.npz", "no such sums")


def test_saved_sums_are_added_in_double_precision() -> None:
    one = Tallies({"mass": np.full((1, 1, 1), 1 << 24, np.float32)})
    other = Tallies({"mass": np.ones((1, 1, 1), np.float32)})
    assert (one + other)["mass"].item() == (1 << 24) + 1  # which single precision cannot hold


def test_bits_are_compressed(tmp_path: Path) -> None:
    Tallies({"hits": np.zeros((1000, 128), np.uint8)}).save(tmp_path / "sums.npz")
    assert (tmp_path / "sums.npz").stat().st_size < 4000


def test_sums_of_earlier_versions_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "sums.npz", **SUMS.arrays)
    found = Tallies.load(tmp_path / "sums.npz")
    assert all(same(found[name], array) for name, array in SUMS.arrays.items())


def test_packed_heads_come_back() -> None:
    hits = RNG.random((7, 13)) < 0.4
    packed = pack_heads(hits)
    assert packed.shape == (7, 2) and packed.dtype == np.uint8
    np.testing.assert_array_equal(unpack_heads(packed, 13), hits)


def test_nothing_is_written_of_kinds_that_no_text_has(tmp_path: Path) -> None:
    bytes_of = {}
    for share in (0, 1):
        sums = np.zeros((1000, 2, 4))
        sums[: 1000 * share] = 1
        Tallies(dict.fromkeys(SPARSE, sums)).save(tmp_path / "sums.npz")
        bytes_of[share] = (tmp_path / "sums.npz").stat().st_size
    assert 20 * bytes_of[0] < bytes_of[1] > 120_000


def test_a_share_just_below_one_stays_below_it() -> None:
    """A share of 1 has no lift, so that a head with a perfect one would lose its role."""
    almost = np.full((1, 4, 1, 1), 10 - 1e-9)
    saved = Tallies({"share_by_document": almost, "share": almost}).rounded()
    assert (saved["share_by_document"] < 10).all()
    assert (saved["share"] == 10).all()
