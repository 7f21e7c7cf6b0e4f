"""What a scan has so far: kept in a hidden folder beside its run, until the run is there."""

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from headprobe.errors import HeadprobeError
from headprobe.store.own_files import remove_own

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FOLDER = re.compile(r"\.(.+?)(?:\.rank-(\d+)-of-(\d+))?\.unfinished")

PARTS = ("checkpoint", "shuffled", "twin")
"""What is kept of a scan: the sums of the checkpoint, and those of its controls."""


@dataclass(frozen=True)
class Unfinished:
    """What the process ``rank`` of ``ranks`` (from 0) keeps of the scan that is to write the run,
    or shard, ``target``. It comes in parts, one file each, written whole or not at all."""

    target: Path
    rank: int = 0
    ranks: int = 1

    @property
    def path(self) -> Path:
        """The folder, which need not exist."""
        of = f".rank-{self.rank + 1}-of-{self.ranks}" if self.ranks > 1 else ""
        target = self.target.absolute()
        return target.with_name(f".{target.name}{of}.unfinished")

    @property
    def command(self) -> str:
        """What goes on with it."""
        start = f"torchrun --nproc-per-node {self.ranks} -m " if self.ranks > 1 else ""
        return f"{start}headprobe scan --resume {self.target}"

    def keep(
        self, part: str, note: Mapping[str, Any], arrays: Mapping[str, "NDArray[Any]"]
    ) -> None:
        """Write one part, and in it a ``note`` on the scan as a whole. OSError where it cannot."""
        import numpy as np

        self.path.mkdir(parents=True, exist_ok=True)
        written = self.path / f"{part}.partial"
        with written.open("wb") as file:
            np.savez(file, note=np.array(json.dumps(note)), **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        written.replace(self.path / f"{part}.npz")

    def note(self) -> dict[str, Any] | None:
        """The note that was written last; None where nothing is kept. HeadprobeError where it
        cannot be read."""
        parts = sorted(self.path.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
        if not parts:
            return None
        text = str(self._read(parts[-1], ["note"])["note"])
        try:
            note = json.loads(text)
        except (ValueError, RecursionError):
            note = None
        if not isinstance(note, dict):
            raise HeadprobeError(
                str(parts[-1]), "is not the saved state of a scan", "Start again with --overwrite"
            )
        return note

    def has(self, part: str) -> bool:
        """Whether a part is kept."""
        return (self.path / f"{part}.npz").is_file()

    def arrays(self, part: str) -> "dict[str, NDArray[Any]] | None":
        """The arrays of a part; None where it is not kept. HeadprobeError as ``note``."""
        path = self.path / f"{part}.npz"
        return self._read(path) if path.is_file() else None

    def _read(self, path: Path, names: list[str] | None = None) -> "dict[str, NDArray[Any]]":
        import numpy as np

        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in names or archive.files}
        except (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise HeadprobeError(
                str(path), f"cannot be read ({error})", "Start again with --overwrite"
            ) from None

    def remove(self) -> None:
        """It is of no more use. Files that are no parts stay, and the folder with them."""
        if not self.path.is_symlink() and self.path.is_dir():
            remove_own(
                self.path, {f"{part}{end}" for part in PARTS for end in (".npz", ".partial")}
            )


def find_unfinished(folder: Path, name: str | None = None) -> list[Unfinished]:
    """What is kept in ``folder`` of the run ``name``, or of any run."""
    found = []
    for path in sorted(folder.glob(".*.unfinished")):
        match = _FOLDER.fullmatch(path.name)
        if match and name in (None, match[1]) and any(path.glob("*.npz")):
            rank, ranks = int(match[2] or 1), int(match[3] or 1)
            found.append(Unfinished(folder / match[1], rank - 1, ranks))
    return found
