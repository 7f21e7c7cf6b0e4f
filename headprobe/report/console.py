"""Where words go: a console that never parses what it prints and never colours a file."""

from typing import TextIO

from rich.console import Console


class _Quiet(Console):
    """A reader that leaves early (``| head``) is no error."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(stream: TextIO, width: int | None = None) -> Console:
    """A console on ``stream``: no markup, no emoji codes, control codes only on a terminal."""
    return _Quiet(
        file=stream,
        width=width,
        force_terminal=None if stream.isatty() else False,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
