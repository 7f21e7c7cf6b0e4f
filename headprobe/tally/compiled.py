"""Loops as machine code (numba), for CPUs."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numba
import numpy as np
from numba.core import caching
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
U = np.uintp

_Cache: Any = caching.FunctionCache
_File: Any = caching.IndexDataCacheFile


class _Kept(_Cache):  # type: ignore[misc]
    """Machine code on disk: what cannot be read is compiled again, what finds no room is not
    kept. It holds the code of what it calls, and is good as long as none of this folder's files is
    another."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        files = sorted(Path(__file__).parent.glob("*.py"))
        stamps = [(file.name, file.stat().st_mtime, file.stat().st_size) for file in files]
        own = self._impl.locator.get_source_stamp()
        name = self._impl.filename_base
        self._cache_file = _File(self.cache_path, name, (own, *stamps))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except (OSError, EOFError, UnpicklingError, ValueError):
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code, which does not hold the interpreter; kept on disk from its
    first call on, where there is a place to keep it.

    Loops become vectors only where their counters are unsigned (``U``: an index that may be
    negative counts from the end) and without ``max`` and ``min``.
    """

    # sums may be reordered; infinities and NaN stay what they are, and are no error
    fast = {"reassoc", "nsz", "contract"}
    found = numba.njit(function, nogil=True, error_model="numpy", fastmath=fast)
    with suppress(RuntimeError):  # no folder that could be written to
        found._cache = _Kept(function)
    kept: Callable[..., Any] = found
    return kept
