"""Run folders: what is in them, how they are created, listed and read.

A run folder appears complete or not at all (``new_run``). ``Run`` reads its files when they are
first used, so that listing runs or showing one head stays fast.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from headprobe.errors import HeadprobeError
from headprobe.runs.files import (
    PARTIAL,
    atomic_folder,
    check_plain,
    foreign_files,
    parse_json,
    read_json_object,
    read_or_fail,
    remove_leftovers,
    temporary_sibling,
    write_or_fail,
)
from headprobe.runs.manifest import Manifest
from headprobe.runs.tables import Row, iterate_rows, read_frame
from headprobe.vocabulary import build_value, head_name, parse_head

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from headprobe.runs.instances import Instances
    from headprobe.runs.sums import Tallies


RUNS = Path("headprobe-runs")
"""The folder of runs, relative to the current folder."""

MANIFEST = "manifest.json"
"""What the run was made from (``runs.manifest.Manifest``)."""

HEADS = "heads.csv"
"""One row per head."""

CLAIMS = "claims.csv"
"""One row per head and role that it earned."""

RELATIONS = "relations.csv"
"""One row per head and relation."""

DOMAINS = "domains.csv"
"""One row per domain of a head and a relation."""

POWER = "power.csv"
"""One row per relation."""

PAIRS = "pairs.csv"
"""One row per pair of similar heads."""

SKIPPED = "skipped.csv"
"""One row per kind of skipped text."""

TABLES = (HEADS, CLAIMS, RELATIONS, DOMAINS, POWER, PAIRS, SKIPPED)
"""The tables that every run of this version has."""

CONTROLS = "controls.csv"
"""One row per control and relation; only runs with controls have this table."""

ABLATION = "ablation.csv"
"""One row per set of heads and outcome; only runs that ``ablate`` has used have this table."""

TAKEOVER = "takeover.csv"
"""One row per ablated head and responder; only runs that ``takeover`` has used have this table."""

UNFINISHED_ABLATION = "ablation-unfinished.npz"
"""The state of an ablation that was interrupted (``runs.unfinished_ablation``)."""

EXAMPLES = "examples.jsonl"
"""One JSON object per line: an example sentence of a head."""

TALLIES = "tallies.npz"
"""The sums over the whole run (``runs.sums.Tallies``)."""

INSTANCES = "instances.npz"
"""The passages, words and links of the run (``runs.instances.Instances``)."""

CONTROL_SUMS = MappingProxyType({"twin": "twin.npz", "shuffled": "shuffled.npz"})
"""The file with the sums of each control (docs/method.md, Controls)."""

RULES = "rules.yaml"
"""The rules that judged the run last."""

SHARD = "shard.json"
"""Of a shard folder: which part of which run it is (``runs.shards.Shard``)."""

DRAFT = "draft.json"
"""Of a shard folder: the manifest, without the values that only all shards together determine."""

TOKENS = "tokens.json"
"""Of the first shard's folder: the names of the distinct tokens."""

OWN = frozenset(
    {MANIFEST, *TABLES, CONTROLS, EXAMPLES, TALLIES, INSTANCES, *CONTROL_SUMS.values(), RULES}
    | {ABLATION, TAKEOVER, UNFINISHED_ABLATION, SHARD, DRAFT, TOKENS}
)
"""Every file that headprobe writes to a run or shard folder; only these are ever removed."""

_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        HEADS: ("layer", "head", "name", "kv_group", "role", "roles", "idle"),
        CLAIMS: ("layer", "head", "name", "role", "family", "relation", "looks_to", "n"),
        RELATIONS: ("layer", "head", "name", "family", "relation", "looks_to", "n"),
        DOMAINS: ("layer", "head", "name", "family", "relation", "looks_to", "domain", "n"),
        POWER: ("family", "relation", "looks_to", "n"),
        PAIRS: ("name_a", "name_b"),
        SKIPPED: ("source", "what", "reason", "count"),
        CONTROLS: ("control", "family", "relation", "looks_to", "n"),
        ABLATION: ("set", "heads", "by", "outcome", "effect", "usable"),
        TAKEOVER: ("ablated", "responder", "relation", "verdict"),
    }
)
"""The columns that tables of every version have, and that readers rely on."""

_MANIFEST_KEYS = {"schema_version", "model", "tokenizer", "probes", "rules_sha256", "fold_hash"}
"""Keys that the manifest of every version has."""

_SHARD_KEYS = {"index", "count", "terms", "skipped"}
"""Keys that the shard note of every version has."""

