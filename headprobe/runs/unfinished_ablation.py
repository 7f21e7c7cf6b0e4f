"""The state of an unfinished ablation, from which ``ablate --resume`` continues.

It is one file in the run folder, written atomically about twice a minute and when the user
interrupts the command: a killed process loses half a minute.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headprobe.errors import HeadprobeError
from headprobe.runs.files import atomic_write, read_or_fail
from headprobe.runs.fingerprint import Fingerprint

SAVE_SECONDS = 30.0
"""Seconds between two savings."""

_FINGERPRINT = "fingerprint"
_REMEDY = "Start again without resuming"

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass
class UnfinishedAblation:
    """Arrays that are filled while an ablation runs, and the file that keeps them."""

    path: Path
    fingerprint: Fingerprint
    """What the arrays depend on."""
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    """The arrays by name; they are saved as they are at that time."""
    _saved: float = field(default_factory=time.monotonic)

    @classmethod
    def load(cls, path: Path, fingerprint: Fingerprint) -> "UnfinishedAblation":
        """Read the file; HeadprobeError if it is missing, damaged or of another ablation."""
        missing = HeadprobeError(
            "resume", f"no unfinished ablation is kept in {path.parent}", _REMEDY
        )
        with (
            read_or_fail(path, _REMEDY, "not a readable state", missing),
            np.load(path, allow_pickle=False) as file,
        ):
            values = json.loads(str(file[_FINGERPRINT]))
            if not isinstance(values, dict):
                raise ValueError("its fingerprint is no object")
            arrays = {name: file[name] for name in file.files if name != _FINGERPRINT}
        if difference := Fingerprint(values).first_difference(fingerprint):
            raise HeadprobeError(
                "resume",
                f"the unfinished ablation differs in {difference}",
                "Give the same heads and options again, or start without resuming",
            )
        return cls(path, fingerprint, arrays)

    def take(self, name: str, empty: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the array that was saved under ``name``, or ``empty``, and keep it from now on."""
        saved = self.arrays.get(name)
        if saved is None or saved.shape != empty.shape or saved.dtype != empty.dtype:
            self.arrays[name] = empty
        return self.arrays[name]

    def save_sometimes(self) -> None:
        """Save if the last time was ``SAVE_SECONDS`` ago."""
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the arrays as they are now."""
        values = np.array(json.dumps(self.fingerprint.values))
        with atomic_write(self.path) as file:
            np.savez(file, **{_FINGERPRINT: values}, **self.arrays)  # type: ignore[arg-type]
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove the file: the ablation has ended."""
        self.path.unlink(missing_ok=True)
