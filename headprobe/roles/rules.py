"""The rules that turn evidence into roles: dataclasses that are read from YAML.

``configs/roles.yaml`` holds every threshold, with its meaning; a rules file of the user overrides
single values. The dataclasses mirror the file's structure, and a hash of the values identifies the
rules in manifests.
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml

from headprobe.errors import HeadprobeError
from headprobe.format import clip, suggest_names
from headprobe.resources import configs_folder
from headprobe.runs.files import read_or_fail
from headprobe.runs.folder import RULES, Run
from headprobe.vocabulary import DUPLICATE, INDUCTION, MIXED, NONE, POSITIONAL, REDUNDANT, UNNAMED

RESERVED = (POSITIONAL, DUPLICATE, INDUCTION, UNNAMED, REDUNDANT, MIXED, NONE)
"""Roles that do not rest on one relation; rules files may not define them."""

_ROLE_NAME = re.compile(r"[^\W\d_][\w.:+-]{0,39}")
"""Names of relations follow the same pattern. No ``;``: the column ``roles`` separates with it."""


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Which relations earn a role, and what they need beyond the general thresholds."""

    family: str
    """The family of the relations."""
    relation: str = ""
    """One relation of the family; empty for all of them."""
    strict: bool = False
    """Only relations that leave out words with the query's own form count."""
    beats: Literal["distance", "category"] = "distance"
    """Which control the head must beat."""
    norm_above_habit: bool = False
    """Whether ``share_norm`` must be above ``habit_share``."""
    secondary: bool = False
    """Whether the role comes after all others, and never makes a head ``mixed``."""


@dataclass(frozen=True, slots=True)
class PositionalRule:
    """Thresholds of ``positional``."""

    explained: float
    min_kept: float
    min_rows: int


@dataclass(frozen=True, slots=True)
class CopyingRule:
    """Thresholds of ``duplicate-token`` and ``induction``."""

    margin: float
    min_mass: float


@dataclass(frozen=True, slots=True)
class UnnamedRule:
    """Thresholds of ``unnamed``."""

    agreement: float
    moved: float
    min_attention: float


@dataclass(frozen=True, slots=True)
class IdleRule:
    """Thresholds of idle heads."""

    output_norm: float
    residual_share: float


@dataclass(frozen=True, slots=True)
class RepeaterRule:
    """Thresholds of repeaters."""

    affinity: float
    cosine: float
    within_group: float
    certain: float
    min_groups: int
    min_rows: int


@dataclass(frozen=True, slots=True)
class CausalRule:
    """Thresholds of ablations, takeover and pruning (docs/causal.md)."""

    confidence: float
    max_p: float
    min_rows: int
    min_share: float
    matched_norm: float
    max_harm: float


@dataclass(frozen=True, slots=True)
class SinkRule:
    """Thresholds of sinks."""

    weight: float
    min_passages: int


@dataclass(frozen=True, slots=True)
class Rules:
    """Every threshold of docs/method.md; ``configs/roles.yaml`` gives the meaning of each."""

    confidence: float
    margin: float
    min_n: int
    min_mass: float
    max_q: float
    min_lift: float
    min_share_gain: float
    min_forms: int
    min_form_folds: float
    power: float
    mixed: float
    max_bits: float
    roles: Mapping[str, RoleRule]
    positional: PositionalRule
    copying: CopyingRule
    unnamed: UnnamedRule
    idle: IdleRule
    repeater: RepeaterRule
    causal: CausalRule
    sinks: SinkRule

    @property
    def sha256(self) -> str:
        """Hash of the values; comments and the order of keys do not change it."""
        return hashlib.sha256(json.dumps(self._values, sort_keys=True).encode()).hexdigest()

    @property
    def _values(self) -> dict[str, Any]:
        roles = {name: asdict(role) for name, role in self.roles.items()}
        return {**asdict(self), "roles": roles}

    def changed(self, base: "Rules") -> list[str]:
        """Return the differences from ``base``: ``margin: 0.2``, or ``roles.negation`` for a role
        that is new, changed or missing."""
        values, base_values = _flat(self._values), _flat(base._values)
        return [
            f"{name}: {values[name]:g}" if isinstance(values.get(name), int | float) else name
            for name in {**base_values, **values}
            if values.get(name) != base_values.get(name)
        ]

    def save(self, path: Path) -> None:
        """Write all rules as YAML, which ``load_rules`` reads back."""
        values = {**self._values, "roles": {}}
        for name, role in self._values["roles"].items():
            values["roles"][name] = {key: value for key, value in role.items() if value is not None}
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def load_rules(path: Path | None = None) -> Rules:
    """Return the packaged rules with the changes of the file ``path``.

    Raises HeadprobeError where the file cannot be read or holds something that is not a rule.
    """
    default = configs_folder() / "roles.yaml"
    values = _read_packaged(default)
    if path is not None:
        values = _overlay(values, _read(path))
    return _rules(values, str(path or default))