_LISTED = 3
"""The most foreign files that a message names."""


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run. Every file but the manifest is read when it is first used.

    A damaged or missing file raises HeadprobeError.
    """

    path: Path
    """The run folder."""

    manifest: Manifest
    """What the run was made from."""

    def __repr__(self) -> str:
        model = self.manifest.model
        return f"<Run {str(self.path)!r}: {model.n_layers} layers of {model.n_heads} heads>"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open the run in folder ``path``; HeadprobeError if there is none."""
        if not (path / MANIFEST).is_file():
            what = "not a run folder (no manifest.json)" if path.is_dir() else "no such folder"
            raise HeadprobeError(str(path), what, "headprobe runs lists the runs there are")
        return cls(path, Manifest.load(path / MANIFEST))

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the run's tables. Runs of earlier versions lack some of ``TABLES``, and only
        runs with controls have ``CONTROLS``."""
        always = (HEADS, RELATIONS, PAIRS, SKIPPED)
        present = (
            name for name in (*TABLES, CONTROLS, ABLATION, TAKEOVER) if (self.path / name).exists()
        )
        return tuple(dict.fromkeys((*always, *present)))

    @cached_property
    def heads(self) -> "pd.DataFrame":
        """One row per head (``heads.csv`` in docs/output.md)."""
        return read_frame(self.path / HEADS)

    @cached_property
    def relations(self) -> "pd.DataFrame":
        """One row per head and relation (``relations.csv`` in docs/output.md)."""
        return read_frame(self.path / RELATIONS)

    @cached_property
    def claims(self) -> "pd.DataFrame":
        """One row per head and role (``claims.csv`` in docs/output.md)."""
        return read_frame(self.path / CLAIMS)

    @cached_property
    def pairs(self) -> "pd.DataFrame":
        """One row per pair of similar heads (``pairs.csv`` in docs/output.md)."""
        return read_frame(self.path / PAIRS)

    @cached_property
    def controls(self) -> "pd.DataFrame":
        """One row per control and relation; HeadprobeError if the run has no controls."""
        return read_frame(self.path / CONTROLS)

    @cached_property
    def ablation(self) -> "pd.DataFrame":
        """One row per set of heads and outcome; HeadprobeError before ``ablate``."""
        return read_frame(self.path / ABLATION)

    @cached_property
    def takeovers(self) -> "pd.DataFrame":
        """One row per ablated head and responder; HeadprobeError before ``takeover``."""
        return read_frame(self.path / TAKEOVER)

    @cached_property
    def domains(self) -> "pd.DataFrame":
        """One row per domain of a head and a relation (``domains.csv`` in docs/output.md)."""
        return read_frame(self.path / DOMAINS)

    @cached_property
    def power(self) -> "pd.DataFrame":
        """One row per relation: what can be detected of it (``power.csv`` in docs/output.md)."""
        return read_frame(self.path / POWER)

    @cached_property
    def skipped(self) -> "pd.DataFrame":
        """One row per kind of skipped text (``skipped.csv`` in docs/output.md)."""
        return read_frame(self.path / SKIPPED)

    @cached_property
    def instances(self) -> "Instances":
        """The passages, words and links that were measured."""
        from headprobe.runs.instances import Instances

        with read_or_fail(self.path / INSTANCES) as path:
            return Instances.load(path)

    @cached_property
    def tallies(self) -> "Tallies":
        """The sums over the whole run."""
        return self.sums(TALLIES)

    def sums(self, name: str, instances: "Instances | None" = None) -> "Tallies":
        """The sums in one file of the run: ``TALLIES``, or a control's (``CONTROL_SUMS``).

        ``instances`` are those that were measured where they are not the run's own: shuffled links
        have other words as targets, and so another number of instances of each class of words.
        """
        from headprobe.runs.sums import read_sums

        model = self.manifest.model
        measured = self.instances if instances is None else instances
        with read_or_fail(self.path / name) as path:
            return read_sums(path, model.n_layers, model.n_heads, measured)

    def tally(self, name: str) -> "NDArray[Any]":
        """One array of the tallies; the others, and the instances, are not read."""
        from headprobe.runs.sums import axis_sizes, load_array

        model = self.manifest.model
        with read_or_fail(self.path / TALLIES) as path:
            return load_array(path, name, axis_sizes(model.n_layers, model.n_heads))

    def sketch(self, name: str = TALLIES) -> "NDArray[Any] | None":
        """The attention [Q, L, H, J] of the rows that name heads of different models by what they
        do, of the run or of one of its ``CONTROL_SUMS``; None in runs of earlier versions."""
        from headprobe.runs.sums import axis_sizes, load_optional

        model = self.manifest.model
        sizes = axis_sizes(model.n_layers, model.n_heads, self.instances)
        with read_or_fail(self.path / name) as path:
            return load_optional(path, "sketch", {axis: sizes[axis] for axis in "QLHJ"})

    def check_head(self, layer: int, head: int) -> None:
        """Raise HeadprobeError unless the run's model has this head."""
        model = self.manifest.model
        if layer >= model.n_layers or head >= model.n_heads:
            raise HeadprobeError(
                head_name(layer, head),
                f"the model has {model.n_layers} layers of {model.n_heads} heads",
                f"Name one from {head_name(0, 0)} "
                f"to {head_name(model.n_layers - 1, model.n_heads - 1)}",
            )

    def rows(self, table: str, head: tuple[int, int] | None = None) -> list[Row]:
        """The rows of one of ``TABLES``, or only those of one (layer, head), without pandas.

        HeadprobeError if the table is damaged, or names a head that the model does not have.
        """
        rows = list(self.iterate_rows(table, head))
        if table == HEADS and head is None:
            model = self.manifest.model
            if len({row.text("name") for row in rows}) != len(rows) or (
                len(rows) != model.n_layers * model.n_heads
            ):
                raise self._damaged(table, "it does not have one row for each head")
        return rows

    def iterate_rows(self, table: str, head: tuple[int, int] | None = None) -> Iterator[Row]:
        """Yield what ``rows`` returns, one row at a time. Missing rows are not noticed."""
        is_of_heads = "layer" in _COLUMNS[table]
        for row in iterate_rows(self.path / table, head, _COLUMNS[table]):
            if is_of_heads:
                self._check_head(table, row)
            yield row

    def _check_head(self, table: str, row: Row) -> None:
        model = self.manifest.model
        layer, head = row.whole("layer"), row.whole("head")
        is_there = 0 <= layer < model.n_layers and 0 <= head < model.n_heads
        if not is_there or row.text("name") != head_name(layer, head):
            raise self._damaged(table, f"it names the head {row.text('name')[:40]!r}")

    def _damaged(self, name: str, what: str) -> HeadprobeError:
        return HeadprobeError(str(self.path / name), f"not a readable table ({what})", "Scan again")

    def examples(self, head: str | Sequence[int]) -> list[dict[str, Any]]:
        """The example sentences of one head: ``"L12H5"``, ``"12.5"`` or ``(12, 5)``.

        HeadprobeError if the model has no such head.
        """
        layer, number = parse_head(head)
        self.check_head(layer, number)
        return list(self.iterate_examples((layer, number)))

    def iterate_examples(self, head: tuple[int, int] | None = None) -> Iterator[dict[str, Any]]:
        """Yield all example sentences of the run, or those of one (layer, head)."""
        start = "{" if head is None else f'{{"layer": {head[0]}, "head": {head[1]}, '
        with (
            read_or_fail(self.path / EXAMPLES) as path,
            path.open(encoding="utf-8", newline="\n") as lines,
        ):
            yield from (_read_example(line) for line in lines if line.startswith(start))


