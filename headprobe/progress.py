"""How work in progress is told: the protocol that workflows speak, and its quiet voices."""

import warnings
from typing import Protocol, TextIO

from headprobe.format import count, safe_text


class Progress(Protocol):
    """Stages come one after another; each ends where the next begins, the last at ``finish``.

    ``total`` counts what ``advance`` will count, None where that is not known; ``unit`` names it
    ("passages"). ``warn`` says something that the user should know although the work goes on.
    """

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None: ...

    def advance(self, n: int = 1) -> None: ...

    def warn(self, text: str) -> None: ...

    def finish(self) -> None: ...


class SilentProgress:
    """For use from Python: stages pass unsaid, warnings are Python's own."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass

    def warn(self, text: str) -> None:
        warnings.warn(safe_text(text), UserWarning, stacklevel=2)

    def finish(self) -> None:
        pass


class PlainProgress:
    """Without a terminal: one line per stage; with ``quiet`` the warnings alone."""

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        self.stream, self.quiet = stream, quiet

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        if not self.quiet:
            one = unit.removesuffix("s")
            amount = "" if total is None else f" ({count(total, one, unit).rstrip()})"
            self._say(safe_text(name) + amount)

    def advance(self, n: int = 1) -> None:
        pass

    def warn(self, text: str) -> None:
        self._say(f"warning: {safe_text(text)}")

    def finish(self) -> None:
        pass

    def _say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)
