"""Compiled loops are stored on disk; where that fails they are compiled again, and no run ends.
Nothing is read that another user could have written, and nothing that is damaged."""

import errno
import os
import pickle
import random
from pathlib import Path

import numba
import pytest

from headprobe import kernel_cache
from headprobe.compiled import in_threads, numba_kernel
from headprobe.kernel_cache import find_folder


def doubled(number: int) -> int:
    return 2 * number


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The named folder, the only one that may be used."""
    named = tmp_path / "named"
    named.mkdir(mode=0o700)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(named))
    monkeypatch.setattr(
        kernel_cache, "_candidates", lambda every=kernel_cache._candidates: [next(every())]
    )
    return named


def call() -> bool:
    """Call the function as if in a new process; whether its code was read from disk."""
    kernel = numba_kernel(doubled)
    assert kernel(3) == 6
    return bool(kernel.stats.cache_hits)


def file_in(folder: Path) -> Path:
    (file,) = folder.rglob("*.nbc")
    return file


def test_compiled_code_is_loaded_from_the_cache(folder: Path) -> None:
    assert not call()
    assert call()
    assert file_in(folder).stat().st_mode & 0o077 == 0
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_code_is_compiled_again_if_a_file_of_the_folder_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    """Machine code contains that of what it calls, which numba does not look at."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "called.py").write_text("one = 1\n")
    monkeypatch.setattr(kernel_cache, "_source_folder", lambda function: sources)
    assert not call()
    (sources / "called.py").write_text("one = 100\n")
    assert not call()
    assert call()
    assert file_in(folder)  # the stale one is removed


@pytest.mark.parametrize("size", [0, 20, 32, 150])
def test_truncated_cache_files_are_rewritten(folder: Path, size: int) -> None:
    assert not call()
    file = file_in(folder)
    file.write_bytes(file.read_bytes()[:size])
    assert not call()
    assert call()


def test_cache_files_with_flipped_bits_are_not_used(folder: Path) -> None:
    assert not call()
    intact = file_in(folder).read_bytes()
    chance = random.Random(0)  # noqa: S311
    for _ in range(20):
        damaged = bytearray(intact)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        file_in(folder).write_bytes(damaged)
        assert not call()


class Trap:
    """A pickle of it leaves a mark where it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("trapped",)


def test_a_planted_pickle_is_not_read(folder: Path, here: Path) -> None:
    assert not call()
    file_in(folder).write_bytes(pickle.dumps(Trap()))
    assert not call()
    assert not (here / "trapped").exists()
    pickle.loads(pickle.dumps(Trap()))  # noqa: S301
    assert (here / "trapped").exists()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="the system has no rights of files")
class TestRights:
    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
    def test_a_folder_of_everybody_is_not_used(self, folder: Path, mode: int) -> None:
        assert not call()
        assert call()
        file_in(folder).parent.chmod(mode)
        assert find_folder() is None
        assert not call()
        assert not call()

    def test_a_folder_in_one_of_everybody_is_not_used(self, folder: Path) -> None:
        folder.parent.chmod(0o777)
        assert find_folder() is None
        folder.parent.chmod(0o1777)  # nobody can replace it
        assert find_folder() is not None

    def test_a_folder_of_another_user_is_not_used(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not call()
        user = folder.stat().st_uid
        monkeypatch.setattr(os, "getuid", lambda: user + 1)
        monkeypatch.setattr(kernel_cache, "_is_own", lambda status: status.st_uid == user + 1)
        assert find_folder() is None

    def test_a_file_of_another_user_is_not_read(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not call()
        assert call()
        number = file_in(folder).stat().st_ino
        own = kernel_cache._is_own
        monkeypatch.setattr(
            kernel_cache, "_is_own", lambda status: status.st_ino != number and own(status)
        )
        assert not call()

    def test_a_group_of_one_is_this_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kernel_cache._is_own_group.cache_clear()
        assert not kernel_cache._is_own_group(123_456)


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_kernels_run_without_a_cache_if_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch, folder: Path, kind: int
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(kind, os.strerror(kind))

    monkeypatch.setattr(kernel_cache.tempfile, "mkstemp", full)
    assert not call()
    assert not call()


def test_kernels_run_without_a_cache_if_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "_candidates", list)
    assert find_folder() is None
    assert not call()


def test_the_user_s_cache_is_the_last_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(kernel_cache, "PACKAGE", Path("/proc/nowhere"))
    monkeypatch.setenv("HEADPROBE_CACHE", str(tmp_path / "cache"))
    assert find_folder() == tmp_path / "cache" / "kernels"


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