def _read_example(line: str) -> dict[str, Any]:
    """One line of ``EXAMPLES``; ValueError or TypeError if it is not an example."""
    values = parse_json(line)
    example = build_value(_Example, values)
    places = (*example.glued, *example.targets, *example.same_form, example.query)
    if not all(0 <= place < len(example.words) for place in places):
        raise ValueError("an example names a word that it does not have")
    if not all(
        len(pair) == 2 and 0 <= pair[0] < len(example.words) and pair[0] == int(pair[0])
        for pair in example.attended
    ):
        raise ValueError("an example's attention is not on its words")
    checked: dict[str, Any] = values
    return checked


@dataclass(frozen=True)
class _Example:
    """What readers rely on of an example (docs/output.md, examples.jsonl)."""

    family: str
    relation: str
    looks_to: str
    hit: bool
    words: tuple[str, ...]
    query: int
    targets: tuple[int, ...]
    attended: tuple[tuple[float, ...], ...]
    glued: tuple[int, ...]
    gaps: tuple[int, ...]
    same_form: tuple[int, ...] = ()
    expected: int = 0


def link_files(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Put those files of ``source`` that have one of ``names`` into ``folder``, where it does not
    have that name yet. They are hard links where the file system allows it, else copies.

    HeadprobeError where one is a link or no file, because what it points to may be anything.
    """
    for name in names:
        if os.path.lexists(source / name) and not (folder / name).exists():
            check_plain(source / name)
            _link(str(source / name), str(folder / name))


def _link(origin: str, target: str) -> None:
    try:
        os.link(origin, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(origin, target, follow_symlinks=False)


def default_target(model: str, now: datetime, folder: Path = RUNS) -> Path:
    """``headprobe-runs/<model>-<timestamp>``, a path that does not exist yet."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip(".-")[:64] or "model"
    target = folder / f"{stem}-{now:%Y%m%d-%H%M%S}"
    number = 2
    while target.exists():
        target = folder / f"{stem}-{now:%Y%m%d-%H%M%S}-{number}"
        number += 1
    return target


def check_target(target: Path, overwrite: bool, *, keep_foreign: bool = False) -> None:
    """Raise HeadprobeError unless a run may and can be written to ``target``.

    With ``overwrite`` an earlier run or an empty folder may be replaced, never anything else. A
    run that holds foreign files is replaced only with ``keep_foreign``: the caller keeps them.
    The check writes nothing that stays, and removes what killed processes left beside ``target``.
    """
    try:
        remove_leftovers(target.absolute().parent, OWN)
        if target.exists() or target.is_symlink():
            _check_existing(target, overwrite, keep_foreign)
            target = target.resolve()
        parent = target.absolute().parent
        while not os.path.lexists(parent):
            parent = parent.parent
        # the longest name that will be needed, to detect now that a name is too long
        attempt = temporary_sibling(parent / target.absolute().name, PARTIAL)
        attempt.mkdir()
        attempt.rmdir()
    except OSError as error:
        raise HeadprobeError(
            str(target), f"cannot be written ({error.strerror})", "Name another folder with -o"
        ) from None


def _check_existing(target: Path, overwrite: bool, keep_foreign: bool) -> None:
    if not target.is_dir():
        raise HeadprobeError(str(target), "exists and is not a folder", "Name another one with -o")
    is_run = _is_manifest(target / MANIFEST) or (
        _is_shard_note(target / SHARD) and _is_manifest(target / DRAFT)
    )
    if not is_run and any(target.iterdir()):
        raise HeadprobeError(
            str(target), "exists and is not a run folder", "Name another one with -o"
        )
    if not overwrite:
        raise HeadprobeError(
            str(target), "exists already", "Name another one with -o, or replace it: --overwrite"
        )
    foreign = foreign_files(target, OWN)
    if keep_foreign:  # a foreign file with one of our names cannot be kept
        foreign = [name for name in foreign if name in OWN]
    if foreign:
        raise HeadprobeError(
            str(target),
            f"is a run that also holds files that headprobe did not write ({_list_some(foreign)})",
            "Move them elsewhere first, or name another folder with -o",
        )
    if Path.cwd().resolve().is_relative_to(target.resolve()):
        # the folder is replaced as a whole, and the shell would be left in a deleted one
        raise HeadprobeError(
            str(target), "is the current folder", "Leave it first, or name another one with -o"
        )


def _is_manifest(path: Path) -> bool:
    """Whether a file is a manifest that headprobe wrote, in this version or another."""
    values = read_json_object(path)
    return values.keys() >= _MANIFEST_KEYS and isinstance(values["schema_version"], int)


def _is_shard_note(path: Path) -> bool:
    """Whether a file is the note of a shard that headprobe wrote."""
    return read_json_object(path).keys() >= _SHARD_KEYS


def _list_some(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


@contextmanager
def new_run(target: Path, overwrite: bool = False, *, keep_foreign: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``target`` that replaces it when the block ends successfully.

    On any exception it is removed, and ``target`` stays as it was. A link to a run folder stays a
    link: the folder that it points to is replaced. HeadprobeError as from ``check_target``, which
    is also called just before the exchange: what appeared in the meantime is not replaced.
    """
    check_target(target, overwrite, keep_foreign=keep_foreign)
    folder = target.resolve() if target.is_symlink() else target.absolute()

    def check() -> None:
        check_target(target, overwrite, keep_foreign=keep_foreign)

    remedy = "Make room, or name another folder with -o"
    with write_or_fail(target, remedy), atomic_folder(folder, OWN, check) as temporary:
        yield temporary


def list_runs(folder: Path = RUNS) -> tuple[list[Run], list[HeadprobeError]]:
    """The runs in ``folder``, newest first, and the errors of those that cannot be read."""
    runs, broken = [], []
    for manifest in sorted(folder.glob("[!.]*/" + MANIFEST)):
        try:
            runs.append(Run.load(manifest.parent))
        except HeadprobeError as error:
            broken.append(error)
    runs.sort(key=lambda run: (run.manifest.started, run.path.name), reverse=True)
    return runs, broken
