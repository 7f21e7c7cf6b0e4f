"""The cache of compiled code: it is reused, renewed after changes, and never stops a run."""

import errno
from pathlib import Path

import numba
import pytest
from numba.core.caching import IndexDataCacheFile

from headprobe.measure.numba_kernels import numba_kernel


def doubled(number: int) -> int:
    return 2 * number


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))


def test_compiled_code_is_loaded_from_the_cache() -> None:
    first, again = numba_kernel(doubled), numba_kernel(doubled)
    assert first(3) == again(3) == 6
    assert not first.stats.cache_hits
    assert again.stats.cache_hits


def test_code_is_compiled_again_if_a_file_of_the_folder_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Compiled code contains the code of called functions, which numba does not check."""
    called = tmp_path / "called.py"
    called.write_text("one = 1\n")
    monkeypatch.setattr("headprobe.measure.numba_kernels.__file__", str(tmp_path / "compiled.py"))
    assert numba_kernel(doubled)(3) == 6
    called.write_text("one = 100\n")
    again = numba_kernel(doubled)
    assert again(3) == 6
    assert not again.stats.cache_hits
    same = numba_kernel(doubled)
    assert same(3) == 6
    assert same.stats.cache_hits


@pytest.mark.parametrize("name", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("size", [0, 20, 150])
def test_damaged_cache_files_are_rewritten(tmp_path: Path, name: str, size: int) -> None:
    assert numba_kernel(doubled)(3) == 6
    (file,) = tmp_path.rglob(name)
    file.write_bytes(file.read_bytes()[:size])
    assert numba_kernel(doubled)(3) == 6
    sound = numba_kernel(doubled)
    assert sound(3) == 6
    assert sound.stats.cache_hits


@pytest.mark.parametrize("method", ["_save_index", "_save_data"])
def test_kernels_run_without_a_cache_if_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, method, full)
    assert numba_kernel(doubled)(3) == 6


def test_kernels_run_without_a_cache_if_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headprobe.measure.numba_kernels._DiskCache", _nowhere)
    assert numba_kernel(doubled)(3) == 6


def _nowhere(function: object) -> None:
    raise RuntimeError(f"no locator for {function}")
