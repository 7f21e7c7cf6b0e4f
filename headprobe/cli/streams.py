"""Standard streams that never fail: a scan is not lost because its output cannot be printed.

Both streams drop what cannot be written and keep the first error. A run is therefore written
completely if a pager closes, a disk is full or a stream is closed, and ``main`` decides on the exit
code when the work is done.
"""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO


class LastingOutput(io.RawIOBase):
    """Writes to a file descriptor until an error occurs, and drops the rest.

    ``error`` is that error, or None.
    """

    def __init__(self, descriptor: int, error: OSError | None = None) -> None:
        super().__init__()
        self._descriptor, self._closed_from_start = descriptor, error
        self.error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write or drop all of ``data``."""
        view = memoryview(data).cast("B")
        if self.error is None:
            self.error = self._closed_from_start
        done = 0
        while self.error is None and done < len(view):
            try:
                done += os.write(self._descriptor, view[done:])
            except OSError as error:
                self.error = error
        return len(view)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return self._closed_from_start is None and os.isatty(self._descriptor)


def open_streams() -> tuple[LastingOutput, LastingOutput]:
    """Replace ``sys.stdout`` and ``sys.stderr`` by lasting streams, and return their raw streams.

    Closed descriptors 0 to 2 are opened on the null device. Otherwise, a file that is opened later
    could get one of these numbers, and receive what libraries print.
    """
    closed = [descriptor for descriptor in range(3) if not _is_open(descriptor)]
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # opens the lowest free descriptor
    sys.stdout, out = _open_stream(sys.stdout, 1, 1 in closed)
    sys.stderr, err = _open_stream(sys.stderr, 2, 2 in closed)
    return out, err


def _open_stream(stream: TextIO | None, descriptor: int, closed: bool) -> tuple[TextIO, Any]:
    error = OSError(errno.EBADF, os.strerror(errno.EBADF)) if closed else None
    raw = LastingOutput(descriptor, error)
    if stream is not None:
        with suppress(OSError, ValueError):
            stream.flush()
    lasting = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="backslashreplace",  # encodings without a character get its escape
        line_buffering=descriptor == 2 or raw.isatty(),
    )
    return lasting, raw


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
