"""Where the time of a scan goes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Clock:
    """Seconds spent in each stage, those of an earlier attempt included."""

    def __init__(self, before: Mapping[str, float] | None = None) -> None:
        self._spent = dict(before or {})
        self._running: tuple[str, float] | None = None

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self._running = (stage, time.perf_counter())
        yield
        self._spent, self._running = self.seconds, None

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, up to now."""
        if self._running is None:
            return dict(self._spent)
        stage, since = self._running
        spent = self._spent.get(stage, 0.0) + time.perf_counter() - since
        return {**self._spent, stage: round(spent, 3)}
