"""A probe file on disk: its name, its hash, and its text line by line.

What a person may have meant.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Protocol

from headprobe.errors import HeadprobeError
from headprobe.probes.document import Document
from headprobe.vocabulary import Skipped

SkipCallback = Callable[[Skipped], None]
"""Told of each thing that is left out."""

AdvanceCallback = Callable[[int], None]
"""Told how many more bytes have been read."""

_REPORT_EVERY = 1 << 16


class Reader(Protocol):
    """Gives the documents of a probe file, one at a time; HeadprobeError where it is malformed."""

    def __call__(
        self, file: "ProbeFile", note: SkipCallback, advance: AdvanceCallback, /
    ) -> Iterator[Document]: ...


def no_progress(_: int) -> None:
    """Advance for callers that show no progress."""


@dataclass(frozen=True)
class ProbeFile:
    """A file of probes. ``name`` stands in ids and sources, so it holds nothing of the machine."""

    path: Path
    name: str

    @cached_property
    def size(self) -> int:
        """Bytes."""
        with friendly_read_errors(self.path):
            return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole file, in hexadecimal."""
        with friendly_read_errors(self.path), self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def at(self, line: int) -> str:
        """The place of a line (from 1) in ids, sources and notes."""
        return f"{self.name}:{line}"

    def error(self, line: int, what: str, remedy: str) -> HeadprobeError:
        """A fault of this file at a line (from 1), under the path by which it was opened."""
        return HeadprobeError(f"{self.path}:{line}", what, remedy)

    def lines(self, advance: AdvanceCallback = no_progress) -> Iterator[str]:
        """The lines without their ends, a byte order mark left out.

        Raises HeadprobeError where the file cannot be opened or a line is not UTF-8.
        """
        unreported = 0
        with friendly_read_errors(self.path), self.path.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as fault:
                    raise self.error(
                        number,
                        f"not UTF-8 (byte {fault.object[fault.start]:#04x})",
                        "Save the file as UTF-8",
                    ) from None
                unreported += len(raw)
                if unreported >= _REPORT_EVERY:
                    advance(unreported)
                    unreported = 0
                yield line.rstrip("\r\n")
        advance(unreported)


@contextmanager
def friendly_read_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusal to open ``path`` into a HeadprobeError."""
    try:
        yield
    except OSError as fault:
        raise HeadprobeError(
            str(path), f"cannot be read ({fault.strerror})", "Check the path and its rights"
        ) from None


_SHOWN = 12


def suggest_names(name: str, names: Iterable[str]) -> str:
    """A remedy that lists the names nearest to a mistyped one; all of them where none is near."""
    known = [each if each.isprintable() else repr(each) for each in dict.fromkeys(names)]
    lower = {candidate.lower(): candidate for candidate in reversed(known)}
    close = [lower[match] for match in get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    if close:
        return f"Nearest: {', '.join(close)}"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"There is: {', '.join(known[:_SHOWN]) or 'nothing'}{more}"
