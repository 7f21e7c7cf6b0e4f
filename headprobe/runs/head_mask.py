"""Head masks: which heads of a model stay, as a JSON file that other tools can read.

The format is documented in ``docs/causal.md``, Pruning.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from headprobe.errors import HeadprobeError
from headprobe.runs.files import atomic_write, read_json, read_json_object, read_or_fail
from headprobe.runs.manifest import ModelNote

FORMAT = "headprobe head mask"
"""The value of ``format``, by which the files are recognised."""

VERSION = 1
"""Rises when a key changes its name or its meaning."""

Replacement = Literal["zero", "mean"]
"""What takes the place of the outputs of heads that do not stay."""

_MODEL = (
    *("asked", "kind", "revision", "gguf", "adapter", "weights_sha256", "architecture"),
    *("n_layers", "n_heads", "n_kv_heads", "head_dim"),
)
"""The fields of ``ModelNote`` that say which model a mask is of."""

_REMEDY = "Write one: headprobe prune RUN --mask FILE"


@dataclass(frozen=True)
class HeadMask:
    """Which heads of a model stay."""

    keep_heads: tuple[tuple[bool, ...], ...]
    """[L, H]: whether a query head stays."""
    replacement: Replacement
    """What takes the place of the outputs of the other heads."""
    groups_removed: int
    """The number of key/value heads per layer that the saved checkpoint lacks; 0 where all shapes
    are those of the original."""
    chosen_by: Mapping[str, Any]
    """How the heads were chosen: the options of the command."""
    heads: Sequence[Mapping[str, Any]] = field(default=())
    """The verdict of each head."""
    groups: Sequence[Mapping[str, Any]] = field(default=())
    """The verdict of each key/value head."""
    losses: Sequence[Mapping[str, Any]] = field(default=())
    """What was measured, beside the baselines; empty without a measurement."""

    @property
    def removed(self) -> tuple[tuple[int, int], ...]:
        """The heads (layer, head) that do not stay, in order."""
        return tuple(
            (layer, head)
            for layer, row in enumerate(self.keep_heads)
            for head, stays in enumerate(row)
            if not stays
        )

    def whole_groups(self, model: ModelNote) -> int:
        """The number of key/value heads per layer of which the removed heads consist; 0 unless it
        is the same in all layers, at least one remains, and zero takes their place."""
        per_group = model.n_heads // model.n_kv_heads[0]
        counts = set()
        for row in self.keep_heads:
            groups = [row[at : at + per_group] for at in range(0, len(row), per_group)]
            gone = sum(not any(group) for group in groups)
            counts.add(gone if gone * per_group == row.count(False) else 0)
        count = min(counts)
        is_uniform = len(counts) == 1 and 0 < count < model.n_kv_heads[0]
        return count if is_uniform and self.replacement == "zero" else 0

    def values(self, model: ModelNote, version: str) -> dict[str, Any]:
        """Return the JSON object of the mask; ``version`` is that of headprobe."""
        per_group = [model.n_heads // groups for groups in model.n_kv_heads]
        return {
            "format": FORMAT,
            "version": VERSION,
            "headprobe": version,
            "model": {name: value for name, value in asdict(model).items() if name in _MODEL},
            "chosen_by": dict(self.chosen_by),
            "replacement": self.replacement,
            "groups_removed": self.groups_removed,
            "keep_heads": [list(row) for row in self.keep_heads],
            "keep_groups": [
                [any(row[at : at + size]) for at in range(0, len(row), size)]
                for row, size in zip(self.keep_heads, per_group, strict=True)
            ],
            "heads": list(self.heads),
            "groups": list(self.groups),
            "losses": list(self.losses),
        }

    @classmethod
    def load(cls, path: Path, model: ModelNote) -> Self:
        """Read the mask of ``model``; HeadprobeError where it is damaged, or of another model."""
        with read_or_fail(path, _REMEDY, "is not a head mask") as file:
            values = read_json(file)
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT!r}")
            if values.get("version") != VERSION:
                raise ValueError(f"its version is not {VERSION}")
            weights = values["model"]["weights_sha256"]
            keep, replacement = values["keep_heads"], values["replacement"]
            if replacement not in ("zero", "mean"):
                raise ValueError("its replacement is neither zero nor mean")
            if not (
                isinstance(keep, list)
                and all(isinstance(row, list) for row in keep)
                and all(isinstance(cell, bool) for row in keep for cell in row)
            ):
                raise ValueError("keep_heads is not a list of lists of true and false")
        shape = [len(row) for row in keep]
        if weights != model.weights_sha256 or shape != [model.n_heads] * model.n_layers:
            raise HeadprobeError(
                str(path), "is a mask of another model", "Name the run of the model that it is of"
            )
        if all(cell for row in keep for cell in row):
            raise HeadprobeError(str(path), "keeps all heads", "Set heads to false in keep_heads")
        return cls(tuple(map(tuple, keep)), replacement, 0, {"mask": path.name})


def write_mask(path: Path, values: Mapping[str, Any]) -> None:
    """Write the values of a mask as a file, in which each layer and each verdict is a line."""
    lines = ",\n".join(f"  {json.dumps(key)}: {_lines(value)}" for key, value in values.items())
    with atomic_write(path) as file:
        file.write(f"{{\n{lines}\n}}\n".encode())


def _lines(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n    " + ",\n    ".join(map(json.dumps, value)) + "\n  ]"


def check_mask_target(path: Path, overwrite: bool) -> None:
    """Raise HeadprobeError unless a mask may be written to ``path``: only masks are replaced."""
    if not path.parent.is_dir():
        raise HeadprobeError(str(path.parent), "no such folder", "Create it, or name another file")
    if not (path.exists() or path.is_symlink()):
        return
    if path.is_dir() or path.is_symlink() or read_json_object(path).get("format") != FORMAT:
        raise HeadprobeError(
            str(path), "exists and is not a head mask", "Name another file: --mask FILE.json"
        )
    if not overwrite:
        raise HeadprobeError(
            str(path), "exists already", "Name another file, or replace it: --overwrite"
        )
