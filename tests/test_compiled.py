"""Machine code is kept on disk; where that fails it is compiled again, and no run ends."""

import errno
import importlib.util
from pathlib import Path

import numba
import pytest
from numba.core.caching import IndexDataCacheFile

from headprobe.compiled import in_threads, numba_kernel


def doubled(number: int) -> int:
    return 2 * number


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))


def test_it_is_compiled_once() -> None:
    first, again = numba_kernel(doubled), numba_kernel(doubled)
    assert first(3) == again(3) == 6
    assert not first.stats.cache_hits
    assert again.stats.cache_hits


def test_it_is_compiled_anew_when_a_file_beside_is_another(tmp_path: Path) -> None:
    """Machine code holds that of what it calls, which numba does not look at."""
    source = tmp_path / "beside" / "doubling.py"
    source.parent.mkdir()
    source.write_text("def doubled(number):\n    return 2 * number\n")
    called = source.with_name("called.py")
    called.write_text("one = 1\n")
    spec = importlib.util.spec_from_file_location("doubling", source)
    assert spec is not None and spec.loader is not None
    doubling = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(doubling)
    assert numba_kernel(doubling.doubled)(3) == 6
    called.write_text("one = 100\n")
    again = numba_kernel(doubling.doubled)
    assert again(3) == 6
    assert not again.stats.cache_hits
    same = numba_kernel(doubling.doubled)
    assert same(3) == 6
    assert same.stats.cache_hits


@pytest.mark.parametrize("threads", ["1", "3", "many"])
def test_every_item_is_worked_on_once(monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    done: list[int] = []
    in_threads(range(10), done.append)
    assert sorted(done) == [*range(10)]


def test_errors_in_threads_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(ZeroDivisionError):
        in_threads([1, 0], lambda item: 1 // item)


@pytest.mark.parametrize("name", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("size", [0, 20, 150])
def test_damaged_files_are_written_anew(tmp_path: Path, name: str, size: int) -> None:
    assert numba_kernel(doubled)(3) == 6
    (file,) = tmp_path.rglob(name)
    file.write_bytes(file.read_bytes()[:size])
    assert numba_kernel(doubled)(3) == 6
    sound = numba_kernel(doubled)
    assert sound(3) == 6
    assert sound.stats.cache_hits


@pytest.mark.parametrize("method", ["_save_index", "_save_data"])
def test_a_full_disk_is_no_fault(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, method, full)
    assert numba_kernel(doubled)(3) == 6


def test_no_folder_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headprobe.compiled._DiskCache", _nowhere)
    assert numba_kernel(doubled)(3) == 6


def _nowhere(function: object) -> None:
    raise RuntimeError(f"no locator for {function}")
