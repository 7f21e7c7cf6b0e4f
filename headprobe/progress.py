"""Progress reports: the protocol that commands call, and its implementations without rich."""

import sys
import warnings
from typing import Any, Protocol, TextIO

from headprobe.config import python_spelling
from headprobe.format import count, safe_text


class Progress(Protocol):
    """Receives the progress of a command as a sequence of stages."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        """Start a stage and end the one before it.

        ``total`` is the number of steps of the stage, None where it is unknown. ``unit`` names the
        steps in the plural, for example ``passages``.
        """

    def advance(self, n: int = 1) -> None:
        """Report ``n`` more steps of the current stage."""

    def warn(self, text: str) -> None:
        """Show a warning; the work continues."""

    def finish(self) -> None:
        """End the last stage."""


class SilentProgress:
    """Shows no stages and issues warnings as ``UserWarning``: the default for calls from Python."""

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass

    def warn(self, text: str) -> None:
        warnings.warn(safe_text(python_spelling(text)), UserWarning, stacklevel=2)

    def finish(self) -> None:
        pass


class NotebookProgress(SilentProgress):
    """Shows one bar per stage in a notebook (``tqdm.auto``); warnings stay warnings."""

    def __init__(self) -> None:
        self._bar: Any = None

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        from tqdm.auto import tqdm

        self.finish()
        self._bar = tqdm(total=total, desc=safe_text(name), unit=f" {safe_text(unit)}", leave=False)

    def advance(self, n: int = 1) -> None:
        if self._bar is not None:
            self._bar.update(n)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def is_notebook() -> bool:
    """Return whether the code runs in a notebook, which has an IPython kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class PlainProgress:
    """Prints one line per stage where there is no terminal; with ``quiet``, only warnings."""

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        self.stream, self.quiet = stream, quiet

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        if not self.quiet:
            singular = unit.removesuffix("s")
            amount = "" if total is None else f" ({count(total, singular, unit).rstrip()})"
            self._print(safe_text(name) + amount)

    def advance(self, n: int = 1) -> None:
        pass

    def warn(self, text: str) -> None:
        self._print(f"warning: {safe_text(text)}")

    def finish(self) -> None:
        pass

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)
