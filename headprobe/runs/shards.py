"""Shard folders: the sums of one share of a run, beside the run that all of them make."""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar
from zipfile import BadZipFile

from headprobe.errors import HeadprobeError
from headprobe.runs.folder import DRAFT, INSTANCES, SHARD, TOKENS
from headprobe.runs.manifest import Manifest
from headprobe.vocabulary import Skipped

if TYPE_CHECKING:
    from headprobe.runs.instances import Instances
    from headprobe.runs.sums import Tallies

T = TypeVar("T")

_NAME = re.compile(r"(.+)\.shard-\d+-of-\d+")


@dataclass(frozen=True)
class Shard:
    """A share of a run, number ``index`` (from 0) of ``count``.

    ``terms`` is what its sums depend on, by name; ``draft`` the manifest without what only all
    shards together tell; ``controls`` the key of each control. The first one has what is common to
    all: instances, and the names of the distinct tokens.
    """

    path: Path
    index: int
    count: int
    terms: Mapping[str, str]
    controls: Mapping[str, str]
    skipped: tuple[Skipped, ...]
    draft: Manifest

    @staticmethod
    def target(run: Path, index: int, count: int) -> Path:
        """The folder of a shard of ``run``."""
        return run.with_name(f"{run.name}.shard-{index + 1}-of-{count}")

    @property
    def run(self) -> Path | None:
        """The run that it is of, by its folder's name."""
        match = _NAME.fullmatch(self.path.name)
        return None if match is None else self.path.with_name(match[1])

    def tokens(self) -> list[str]:
        """The names of the distinct tokens, which the first shard has."""
        tokens: list[str] = self._read(TOKENS, lambda path: json.loads(path.read_text("utf-8")))
        return tokens

    def instances(self) -> "Instances":
        """The instances of the whole run, which the first shard has."""
        from headprobe.runs.instances import Instances

        return self._read(INSTANCES, Instances.load)

    def sums(self, name: str) -> "Tallies":
        """The shard's tallies, or those of a control."""
        from headprobe.runs.sums import Tallies

        return self._read(name, Tallies.load)

    def _read(self, name: str, load: Callable[[Path], T]) -> T:
        try:
            return load(self.path / name)
        except (
            OSError,
            KeyError,
            TypeError,
            ValueError,
            EOFError,
            BadZipFile,
            zlib.error,
        ) as error:
            raise HeadprobeError(
                str(self.path / name), f"cannot be read ({error})", "Scan this shard again"
            ) from None

    def save(self, folder: Path) -> None:
        """Write all but the sums to ``folder``."""
        self.draft.save(folder / DRAFT)
        note = {
            "index": self.index,
            "count": self.count,
            "terms": dict(self.terms),
            "controls": dict(self.controls),
            "skipped": [asdict(each) for each in self.skipped],
        }
        (folder / SHARD).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """The shard in a folder; HeadprobeError where there is none, or it cannot be read."""
        try:
            note = json.loads((path / SHARD).read_text(encoding="utf-8"))
            skipped = tuple(Skipped(**each) for each in note.pop("skipped"))
            return cls(path=path, **note, skipped=skipped, draft=Manifest.load(path / DRAFT))
        except FileNotFoundError:
            raise HeadprobeError(
                str(path), "is no shard of a run", "Name a run, or folders made by scan --shard"
            ) from None
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise HeadprobeError(
                str(path), f"cannot be read ({error})", "Scan this shard again"
            ) from None


def find_shards(run: Path) -> list[Path]:
    """The shard folders of ``run``, in order of their names."""
    absolute = run.absolute()
    if not absolute.parent.is_dir():
        return []
    return sorted(
        run.with_name(path.name)
        for path in absolute.parent.iterdir()
        if (match := _NAME.fullmatch(path.name)) and match[1] == run.name and path.is_dir()
    )
