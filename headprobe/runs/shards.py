"""Shard folders: the sums of one part of a scan, written beside the run that the parts add up to.

Each ``headprobe scan --shard I/N --out RUN`` writes one shard folder; ``headprobe merge RUN`` adds
their sums.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from headprobe.config import MAX_SHARDS
from headprobe.errors import HeadprobeError
from headprobe.runs.files import read_json, read_or_fail
from headprobe.runs.folder import CONTROL_SUMS, DRAFT, INSTANCES, SHARD, TOKENS
from headprobe.runs.manifest import Manifest
from headprobe.vocabulary import Skipped, build_value

if TYPE_CHECKING:
    from headprobe.runs.instances import Instances
    from headprobe.runs.sums import Tallies

_NAME = re.compile(r"(.+)\.shard-\d+-of-\d+")
"""The name of a shard folder; the group is the name of the run."""

_FIELDS: Mapping[str, Any] = MappingProxyType(
    {
        "index": int,
        "count": int,
        "terms": dict[str, str],
        "controls": dict[str, str],
        "skipped": tuple[Skipped, ...],
    }
)
"""The keys of ``shard.json`` and the types of their values."""

_REMEDY = "Scan this shard again"


@dataclass(frozen=True)
class Shard:
    """One of the parts of a scan. The first shard also has what all of them share: the instances
    and the names of the distinct tokens."""

    path: Path
    """The shard folder."""

    index: int
    """The number of the shard, from 0."""

    count: int
    """The number of shards of the scan."""

    terms: Mapping[str, str]
    """The fingerprint of the sums: the value of all that they depend on, by name. Sums of shards
    add only if their fingerprints are equal."""

    controls: Mapping[str, str]
    """The key of each control, by its name (``ControlNote.key``)."""

    skipped: tuple[Skipped, ...]
    """What was left out of the whole scan."""

    draft: Manifest
    """The manifest, without the values that only all shards together determine."""

    @staticmethod
    def target(run: Path, index: int, count: int) -> Path:
        """The folder of a shard of ``run``."""
        return run.with_name(f"{run.name}.shard-{index + 1}-of-{count}")

    @property
    def run(self) -> Path | None:
        """The run that the shard belongs to, by the name of its folder; None if it was renamed."""
        match = _NAME.fullmatch(self.path.name)
        return None if match is None else self.path.with_name(match[1])

    def tokens(self) -> list[str]:
        """The names of the distinct tokens; only the first shard has them."""
        with read_or_fail(self.path / TOKENS, _REMEDY) as path:
            return list(build_value(tuple[str, ...], read_json(path)))

    def instances(self) -> "Instances":
        """The instances of the whole run; only the first shard has them."""
        from headprobe.runs.instances import Instances

        with read_or_fail(self.path / INSTANCES, _REMEDY) as path:
            return Instances.load(path)

    def sums(self, name: str, instances: "Instances") -> "Tallies":
        """The sums in one file of the shard: ``TALLIES``, or a control's (``CONTROL_SUMS``).

        ``instances`` are those of the run (``instances``).
        """
        from headprobe.runs.sums import read_sums

        model = self.draft.model
        with read_or_fail(self.path / name, _REMEDY) as path:
            return read_sums(path, model.n_layers, model.n_heads, instances)

    def save(self, folder: Path) -> None:
        """Write the note and the draft of the manifest to ``folder``."""
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
        """Open the shard in folder ``path``; HeadprobeError if there is none or it is damaged."""
        missing = HeadprobeError(
            str(path), "is not a shard of a run", "Name a run, or folders made by scan --shard"
        )
        with read_or_fail(path / SHARD, _REMEDY, missing=missing) as file:
            note = read_json(file)
            values = {name: build_value(kind, note[name]) for name, kind in _FIELDS.items()}
            if not 0 <= values["index"] < values["count"] <= MAX_SHARDS:
                raise ValueError(f"it is shard {values['index'] + 1} of {values['count']}")
            if unknown := values["controls"].keys() - CONTROL_SUMS.keys():
                raise ValueError(f"it has the unknown control {min(unknown)[:40]!r}")
        return cls(path=path, **values, draft=Manifest.load(path / DRAFT))


def find_shards(run: Path) -> list[Path]:
    """The shard folders of ``run``, sorted by name."""
    absolute = run.absolute()
    if not absolute.parent.is_dir():
        return []
    return sorted(
        run.with_name(path.name)
        for path in absolute.parent.iterdir()
        if (match := _NAME.fullmatch(path.name)) and match[1] == run.name and path.is_dir()
    )
