"""``headprobe compare``: two runs head by head, without the models."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headprobe.analysis.changes import (
    Change,
    Gain,
    MeasuredHits,
    independent_change,
    paired_change,
)
from headprobe.analysis.effects import adjust
from headprobe.analysis.matching import (
    Matching,
    equal_seats,
    head_vectors,
    kappa,
    match_heads,
    self_assigned,
    similarity,
    twin_floor,
)
from headprobe.analysis.twins import without_twins
from headprobe.arrays import Floats, Ints
from headprobe.errors import HeadprobeError
from headprobe.format import relation_name
from headprobe.results.comparison import DEPTHS, ComparedHead, Comparison, Side, Text
from headprobe.roles.rules import Rules, load_rules
from headprobe.runs.folder import CONTROL_SUMS, HEADS, POWER, RELATIONS, RULES, TALLIES, Run
from headprobe.runs.instances import Instances
from headprobe.runs.sketch import MIN_ROWS, SharedRows, shared_rows
from headprobe.vocabulary import NONE, head_name

if TYPE_CHECKING:
    import pandas as pd

TWIN = CONTROL_SUMS["twin"]

RelationKey = tuple[str, str, str]
"""Family, name and ``looks_to`` of a relation, as in ``relations.csv``."""


def compare_runs(run_a: Run, run_b: Run, *, same_model: bool = False) -> Comparison:
    """Compare two runs of one model, or of two models.

    Runs are of one model if their weights are equal, if they differ by an adapter only, or if the
    caller declares ``same_model``, as for a quantised copy. Raises HeadprobeError where the runs
    cannot be compared.
    """
    a, b = _Measured(run_a), _Measured(run_b)
    _check_pair(a, b)
    one_model = _is_same_model(a, b, same_model)
    notes = _notes(a, b, one_model)
    matching, rows = _match(a, b, one_model)
    text: Text = "same" if a.probes & b.probes else "other"
    partner = np.arange(a.count) if one_model else matching.assigned
    relations: Sequence[RelationKey | None] = [None] * a.count
    columns: Mapping[str, Sequence[Any]] = {}
    if one_model:
        relations = [_relation_of(a, b, number) for number in range(a.count)]
        columns = _change_columns(a, b, relations, text)
    correlation = _gain_correlations(a, b, partner)
    heads = tuple(
        ComparedHead(
            head_a=a.names[number],
            head_b=b.names[other] if other >= 0 else None,
            affinity=_value(matching.affinity[number]),
            floor95=_value(matching.floor[number]),
            matched=None if np.isnan(matching.floor[number]) else bool(matching.matched[number]),
            nearest=None if np.isnan(matching.affinity[number]) else bool(matching.nearest[number]),
            role_a=a.roles[number],
            role_b=b.roles[other] if other >= 0 else None,
            gains_r=_value(correlation[number]),
            **{name: values[number] for name, values in columns.items()},
        )
        for number, other in enumerate(partner.tolist())
    )
    agreement = kappa_of_roles = None
    if one_model:
        table = Counter((head.role_a, str(head.role_b)) for head in heads)
        agreement = sum(head.same_role for head in heads) / len(heads)
        kappa_of_roles = _value(kappa(table))
    seats = None
    if not one_model and a.shape == b.shape:
        found = equal_seats(np.reshape(a.roles, a.shape), np.reshape(b.roles, b.shape), NONE)
        seats = {"observed": found.observed, "expected": found.expected, "p": found.p}
    return Comparison(
        a=a.side(),
        b=b.side(),
        same_model=one_model,
        text=text,
        rows=rows,
        heads=heads,
        agreement=agreement,
        kappa=kappa_of_roles,
        seats=seats,
        notes=tuple(notes),
    )


class _Measured:
    """A run, and what a comparison reads of it."""

    def __init__(self, run: Run) -> None:
        self.run, model = run, run.manifest.model
        self.shape = model.n_layers, model.n_heads
        self.count = model.n_layers * model.n_heads
        self.names = [head_name(*divmod(n, model.n_heads)) for n in range(self.count)]
        self.probes = {probe.sha256 for probe in run.manifest.probes}
        heads = run.rows(HEADS)
        self.roles = [row.text("role") or NONE for row in heads]
        self.best = [(row.text("best_relation"), row.text("best_looks_to")) for row in heads]
        self.has_twin = any(note.control == "twin" for note in run.manifest.controls)

    @cached_property
    def rules(self) -> Rules:
        return load_rules(self.run.path / RULES)

    @cached_property
    def instances(self) -> Instances:
        return without_twins(self.run.instances)

    @cached_property
    def sketch(self) -> Any:
        return self.run.sketch()

    @cached_property
    def twin_sketch(self) -> Any:
        """The sketch of the random twin; None without one."""
        return self.run.sketch(TWIN) if self.has_twin else None

    @cached_property
    def hits(self) -> MeasuredHits:
        hits = self.run.tally("hits")
        if len(hits) != self.run.instances.first_instance[-1]:
            path, what = self.run.path / TALLIES, "has hits of another number of instances"
            raise HeadprobeError(str(path), what, "Scan again")
        return MeasuredHits(self.instances, hits, self.count)

    @cached_property
    def relations(self) -> "dict[RelationKey, pd.DataFrame]":
        """The rows of ``relations.csv`` by relation, each in the order of heads."""
        frame = self.run.relations
        groups = frame.groupby(["family", "relation", "looks_to"], sort=False)
        by_key = {
            (str(key[0]), str(key[1]), str(key[2])): rows.reset_index(drop=True)
            for key, rows in groups
        }
        for rows in by_key.values():
            if rows["name"].tolist() != self.names:
                raise HeadprobeError(
                    str(self.run.path / RELATIONS),
                    "does not have one row for each head and relation",
                    "Scan again",
                )
        return by_key

    @cached_property
    def degrees(self) -> dict[RelationKey, float]:
        """Student's degrees of freedom of the gains of each relation."""
        few, degrees = self.rules.min_form_folds, {}
        for row in self.run.iterate_rows(POWER):
            key = row.text("family"), row.text("relation"), row.text("looks_to")
            documents = row.number("document_folds") or 0.0
            forms = row.number("form_folds") or 0.0
            degrees[key] = (documents if forms < few else min(documents, forms)) - 1
        return degrees

    def gains(self, name: str, keys: Sequence[RelationKey]) -> Floats:
        """[N, R]: a column of ``relations.csv``."""
        columns = [self.relations[key][name].to_numpy(np.float64) for key in keys]
        return np.array(columns, dtype=np.float64).reshape(len(keys), self.count).T

    def relation_index(self, key: RelationKey) -> int:
        """The index of a relation in ``Instances.judged_relations``."""
        named = [(r.family, relation_name(r), r.looks_to) for r in self.instances.judged_relations]
        return named.index(key)

    def side(self) -> Side:
        """What a page says of the run."""
        model, keys = self.run.manifest.model, list(self.relations)
        ceiling = self_assigned(self.gains("gain_a", keys), self.gains("gain_b", keys))
        by_depth: dict[str, list[int]] = {}
        for number, role in enumerate(self.roles):
            layer = number // model.n_heads
            by_depth.setdefault(role, [0] * DEPTHS)[layer * DEPTHS // model.n_layers] += 1
        details = [model.quantization or model.dtype]
        details += [f"adapter {model.adapter}"] if model.adapter else []
        details += [f"revision {model.revision[:12]}"] if model.revision else []
        return Side(
            run=self.run.path,
            model=model.asked,
            details=", ".join(details),
            probes=tuple(probe.name for probe in self.run.manifest.probes),
            n_layers=model.n_layers,
            n_heads=model.n_heads,
            named=sum(role != NONE for role in self.roles),
            ceiling=_value(ceiling),
            has_twin=self.twin_sketch is not None,
            roles_by_depth={role: tuple(counts) for role, counts in sorted(by_depth.items())},
        )


def _check_pair(a: _Measured, b: _Measured) -> None:
    if a.run.path.resolve() == b.run.path.resolve():
        raise HeadprobeError(str(a.run.path), "is named twice", "Name two runs")
    older, newer = sorted((a.run, b.run), key=lambda run: run.manifest.method_version)
    versions = older.manifest.method_version, newer.manifest.method_version
    if versions[0] != versions[1]:
        raise HeadprobeError(
            str(older.path),
            f"measured by version {versions[0]} of the method, the other run by {versions[1]}",
            "Scan its model again",
        )


def _is_same_model(a: _Measured, b: _Measured, declared: bool) -> bool:
    """Whether the runs are of one model; HeadprobeError where ``declared`` cannot be true."""
    one, other = a.run.manifest.model, b.run.manifest.model
    if declared and a.shape != b.shape:
        what = f"{a.shape[0]} layers of {a.shape[1]} heads, and {b.shape[0]} of {b.shape[1]}"
        raise HeadprobeError("--same-model", f"the runs have {what}", "Leave it out")
    same_base = (one.asked, one.revision, one.gguf) == (other.asked, other.revision, other.gguf)
    adapted = same_base and one.adapter != other.adapter
    return a.shape == b.shape and (
        declared or adapted or one.weights_sha256 == other.weights_sha256
    )


def _notes(a: _Measured, b: _Measured, one_model: bool) -> list[str]:
    """What the reader must know, and the remedies. HeadprobeError without a needed sketch."""
    for each in (a, b):
        if not one_model and each.sketch is None:
            raise HeadprobeError(
                str(each.run.path),
                "has no sketch of its attention, as runs of earlier versions",
                "Scan its model again",
            )
    notes = []
    # Causal thresholds, which files of earlier versions lack, have no part in a comparison
    if replace(a.rules, causal=b.rules.causal) != b.rules:
        notes.append(
            "The runs were judged by different rules. To apply the same ones: headprobe judge RUN "
            "--rules FILE."
        )
    missing = [str(each.run.path) for each in (a, b) if each.twin_sketch is None]
    if missing and not one_model:
        notes.append(
            f"{' and '.join(missing)}: no random twin was measured, so there is no floor, and "
            "counterparts below are candidates only. Scan with --twin."
        )
    return notes


def _match(a: _Measured, b: _Measured, one_model: bool) -> tuple[Matching, int]:
    """Match the heads by their sketches; of one model, each head with itself."""
    nothing = np.full(a.count, np.nan)
    empty = Matching(np.full(a.count, -1), nothing, np.zeros(a.count, np.bool_), nothing)
    if a.sketch is None or b.sketch is None:
        return empty, 0
    shared = shared_rows(a.run.instances, b.run.instances)
    if len(shared) < MIN_ROWS:
        if one_model:
            return empty, 0
        raise HeadprobeError(
            f"{a.run.path} and {b.run.path}",
            f"share {len(shared)} of the words whose attention is kept, and {MIN_ROWS} are needed",
            "Scan both models on the same probes",
        )
    of_a = head_vectors(a.sketch, shared.rows_a, shared.words)
    of_b = head_vectors(b.sketch, shared.rows_b, shared.words)
    floor_a = _floor(of_a, b, shared.rows_b, shared)
    floor_b = _floor(of_b, a, shared.rows_a, shared)
    similarities = similarity(of_a, of_b, len(shared))
    pairs = np.arange(a.count) if one_model else None
    return match_heads(similarities, floor_a, floor_b, pairs), len(shared)


def _floor(vectors: Floats, other: _Measured, rows: Ints, shared: SharedRows) -> Floats | None:
    """The floor of heads with these ``vectors``, from the twin of the ``other`` run."""
    if other.twin_sketch is None:
        return None
    twin = head_vectors(other.twin_sketch, rows, shared.words)
    return twin_floor(similarity(vectors, twin, len(shared)))


def _gain_correlations(a: _Measured, b: _Measured, partner: Ints) -> Floats:
    """[N]: the correlation of each head's gains with its partner's, over shared relations."""
    keys = [key for key in a.relations if key in b.relations]
    found = np.full(a.count, np.nan)
    one, other = a.gains("gain", keys), b.gains("gain", keys)
    for number, place in enumerate(partner.tolist()):
        if place < 0:
            continue
        pair = np.array([one[number], other[place]])
        pair = pair[:, ~np.isnan(pair).any(0)]
        if pair.shape[1] >= 3 and (np.ptp(pair, axis=1) > 0).all():
            found[number] = np.corrcoef(pair)[0, 1]
    return found


def _relation_of(a: _Measured, b: _Measured, number: int) -> RelationKey | None:
    """The relation by which a head is compared: that of its role in the first run, else that of
    its role in the second, else its best one in the first."""
    for run in (a, b):
        for key, rows in run.relations.items():
            if key[1:] == run.best[number] and isinstance(rows["role"].iloc[number], str):
                return key
    return next((key for key in a.relations if key[1:] == a.best[number]), None)


def _change_columns(
    a: _Measured, b: _Measured, relations: Sequence[RelationKey | None], text: Text
) -> Mapping[str, Sequence[Any]]:
    """The columns of ``ComparedHead`` that only two runs of one model have."""
    count = a.count
    gain_a, gain_b = (_gains_of(run, relations) for run in (a, b))
    n: list[int | None] = [None] * count
    if text == "other":
        change = independent_change(gain_a, gain_b, a.rules.confidence)
    else:
        parts = {name: np.full(count, np.nan) for name in ("mean", "low", "high", "p")}
        for key in dict.fromkeys(relations):
            if key is None or key not in a.relations or key not in b.relations:
                continue
            heads = np.array([i for i, each in enumerate(relations) if each == key])
            pair = a.relation_index(key), b.relation_index(key)
            rules = a.rules
            paired, size = paired_change(
                a.hits, b.hits, pair, heads, rules.confidence, rules.min_form_folds
            )
            for name, values in parts.items():
                values[heads] = getattr(paired, name)
            for head in heads.tolist():
                n[head] = size
        change = Change(**parts)
    families = [None if key is None else key[0] for key in relations]
    return {
        "family": families,
        "relation": [None if key is None else key[1] for key in relations],
        "looks_to": [None if key is None else key[2] for key in relations],
        "n": n,
        "gain_a": _values(gain_a.gain),
        "gain_b": _values(gain_b.gain),
        "change": _values(change.mean),
        "change_low": _values(change.low),
        "change_high": _values(change.high),
        "q": _values(adjust(change.p)),
    }


def _gains_of(run: _Measured, relations: Sequence[RelationKey | None]) -> Gain:
    """The gain of each head on its relation."""
    columns = np.full((3, run.count), np.nan)
    for number, key in enumerate(relations):
        if key is not None and key in run.relations:
            row = run.relations[key].iloc[number]
            columns[:, number] = row["gain"], row["gain_high"], run.degrees.get(key, np.nan)
    return Gain(*columns)


def _value(number: float) -> float | None:
    """A number for tables and JSON; None where it was not computed."""
    return None if np.isnan(number) else float(number)


def _values(numbers: Floats) -> list[float | None]:
    return [_value(number) for number in numbers.tolist()]


def comparison_target(folder: Path, runs: Sequence[Run]) -> Path:
    """Return a folder for the results; HeadprobeError where it is one of the runs."""
    for run in runs:
        if folder.resolve().is_relative_to(run.path.resolve()):
            raise HeadprobeError(str(folder), "is one of the runs, or in it", "Name another folder")
    return folder
