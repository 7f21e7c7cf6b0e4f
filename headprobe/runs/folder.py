"""Run folders: written whole or not at all, found again, read piece by piece.

Temporary folders beside runs: named so that those of processes that were killed can be told.
"""

import json
import os
import re
import secrets
import shutil
import socket
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self
from zipfile import BadZipFile

from headprobe.errors import HeadprobeError
from headprobe.runs.manifest import Manifest
from headprobe.runs.own_files import (
    foreign_files,
    is_manifest,
    is_shard_note,
    name_some,
    remove_own,
)
from headprobe.runs.tables import Row, read_frame, read_rows
from headprobe.vocabulary import head_name, parse_head

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headprobe.runs.instances import Instances
    from headprobe.runs.sums import Tallies


PARTIAL, OLD = "partial", "old"
"""A run that is being written, and one that is being replaced."""

_NAME = re.compile(rf"\.(.+)\.({PARTIAL}|{OLD})-([A-Za-z0-9-]*)-([0-9]+)-[0-9a-f]{{8}}")


def temporary_sibling(target: Path, kind: str) -> Path:
    """A new hidden name beside ``target`` that says which process of which machine uses it."""
    return target.with_name(f".{target.name}.{kind}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}")


def remove_leftovers(folder: Path, own: Collection[str]) -> None:
    """Remove from ``folder`` what processes of this machine that are gone have left there; a run
    that was to be replaced and never was takes its place again. Only files with the names ``own``
    are removed, others move to the run that replaced theirs."""
    for path, target, kind in list(_leftovers(folder)):
        if kind == OLD and not (target.exists() or target.is_symlink()):
            with suppress(OSError):
                path.rename(target)
        else:
            remove_own(path, own, heir=target if kind == OLD else None)


def _leftovers(folder: Path) -> Iterator[tuple[Path, Path, str]]:
    """(path, what it was for, kind) of what no living process uses, runs put aside first."""
    if os.name == "nt" or not folder.is_dir():  # there asking for a process would end it
        return
    for path in sorted(folder.glob(".*")):
        named = _NAME.fullmatch(path.name)
        if not named or path.is_symlink() or not path.is_dir():
            continue
        if named[3] == _host() and not _is_running(int(named[4])):
            yield path, folder / named[1], named[2]


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


RUNS = Path("headprobe-runs")
"""Where runs go and are looked for, under the current folder."""

MANIFEST = "manifest.json"

HEADS, RELATIONS, PAIRS, SKIPPED = "heads.csv", "relations.csv", "pairs.csv", "skipped.csv"

DOMAINS, POWER = "domains.csv", "power.csv"

TABLES = (HEADS, RELATIONS, DOMAINS, POWER, PAIRS, SKIPPED)

CONTROLS = "controls.csv"
"""A table of runs that had controls; the others have none."""

EXAMPLES = "examples.jsonl"

TALLIES, INSTANCES = "tallies.npz", "instances.npz"

CONTROL_SUMS = MappingProxyType({"twin": "twin.npz", "shuffled": "shuffled.npz"})
"""The tallies of each control (METHOD section 3)."""

RULES = "rules.yaml"

SHARD, DRAFT, TOKENS = "shard.json", "draft.json", "tokens.json"
"""What a shard folder has beside its sums: its note, its manifest, the names of its tokens."""