def run_rules(run: Run) -> Rules:
    """Return the rules that judged a run last; rules that its file does not name, as those of a run
    of an earlier version, are as packaged."""
    path = run.path / RULES
    return load_rules(path if path.exists() else None)


@functools.cache
def _read_packaged(path: Path) -> dict[str, Any]:
    """The values of the packaged rules, which do not change while a process runs."""
    return _read(path)


class _DuplicateKey(Exception):  # noqa: N818
    def __init__(self, key: str, line: int) -> None:
        self.key, self.line = key[:60], line


class _UniqueKeyLoader(yaml.SafeLoader):
    """A YAML loader that refuses repeated keys; PyYAML itself keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _DuplicateKey(key.value, key.start_mark.line + 1)
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


# Dates and the values of tags are not rules; they would only be constructed to be refused.
_UniqueKeyLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

_MAX_BYTES = 1 << 20
"""The largest rules file; the packaged one has some kilobytes."""

_BASE_60 = re.compile(r"[-+]?[0-9_]+(:[0-9]+)+(\.[0-9_]*)?")
"""What YAML reads as a number of base 60, such as 12:30."""

_MAX_DEPTH = 8
"""Levels of nesting; rules have three."""


def _read(path: Path) -> dict[str, Any]:
    try:
        with read_or_fail(path, "Name a readable rules file"):
            text = _read_text(path)
            _check_events(text, path)
            values = yaml.load(text, _UniqueKeyLoader)  # noqa: S506
    except _DuplicateKey as error:
        where = f"{path}:{error.line}"
        raise HeadprobeError(where, f"{error.key!r} occurs twice", "Keep one of them") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = clip(getattr(error, "problem", None) or "malformed", 100)
        raise HeadprobeError(where, f"not YAML: {problem}", "Correct the line") from error
    if not isinstance(values, dict):
        raise HeadprobeError(str(path), "has no rules", "Write lines such as 'margin: 0.10'")
    return values


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        what = f"is larger than {_MAX_BYTES >> 20} MiB, which no rules file is"
        raise HeadprobeError(str(path), what, "Name a rules file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HeadprobeError(str(path), "not UTF-8 text", "Save it as UTF-8") from error


def _check_events(text: str, path: Path) -> None:
    """Raise HeadprobeError where a file uses what rules do not need and can do harm with.

    Aliases can make a small file expand to gigabytes, tags make other values than are written, and
    the library recurses into nested values.
    """
    depth = documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        mark = event.start_mark
        where = str(path) if mark is None else f"{path}:{mark.line + 1}"
        if getattr(event, "anchor", None) is not None:  # anchors, and aliases of them
            raise HeadprobeError(where, "a YAML anchor or alias", "Write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise HeadprobeError(where, f"the YAML tag {clip(str(tag), 40)}", "Remove it")
        if isinstance(event, yaml.ScalarEvent) and _BASE_60.fullmatch(event.value):
            raise HeadprobeError(where, "a number of base 60, for YAML", "Write a decimal number")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > _MAX_DEPTH:
            raise HeadprobeError(
                where, "nested too deeply", "Write rules such as 'idle:' with 'output_norm: 0.1'"
            )
        if documents > 1:
            raise HeadprobeError(where, "a second YAML document", "Write one document per file")


_GROUPS: Mapping[str, type] = {
    "positional": PositionalRule,
    "copying": CopyingRule,
    "unnamed": UnnamedRule,
    "idle": IdleRule,
    "repeater": RepeaterRule,
    "causal": CausalRule,
    "sinks": SinkRule,
}
"""The groups of ``Rules``, by their keys in rules files."""


def _overlay(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``changes``; nested mappings are merged key by key."""
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _overlay(base[key], value) if nested else value
    return merged


