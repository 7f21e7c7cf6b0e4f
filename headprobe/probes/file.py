"""A probe file on disk (its name, hash and lines), and helpers for the readers' error messages."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from headprobe.errors import HeadprobeError
from headprobe.probes.document import Document
from headprobe.vocabulary import Skipped

SkipCallback = Callable[[Skipped], None]
"""Called with a record of each input that is left out."""

AdvanceCallback = Callable[[int], None]
"""Called with the number of bytes read since the last call."""

_BYTES_PER_REPORT = 1 << 16


class Reader(Protocol):
    """Yields the documents of a probe file; raises HeadprobeError where the file is malformed."""

    def __call__(
        self, file: "ProbeFile", note: SkipCallback, advance: AdvanceCallback, /
    ) -> Iterator[Document]: ...


def no_progress(_: int) -> None:
    """An ``AdvanceCallback`` that does nothing."""


@dataclass(frozen=True)
class ProbeFile:
    """A file of probes."""

    path: Path

    name: str
    """The name in ids and sources. It does not depend on where the file lies on this machine."""

    domain: str = ""
    """The domain of documents that name none; empty for the file's name without its suffix."""

    @cached_property
    def size(self) -> int:
        """Size in bytes."""
        with friendly_read_errors(self.path):
            return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the whole file, in hexadecimal."""
        with friendly_read_errors(self.path), self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def at(self, line: int) -> str:
        """Return ``name:line``, which names a line (from 1) in ids, sources and skip records."""
        return f"{self.name}:{line}"

    def error(self, line: int, what: str, remedy: str) -> HeadprobeError:
        """Return the HeadprobeError of a line (from 1); it names the path of the file."""
        return HeadprobeError(f"{self.path}:{line}", what, remedy)

    def lines(self, advance: AdvanceCallback = no_progress) -> Iterator[str]:
        """Yield the lines without line ends and without a byte order mark.

        Raises HeadprobeError where the file cannot be read or a line is not UTF-8.
        """
        unreported = 0
        with friendly_read_errors(self.path), self.path.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise self.error(
                        number,
                        f"not UTF-8 (byte {error.object[error.start]:#04x})",
                        "Save the file as UTF-8",
                    ) from None
                unreported += len(raw)
                if unreported >= _BYTES_PER_REPORT:
                    advance(unreported)
                    unreported = 0
                yield line.rstrip("\r\n")
        advance(unreported)


@contextmanager
def friendly_read_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a HeadprobeError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise HeadprobeError(
            str(path),
            f"cannot be read ({error.strerror})",
            "Check the path and the file's permissions",
        ) from None
