"""What libraries print, log and warn while they load: kept off the screen."""

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

STDERR = 2


@contextmanager
def hold_back_chatter() -> Iterator[None]:
    """While open, Python code prints nothing, logs nothing and warns of nothing.

    Quantisation libraries greet, advise and draw bars, each in its own way. Progress of headprobe
    goes on: its console holds the stream itself.
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
    """While open, nothing that is written to file descriptor 2 appears.

    A panic of Rust code (``tokenizers``) writes there before it becomes an exception. Keep it open
    briefly: progress is not drawn meanwhile.
    """
    try:
        kept = os.dup(STDERR)
    except OSError:  # it is closed, so nothing appears anyway
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
