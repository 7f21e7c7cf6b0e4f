"""Keeps what a scan has so far on disk, about once a minute, so that it can go on later."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from headprobe.store.unfinished import Unfinished

EVERY = 60.0
"""Seconds between two writings: what is lost at most when a scan is killed."""

RARELY = 50
"""Writing waits so many times as long as the last one took: it costs two per cent at most."""


class Told(Protocol):
    """What can say how far it is."""

    def arrays(self) -> Mapping[str, NDArray[Any]]: ...


class Journal:
    """What is ``kept`` of a scan, and when.

    ``resumed``: whether a part that is found is gone on from. Until the first minute is over
    nothing is written.
    """

    def __init__(
        self,
        kept: Unfinished,
        warn: Callable[[str], None],
        *,
        resumed: bool,
    ) -> None:
        self._kept, self._warn, self._resumed = kept, warn, resumed
        self._note: Callable[[], Mapping[str, Any]] | None = None
        self._last, self._wait, self._broken = time.monotonic(), EVERY, False

    def begin(self, note: Callable[[], Mapping[str, Any]]) -> None:
        """From now on it can be gone on with: ``note`` gives what every part says of the scan as a
        whole."""
        self._note = note

    def page(self, part: str) -> "Page":
        """The part of the checkpoint, or of one of its controls."""
        return Page(self, part, kept=self._resumed and self._kept.has(part))

    def arrays(self, part: str) -> Mapping[str, NDArray[Any]] | None:
        """What was written of a part last."""
        return self._kept.arrays(part)

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._last >= self._wait

    def write(self, part: str, told: Told) -> bool:
        """Write a part, and say whether it is there. A disk that is full does not end the scan: it
        is said once."""
        if self._note is None or self._broken:
            return False
        began = time.monotonic()
        try:
            self._kept.keep(part, self._note(), told.arrays())
        except OSError as error:
            self._broken = True
            self._warn(f"{self._kept.path}: {error.strerror}; no more is kept for --resume")
        self._last = time.monotonic()
        self._wait = max(EVERY, RARELY * (self._last - began))
        return not self._broken

    def remedy(self) -> str | None:
        """How to go on with what is kept, if anything is."""
        if self._note is None or not any(self._kept.path.glob("*.npz")):
            return None
        return f"what was measured is saved. Resume it with {self._kept.command}"


class Page:
    """One part of a journal; ``kept``: whether an earlier attempt left something of it."""

    def __init__(self, journal: Journal, part: str, *, kept: bool) -> None:
        self._journal, self.part, self._kept = journal, part, kept
        self._since = time.monotonic()

    def kept(self) -> Mapping[str, NDArray[Any]] | None:
        """Its arrays as they were written last: by an earlier attempt, or by this one, which goes
        on from there when memory ran out."""
        return self._journal.arrays(self.part) if self._kept else None

    def show(self, told: Told) -> None:
        """So far it is."""
        if self._journal.is_due():
            self._kept |= self._journal.write(self.part, told)

    def close(self, told: Told) -> None:
        """It is complete: what took longer than a minute is written whole, for what comes after
        may take long, too."""
        if time.monotonic() - self._since >= EVERY:
            self._kept |= self._journal.write(self.part, told)