OWN = frozenset(
    {MANIFEST, *TABLES, CONTROLS, EXAMPLES, TALLIES, INSTANCES, *CONTROL_SUMS.values(), RULES}
    | {SHARD, DRAFT, TOKENS}
)
"""Every file that headprobe writes to a run or shard folder; only these are ever removed."""


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run. Everything but the manifest is read when it is first asked for."""

    path: Path
    manifest: Manifest

    def __repr__(self) -> str:
        model = self.manifest.model
        return f"<Run {str(self.path)!r}: {model.n_layers} layers of {model.n_heads} heads>"

    @classmethod
    def load(cls, path: Path) -> Self:
        """The run in folder ``path``; HeadprobeError where there is none."""
        if not (path / MANIFEST).is_file():
            what = "not a run folder (no manifest.json)" if path.is_dir() else "no such folder"
            raise HeadprobeError(str(path), what, "headprobe runs lists the runs there are")
        return cls(path, Manifest.load(path / MANIFEST))

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that the run has: some came with later versions, one comes with controls."""
        always = (HEADS, RELATIONS, PAIRS, SKIPPED)
        found = (name for name in (*TABLES, CONTROLS) if (self.path / name).exists())
        return tuple(dict.fromkeys((*always, *found)))

    @cached_property
    def heads(self) -> "pd.DataFrame":
        """One row per head (INTERFACE, ``heads.csv``)."""
        return read_frame(self.path / HEADS)

    @cached_property
    def relations(self) -> "pd.DataFrame":
        """One row per head and relation (INTERFACE, ``relations.csv``)."""
        return read_frame(self.path / RELATIONS)

    @cached_property
    def pairs(self) -> "pd.DataFrame":
        """One row per pair of heads that are alike (INTERFACE, ``pairs.csv``)."""
        return read_frame(self.path / PAIRS)

    @cached_property
    def controls(self) -> "pd.DataFrame":
        """One row per control and relation; HeadprobeError where the run had no control."""
        return read_frame(self.path / CONTROLS)

    @cached_property
    def domains(self) -> "pd.DataFrame":
        """One row per domain of a head and a relation (INTERFACE, ``domains.csv``)."""
        return read_frame(self.path / DOMAINS)

    @cached_property
    def power(self) -> "pd.DataFrame":
        """One row per relation: what it could show at all (``power.csv``)."""
        return read_frame(self.path / POWER)

    @cached_property
    def skipped(self) -> "pd.DataFrame":
        """One row per kind of thing left out (INTERFACE, ``skipped.csv``)."""
        return read_frame(self.path / SKIPPED)

    @cached_property
    def instances(self) -> "Instances":
        from headprobe.runs.instances import Instances

        with _reading(self.path / INSTANCES) as path:
            return Instances.load(path)

    @cached_property
    def tallies(self) -> "Tallies":
        return self.sums(TALLIES)

    def sums(self, name: str) -> "Tallies":
        """The run's tallies, or those of a control (``CONTROL_SUMS``)."""
        from headprobe.runs.sums import Tallies

        with _reading(self.path / name) as path:
            return Tallies.load(path)

    def tally(self, name: str) -> "NDArray[Any]":
        """One array of the tallies, the others left on disk."""
        from headprobe.runs.sums import load_array

        with _reading(self.path / TALLIES) as path:
            return load_array(path, name)

    def check_head(self, layer: int, head: int) -> None:
        """HeadprobeError unless the run's model has this head."""
        model = self.manifest.model
        if layer >= model.n_layers or head >= model.n_heads:
            raise HeadprobeError(
                head_name(layer, head),
                f"the model has {model.n_layers} layers of {model.n_heads} heads",
                f"Name one from {head_name(0, 0)} "
                f"to {head_name(model.n_layers - 1, model.n_heads - 1)}",
            )

    def rows(self, table: str, head: tuple[int, int] | None = None) -> list[Row]:
        """The rows of one of ``TABLES``, or those of one (layer, head), without pandas."""
        return read_rows(self.path / table, head)

    def examples(self, head: str | Sequence[int]) -> list[dict[str, Any]]:
        """The sentences of one head: ``"L12H5"``, ``"12.5"`` or ``(12, 5)``. HeadprobeError where
        the model has no such head."""
        layer, number = parse_head(head)
        self.check_head(layer, number)
        start = f'{{"layer": {layer}, "head": {number}, '
        with (
            _reading(self.path / EXAMPLES) as path,
            path.open(encoding="utf-8", newline="\n") as lines,
        ):
            return [json.loads(line) for line in lines if line.startswith(start)]


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    try:
        yield path
    except (OSError, KeyError, TypeError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise HeadprobeError(str(path), f"cannot be read ({error})", "Scan again") from None


def link_files(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Bring the files of ``names`` that ``source`` has into ``folder``, where that has none of the
    name; they are linked where the disk can, and never changed."""
    for name in names:
        if (source / name).exists() and not (folder / name).exists():
            _link(str((source / name).resolve()), str(folder / name))


def _link(origin: str, target: str) -> None:
    try:
        os.link(origin, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(origin, target, follow_symlinks=False)


def default_target(model: str, now: datetime, folder: Path = RUNS) -> Path:
    """``headprobe-runs/<model>-<timestamp>``, a name that no folder there has yet."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip(".-")[:64] or "model"
    target = folder / f"{stem}-{now:%Y%m%d-%H%M%S}"
    number = 2
    while target.exists():
        target = folder / f"{stem}-{now:%Y%m%d-%H%M%S}-{number}"
        number += 1
    return target


def check_target(target: Path, overwrite: bool, *, keep_foreign: bool = False) -> None:
    """HeadprobeError unless a run may and can be written to ``target``; leaves nothing behind, not
    even what others that were killed there did.

    With ``overwrite`` an earlier run or an empty folder may be replaced, never anything else. A
    run that holds files of others is replaced only with ``keep_foreign``, where they stay.
    """
    try:
        remove_leftovers(target.absolute().parent, OWN)
        if target.exists() or target.is_symlink():
            _check_existing(target, overwrite, keep_foreign)
            target = target.resolve()
        parent = target.absolute().parent
        while not parent.exists():
            parent = parent.parent
        # the longest name that will be needed, so that a name that is too long is found now
        attempt = temporary_sibling(parent / target.absolute().name, PARTIAL)
        attempt.mkdir()
        attempt.rmdir()
    except OSError as error:
        raise HeadprobeError(
            str(target), f"cannot be written ({error.strerror})", "Name another folder with -o"
        ) from None


def _check_existing(target: Path, overwrite: bool, keep_foreign: bool) -> None:
    if not target.is_dir():
        raise HeadprobeError(str(target), "exists and is no folder", "Name another one with -o")
    written = is_manifest(target / MANIFEST) or (
        is_shard_note(target / SHARD) and is_manifest(target / DRAFT)
    )
    if not written and any(target.iterdir()):
        raise HeadprobeError(
            str(target), "exists and holds something else than a run", "Name another one with -o"
        )
    if not overwrite:
        raise HeadprobeError(
            str(target), "exists already", "Name another one with -o, or replace it: --overwrite"
        )
    foreign = foreign_files(target, OWN)
    if keep_foreign:  # those with a name of ours would be in the way
        foreign = [name for name in foreign if name in OWN]
    if foreign:
        raise HeadprobeError(
            str(target),
            f"is a run that also holds what headprobe did not write ({name_some(foreign)})",
            "Move that elsewhere first, or name another folder with -o",
        )
    if Path.cwd().resolve().is_relative_to(target.resolve()):
        # its folder is replaced as a whole: the shell would be left in one that is gone
        raise HeadprobeError(
            str(target), "is the current folder", "Leave it first, or name another one with -o"
        )


@contextmanager
def new_run(target: Path, overwrite: bool = False, *, keep_foreign: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``target`` that takes its place when the block ends well.

    On any exception it is removed, and whatever stood at ``target`` stays as it was. A link to a
    run folder stays a link: the folder itself is replaced. Raises HeadprobeError as
    ``check_target`` does, again before the exchange: what appeared meanwhile is not replaced.
    """
    check_target(target, overwrite, keep_foreign=keep_foreign)
    named, target = target, target.resolve() if target.is_symlink() else target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(target, PARTIAL)
    temporary.mkdir()
    try:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            _flush(path)
        check_target(named, overwrite, keep_foreign=keep_foreign)
        _replace(temporary, target, temporary_sibling(target, OLD))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(temporary: Path, target: Path, aside: Path) -> None:
    if target.exists():
        if target.is_symlink():  # it was none when the scan began
            raise HeadprobeError(str(target), "was made by another", "Name another folder with -o")
        try:
            target.rename(aside)
        except OSError as error:  # another's folder, or one that is locked
            what = f"cannot be replaced ({error.strerror})"
            raise HeadprobeError(str(target), what, "Name another folder with -o") from None
    try:
        temporary.rename(target)
    except BaseException:
        if aside.exists():
            aside.rename(target)
        raise
    _flush(target.parent)
    if aside.exists():
        remove_own(aside, OWN, heir=target)


def _flush(path: Path) -> None:
    if os.name == "nt" or path.is_symlink():  # no folder can be opened there; links are no files
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_runs(folder: Path = RUNS) -> tuple[list[Run], list[HeadprobeError]]:
    """The runs in ``folder``, newest first, and what is wrong with those that cannot be read."""
    runs, broken = [], []
    for manifest in sorted(folder.glob("[!.]*/" + MANIFEST)):
        try:
            runs.append(Run.load(manifest.parent))
        except HeadprobeError as error:
            broken.append(error)
    runs.sort(key=lambda run: (run.manifest.started, run.path.name), reverse=True)
    return runs, broken


def newest_run(folder: Path = RUNS) -> Run:
    """The run in ``folder`` that started last; HeadprobeError where there is none."""
    runs, _ = list_runs(folder)
    if not runs:
        raise HeadprobeError(
            str(folder), "no run here", "Make one with headprobe scan, or name one with -r"
        )
    return runs[0]
