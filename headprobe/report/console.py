"""Where words go: a console that never parses what it prints and never colours a file."""

import re
from typing import TextIO, cast

from rich.console import Console


class _Quiet(Console):
    """A reader that leaves early (``| head``) is no error."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _Trimmed:
    """A stream without the blanks that tables leave at the ends of lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(re.sub(r" +(?=\n|$)", "", text))

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:
        return self.stream.encoding


def console(stream: TextIO, width: int | None = None) -> Console:
    """A console on ``stream``: no markup, no emoji codes, control codes only on a terminal."""
    terminal = stream.isatty()
    return _Quiet(
        file=stream if terminal else cast(TextIO, _Trimmed(stream)),
        width=width,
        force_terminal=None if terminal else False,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
