"""Two clocks."""

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Seconds = np.ndarray
"""Of wall time, and of processor time (the program's and its children's): where other work shares
the cores, only the second is the program's own."""


def timed(work: Callable[[], Any]) -> tuple[Seconds, Any]:
    """How long it takes, and what it gives."""

    def clocks() -> Seconds:
        return np.array([time.perf_counter(), sum(os.times()[:4])])

    start = clocks()
    found = work()
    return clocks() - start, found
