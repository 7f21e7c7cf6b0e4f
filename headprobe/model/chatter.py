"""Suppressing what libraries print, log and warn about while they load."""

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

STDERR = 2
"""The file descriptor of standard error."""


@contextmanager
def hold_back_chatter() -> Iterator[None]:
    """Suppress Python output, logging and warnings while open.

    Quantisation libraries print greetings, advice and progress bars, each in its own way.
    headprobe's own progress stays visible, because its console holds the stream itself.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def hold_back_panics() -> Iterator[None]:
    """Discard everything written to file descriptor 2 while open.

    A panic of Rust code (``tokenizers``) writes there before it becomes an exception. Keep it open
    only briefly, because it also hides progress.
    """
    try:
        saved = os.dup(STDERR)
    except OSError:  # standard error is closed, so nothing can appear
        yield
        return
    try:
        with open(os.devnull, "wb") as devnull:  # noqa: PTH123
            os.dup2(devnull.fileno(), STDERR)
        yield
    finally:
        os.dup2(saved, STDERR)
        os.close(saved)
