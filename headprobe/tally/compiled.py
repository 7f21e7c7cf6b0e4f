"""Loops as machine code (numba), for CPUs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
U = np.uintp


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as machine code, which does not hold the interpreter; kept on disk from its
    first call on, where there is a place to keep it.

    Loops become vectors only where their counters are unsigned (``U``: an index that may be
    negative counts from the end) and without ``max`` and ``min``.
    """

    # sums may be reordered; infinities and NaN stay what they are, and are no error
    fast = {"reassoc", "nsz", "contract"}
    compiling = partial(numba.njit, function, nogil=True, error_model="numpy", fastmath=fast)
    try:
        found: Callable[..., Any] = compiling(cache=True)
    except RuntimeError:  # no folder that could be written to
        found = compiling(cache=False)
    return found
