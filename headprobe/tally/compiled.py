"""Loops as machine code (numba), for CPUs."""

from collections.abc import Callable
from contextlib import suppress
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


class _Kept(_Cache):  # type: ignore[misc]
    """Machine code on disk: what cannot be read is compiled again, what finds no room is not
    kept."""

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