def _rules(values: dict[str, Any], where: str) -> Rules:
    groups: dict[str, Any] = {
        name: _typed(kind, _mapping(values, name, where), where, f"{name}.")
        for name, kind in _GROUPS.items()
    }
    roles = _mapping(values, "roles", where)
    for name in roles:
        if name in RESERVED or not isinstance(name, str):
            what = f"role {_shown(name)} cannot be defined"
            raise HeadprobeError(where, what, "Choose another name")
        if not _ROLE_NAME.fullmatch(name):
            raise HeadprobeError(
                where,
                f"role {name[:40]!r} is not a valid name",
                "Use up to 40 letters, digits and - _ . : +, beginning with a letter",
            )
    groups["roles"] = {
        name: _typed(RoleRule, _mapping(roles, name, where), where, f"roles.{name}.")
        for name in roles
    }
    return _typed(Rules, values | groups, where, "")


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted names such as ``idle.output_norm``; a role stays one value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{part}": inner for part, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _mapping(values: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    part = values.get(name, {})
    if not isinstance(part, dict):
        raise HeadprobeError(
            where, f"{name!r} is not a group of rules", "Indent its rules below it"
        )
    return part


_Kind = TypeVar("_Kind")


def _typed(kind: type[_Kind], values: dict[str, Any], where: str, prefix: str) -> _Kind:
    """Build a dataclass from a mapping; HeadprobeError where a key or a value does not fit.

    ``where`` is the file, and ``prefix`` precedes the keys in messages.
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in known:
            shown = f"{prefix}{name}" if isinstance(name, str) else _shown(name)
            what = f"unknown rule '{clip(shown, 60)}'"
            raise HeadprobeError(where, what, suggest_names(str(name)[:60], known))
        _check(known[name].type, value, where, f"{prefix}{name}")
    exact = {
        name: float(value) if known[name].type is float else value for name, value in values.items()
    }
    try:
        return kind(**exact)
    except TypeError as error:
        missing = [name for name in known if name not in values]
        what = f"'{prefix}{missing[0]}' is missing"
        raise HeadprobeError(where, what, "Give it a value") from error


_PROBABILITIES = ("confidence", "power", "causal.confidence", "causal.max_p")
"""Rules that must be between 0 and 1."""

_LARGEST = 1e9
"""No threshold comes near it."""


def _check(kind: Any, value: object, where: str, name: str) -> None:
    """Raise HeadprobeError unless ``value`` has the type ``kind``; numbers must not be negative."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    in_range = number and 0 <= value <= _LARGEST  # type: ignore[operator]
    checks = {
        bool: (isinstance(value, bool), "true or false"),
        str: (isinstance(value, str), "text"),
        int: (isinstance(value, int) and in_range, "a whole number, 0 or more"),
        float: (in_range, "a number, 0 or more"),
    }
    if get_origin(kind) is Literal:
        checks[kind] = (value in get_args(kind), " or ".join(map(repr, get_args(kind))))
    fits, remedy = checks.get(kind, (True, ""))
    if not fits:
        raise HeadprobeError(where, f"'{name}' is {_shown(value)}", f"Give {remedy}")
    if name in _PROBABILITIES and not 0 < float(value) < 1:  # type: ignore[arg-type]
        raise HeadprobeError(where, f"'{name}' is {_shown(value)}", "Give a number between 0 and 1")


def _shown(value: object) -> str:
    """A value of a file as error messages repeat it: on one line, and not at length."""
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "a group of rules"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST:
        return "a very large number"  # to write it out may take long, or be refused
    return clip(repr(value), 60)
