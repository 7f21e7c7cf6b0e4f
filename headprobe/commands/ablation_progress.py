"""Progress of interventions, with an estimate of the time that is left."""

import time

from headprobe.format import duration
from headprobe.progress import Progress

FIRST_SHARE = 0.02
"""The share of the work after which the time is estimated."""

LEAST_SECONDS = 5.0
"""The shortest time from which the rest is estimated, in seconds."""

WORTH_SAYING = 60.0
"""Estimates below this number of seconds are not announced."""


class AblationProgress:
    """Announces the work, and once a part of it is done the time that the rest takes.

    ``total`` and ``done`` are numbers of interventions on sequences; those ``done`` before, by an
    interrupted command, take no time.
    """

    def __init__(self, progress: Progress, name: str, total: int, done: int = 0) -> None:
        self._progress, self._total, self._skip = progress, total, done
        self._started, self._count, self._announced = time.monotonic(), 0, False
        resumed = f" ({done / total:.0%} of it are done)" if done else ""
        progress.stage(name + resumed, total, "steps")

    def advance(self, count: int) -> None:
        """Report ``count`` more steps."""
        self._count += count
        self._progress.advance(count)
        new, rest = self._count - self._skip, self._total - self._count
        seconds = time.monotonic() - self._started
        if self._announced or new < FIRST_SHARE * self._total or seconds < LEAST_SECONDS:
            return
        self._announced = True
        left = seconds / new * rest
        if left >= WORTH_SAYING:
            self._progress.stage(f"about {duration(left)} are left", rest, "steps")
