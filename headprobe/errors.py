"""The exception for errors that the user can correct, and the signals that end the program."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn


class HeadprobeError(Exception):
    """An error that the user can correct.

    The command line prints it as one line, ``where: what. remedy.``, and exits with status 2. None
    of the three parts ends in a full stop; a remedy may end in a question mark.

    ``where`` is the place of the error: a file, a file:line, an option or a head. ``what`` is wrong
    there. ``remedy`` is what the user can do about it. Options are spelled as on the command line;
    ``config.python_messages`` respells them for callers in Python.
    """

    def __init__(self, where: str, what: str, remedy: str) -> None:
        super().__init__()
        self._set(where, what, remedy)

    def _set(self, where: str, what: str, remedy: str) -> None:
        self.where, self.what, self.remedy = where, what, remedy
        end = "" if remedy.endswith("?") else "."
        self.args = (f"{shorten(where)}: {shorten(what)}. {shorten(remedy)}{end}",)

    def reword(self, change: Callable[[str], str]) -> None:
        """Apply ``change`` to each of the three parts."""
        self._set(change(self.where), change(self.what), change(self.remedy))


_LONGEST = 320
"""The most characters of a part of a message."""


def shorten(text: str) -> str:
    """``text`` without its middle where it is long. Messages repeat input, which may be endless."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C asked the program to end.

    It is a KeyboardInterrupt, because whatever is done on Ctrl-C is to be done on it, too.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def terminate(number: int, _: FrameType | None) -> NoReturn:
    """Raise Terminated. The command line makes this the handler of the signals that end it."""
    raise Terminated(number)


TERMINATING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""The signals that ask a program to end; SIGHUP comes when its terminal is closed."""
