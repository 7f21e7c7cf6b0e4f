"""The tables of a run as DataFrames, and the files of the run folder.

docs/output.md documents the columns and their order. CSV files are UTF-8 with one header row, and
no cell can be executed as a formula by a spreadsheet.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headprobe.analysis.behaviour import BehaviourEvidence
from headprobe.analysis.evidence import BEATS, Evidence, HeadStatistics, strongest_heads
from headprobe.analysis.intervals import Power
from headprobe.format import relation_name, safe_text
from headprobe.results.claims import claims_table
from headprobe.results.examples import write_examples
from headprobe.roles.verdict import Pair, Verdict
from headprobe.runs import folder as run_folder
from headprobe.runs.instances import Instances
from headprobe.runs.manifest import Manifest
from headprobe.runs.sums import Tallies
from headprobe.runs.tables import guard
from headprobe.vocabulary import Skipped, head_name

BASELINES = ("offset", "start", "chance", "uniform", "habit", "habit_length")
"""The order of the baselines' columns; other baselines follow after ``habit_expected``."""


def heads_table(
    evidence: Evidence,
    statistics: HeadStatistics,
    behaviour: BehaviourEvidence,
    verdicts: Sequence[Verdict],
    n_kv_heads: Sequence[int],
) -> pd.DataFrame:
    """Return ``heads.csv``: one row per head, by layer and head. ``n_kv_heads`` is [L]."""
    n_layers, n_heads = statistics.sink.shape
    order = sorted(verdicts, key=lambda verdict: (verdict.layer, verdict.head))
    layer, head = (axis.ravel().tolist() for axis in np.indices((n_layers, n_heads)))
    if [(v.layer, v.head) for v in order] != list(zip(layer, head, strict=True)):
        raise ValueError("one verdict per head expected")
    best = np.array([-1 if v.best_relation is None else v.best_relation for v in order])
    groups = np.array([n_heads // n_kv_heads[number] for number in layer])
    columns: dict[str, Any] = {
        "layer": layer,
        "head": head,
        "name": [head_name(v.layer, v.head) for v in order],
        "kv_group": np.array(head) // groups,
        "role": [v.role for v in order],
        "roles": [";".join(dict.fromkeys(v.roles)) for v in order],
        "strength": [np.nan if v.strength is None else v.strength for v in order],
        "reason": [v.reason for v in order],
        "sink": statistics.sink.ravel(),
        "self": statistics.self_attention.ravel(),
        "previous": statistics.previous.ravel(),
        "entropy": statistics.entropy.ravel(),
        "distance": statistics.distance.ravel(),
        "punctuation": statistics.punctuation.ravel(),
        "nouns": statistics.nouns.ravel(),
        "verbs": statistics.verbs.ravel(),
        "adjectives": statistics.adjectives.ravel(),
        "output_norm": statistics.output_norm.ravel(),
        "residual_share": statistics.residual_share.ravel(),
        **_behaviour_columns(behaviour),
        "idle": [v.idle for v in order],
        "repeater_of": [v.repeater_of or "" for v in order],
        "cluster": pd.array([v.cluster for v in order], dtype="Int64"),
        "best_relation": _names([relation_name(r) for r in evidence.relations], best),
        "best_looks_to": _names([r.looks_to for r in evidence.relations], best),
        "top1": _of_best(evidence.top1, best),
        "baseline": _names(list(evidence.baselines), _of_best(evidence.baseline, best, -1)),
    }
    for name in ("baseline_top1", "gain", "gain_low", "gain_high", "q"):
        columns[name] = _of_best(getattr(evidence, name), best)
    columns["beats"] = _names(BEATS, _of_best(evidence.beats, best, 0))
    return _frame(columns)


def relations_table(evidence: Evidence, verdicts: Sequence[Verdict] = ()) -> pd.DataFrame:
    """Return ``relations.csv``: one row per head and relation, by layer, head and relation.

    ``role`` is the role that the head earned by this relation, or missing.
    """
    layer, head, relation = (axis.ravel() for axis in np.indices(evidence.top1.shape))
    specs = evidence.relations
    columns: dict[str, Any] = {
        "layer": layer,
        "head": head,
        "name": _head_names(layer, head),
        "family": _names([r.family for r in specs], relation),
        "relation": _names([relation_name(r) for r in specs], relation),
        "looks_to": _names([r.looks_to for r in specs], relation),
        "role": _earned(verdicts, evidence.top1.shape),
        "n": evidence.n[relation],
    }
    for name in ("mass", "kept", "share", "share_norm", "habit_share", "top1"):
        columns[name] = getattr(evidence, name).ravel()
    general = [name for name in BASELINES if name in evidence.baselines]
    columns |= _baseline_columns(evidence, general)
    columns["habit_expected"] = evidence.habit_expected.ravel()
    others = [name for name in evidence.baselines if name not in BASELINES]
    columns |= _baseline_columns(evidence, others)
    for name in ("category_top1", "category_gain", "category_gain_low", "distance_share"):
        columns[name] = getattr(evidence, name).ravel()
    columns["baseline"] = _names(list(evidence.baselines), evidence.baseline.ravel())
    columns["best_offset"] = evidence.best_offset[relation]
    columns["best_start"] = _names(evidence.best_start, relation)
    for name in (
        *("baseline_top1", "gain", "gain_low", "gain_high", "gain_a", "gain_b"),
        *("gain_without_form", "lift", "lift_low", "p", "q"),
    ):
        columns[name] = getattr(evidence, name).ravel()
    columns["beats"] = _names(BEATS, evidence.beats.ravel())
    return _frame(columns)


def domains_table(evidence: Evidence, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return ``domains.csv``: one row per head, relation and domain with instances.

    It has only relations where the head beats a control, and the best relation of each head. All
    rows of 1,024 heads, 80 relations and 20 domains would be 1.6 million, nearly all of heads that
    do nothing.
    """
    shown = evidence.beats > 0
    for verdict in verdicts:
        if verdict.best_relation is not None:
            shown[verdict.layer, verdict.head, verdict.best_relation] = True
    layer, head, relation, domain = np.nonzero(shown[..., None] & (evidence.domain_n.T > 0))
    specs = evidence.relations
    at = (domain, layer, head, relation)
    columns: dict[str, Any] = {
        "layer": layer,
        "head": head,
        "name": _head_names(layer, head),
        "family": _names([r.family for r in specs], relation),
        "relation": _names([relation_name(r) for r in specs], relation),
        "looks_to": _names([r.looks_to for r in specs], relation),
        "domain": _names(evidence.domains, domain),
        "n": evidence.domain_n[domain, relation],
        "top1": evidence.domain_top1[at],
        "baseline": _names(list(evidence.baselines), evidence.baseline[layer, head, relation]),
        "baseline_top1": evidence.domain_baseline_top1[at],
        "gain": evidence.domain_gain[at],
    }
    return _frame(columns)


def power_table(evidence: Evidence, relation_power: Power) -> pd.DataFrame:
    """Return ``power.csv``: one row per relation.

    ``best_head`` is chosen on one half of the documents; ``best_gain`` is its gain on the other.
    """
    specs, n_heads = evidence.relations, evidence.gain.shape[1]
    columns: dict[str, Any] = {
        "family": [r.family for r in specs],
        "relation": [relation_name(r) for r in specs],
        "looks_to": [r.looks_to for r in specs],
        "n": evidence.n,
        "n_all": evidence.n_all,
        "forms": evidence.forms,
        "document_folds": evidence.document_folds,
        "form_folds": evidence.form_folds,
        "reliability": evidence.reliability,
        "error": relation_power.error,
        "detectable": relation_power.detectable,
        "can_say": relation_power.can_say,
        "why": list(relation_power.why),
        "best_head": [
            head_name(*divmod(number, n_heads)) if number >= 0 else ""
            for number in relation_power.best.tolist()
        ],
        "best_gain": relation_power.best_gain,
    }
    return _frame(columns)


def pairs_table(pairs: Iterable[Pair]) -> pd.DataFrame:
    """Return ``pairs.csv``: one row per pair of heads that repeat or oppose each other."""
    rows = list(pairs)
    return _frame(
        {
            "name_a": [pair.name_a for pair in rows],
            "name_b": [pair.name_b for pair in rows],
            "affinity": np.array([pair.affinity for pair in rows], dtype=np.float64),
            "output_cosine": np.array([pair.output_cosine for pair in rows], dtype=np.float64),
            "same_kv_group": np.array([pair.same_kv_group for pair in rows], dtype=np.bool_),
            "relation": [pair.relation for pair in rows],
        }
    )


def skipped_table(skipped: Iterable[Skipped]) -> pd.DataFrame:
    """Return ``skipped.csv``: one row per source and reason, with a count."""
    rows = list(skipped)
    return _frame(
        {
            "source": [row.source for row in rows],
            "what": [row.what for row in rows],
            "reason": [row.reason for row in rows],
            "count": np.array([row.count for row in rows], dtype=np.int64),
        }
    )


def _frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame({name: _column(values) for name, values in columns.items()})


def _column(values: Any) -> Any:
    """Convert empty text to missing values; other values keep their dtype."""
    if isinstance(values, list) and (not values or isinstance(values[0], str)):
        return pd.Series([value or None for value in values], dtype="str")
    return values


def _names(names: Sequence[str], index: Any) -> Any:
    """The name at each index; missing where the index is negative."""
    index = np.asarray(index, dtype=int)
    return _column([*names, ""]).array.take(np.where(index < 0, len(names), index))


def _of_best(array: Any, best: Any, missing: float = np.nan) -> Any:
    """[N]: the value of each head's best relation, from an array [L, H, R]."""
    flat = array.reshape(len(best), -1)
    if not flat.shape[1]:
        return np.full(len(best), missing)
    return np.where(best >= 0, flat[np.arange(len(best)), best], missing)


def _baseline_columns(evidence: Evidence, names: Sequence[str]) -> dict[str, Any]:
    return {
        f"{name}_top1": np.broadcast_to(evidence.baselines[name], evidence.top1.shape).ravel()
        for name in names
    }


def _head_names(layer: Any, head: Any) -> Any:
    layers, heads = (int(axis.max(initial=-1)) + 1 for axis in (layer, head))
    names = [head_name(*pair) for pair in product(range(layers), range(heads))]
    return _names(names, layer * heads + head)


def _behaviour_columns(behaviour: BehaviourEvidence) -> dict[str, Any]:
    positional, agreement = behaviour.positional, behaviour.agreement
    columns = {
        "positional": positional.explained,
        "positional_length": positional.by_length,
        "positional_rows": positional.rows,
    }
    copies = {"duplicate_token": behaviour.duplicate, "induction": behaviour.induction}
    for name, found in copies.items():
        columns[name] = found.top1
        columns[f"{name}_gain_low"] = found.gain_low
        columns[f"{name}_mass"] = found.mass
    for name in ("agreement", "agreement_low", "moved"):
        columns[name] = getattr(agreement, name)
    return {name: np.ravel(values) for name, values in columns.items()}


def _earned(verdicts: Sequence[Verdict], dimensions: tuple[int, ...]) -> list[str]:
    earned = np.full(dimensions, "", dtype=object)
    for verdict in verdicts:
        for claim in reversed(verdict.claims):  # of two claims by a relation, the first counts
            if claim.relation is not None:
                earned[verdict.layer, verdict.head, claim.relation] = claim.role
    roles: list[str] = earned.ravel().tolist()
    return roles


CONTROLS_COLUMNS = (
    *("control", "family", "relation", "looks_to", "n", "name", "top1", "baseline"),
    *("baseline_top1", "gain", "gain_low", "gain_high"),
)


def controls_table(controls: Iterable[tuple[str, Evidence]]) -> pd.DataFrame:
    """Return ``controls.csv``: one row per control and relation with instances.

    Each row has the head with the highest ``gain_low``, and no head if there are too few instances
    for an interval.
    """
    return pd.DataFrame(
        [row for control, evidence in controls for row in _control_rows(control, evidence)],
        columns=list(CONTROLS_COLUMNS),
    )


def _control_rows(control: str, evidence: Evidence) -> Iterable[list[Any]]:
    _, heads, _ = evidence.gain.shape
    names = list(evidence.baselines)
    for index, number in enumerate(strongest_heads(evidence).tolist()):
        relation = evidence.relations[index]
        if not evidence.n[index]:
            continue
        names_of_relation = [relation.family, relation_name(relation), relation.looks_to]
        row = [control, *names_of_relation, int(evidence.n[index])]
        if number < 0:
            yield [*row, None, float("nan"), None, *[float("nan")] * 4]
            continue
        at = (*divmod(number, heads), index)
        numbers = [
            float(getattr(evidence, name)[at])
            for name in ("baseline_top1", "gain", "gain_low", "gain_high")
        ]
        best = [head_name(*at[:2]), float(evidence.top1[at]), names[int(evidence.baseline[at])]]
        yield [*row, *best, *numbers]


DIGITS = 6
"""Significant digits of numbers in CSV files; sampling noise is far above the seventh."""


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write ``frame`` without its index; missing values become empty cells."""
    columns = [_cells(frame[name]) for name in frame.columns]
    header = ",".join(_text(str(name)) for name in frame.columns)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = map(",".join, zip(*columns, strict=True))
        file.write("\n".join((header, *rows)) + "\n")


def _cells(column: "pd.Series[Any]") -> list[str]:
    places, values = pd.factorize(column)  # formats each distinct value once; -1 is missing
    texts = np.array([*_texts(values), ""], dtype=object)
    cells: list[str] = texts[places].tolist()
    return cells


def _texts(values: Any) -> list[str]:
    if pd.api.types.is_bool_dtype(values.dtype):
        return ["true" if value else "false" for value in values]
    if pd.api.types.is_float_dtype(values.dtype):
        return _numbers(np.asarray(values, dtype=np.float64))
    if pd.api.types.is_integer_dtype(values.dtype):
        return [str(value) for value in values]
    return [_text(str(value)) for value in values]


def _text(value: str) -> str:
    shown = safe_text(value)
    cell = guard(shown)
    quoted = cell != shown or '"' in cell or "," in cell
    return '"' + cell.replace('"', '""') + '"' if quoted else cell


def _numbers(values: NDArray[np.float64]) -> list[str]:
    # One formatting call for the whole column is fast. Adding zero turns -0 into 0.
    return (f"%.{DIGITS}g\n" * len(values) % tuple((values + 0.0).tolist())).split("\n")[:-1]


def write_sums(folder: Path, instances: Instances, tallies: Tallies) -> None:
    """Write ``tallies.npz`` and ``instances.npz``, the files for which the model is needed."""
    tallies.save(folder / run_folder.TALLIES)
    instances.save(folder / run_folder.INSTANCES)


def write_results(
    folder: Path,
    instances: Instances,
    tallies: Tallies,
    evidence: Evidence,
    power: Power,
    statistics: HeadStatistics,
    behaviour: BehaviourEvidence,
    verdicts: Sequence[Verdict],
    pairs: Iterable[Pair],
    skipped: Iterable[Skipped],
    n_kv_heads: Sequence[int],
) -> None:
    """Write the tables and the examples, which can be computed again from the sums."""
    heads = heads_table(evidence, statistics, behaviour, verdicts, n_kv_heads)
    write_csv(heads, folder / run_folder.HEADS)
    write_csv(claims_table(evidence, behaviour, verdicts), folder / run_folder.CLAIMS)
    write_csv(relations_table(evidence, verdicts), folder / run_folder.RELATIONS)
    write_csv(domains_table(evidence, verdicts), folder / run_folder.DOMAINS)
    write_csv(power_table(evidence, power), folder / run_folder.POWER)
    write_csv(pairs_table(pairs), folder / run_folder.PAIRS)
    write_csv(skipped_table(skipped), folder / run_folder.SKIPPED)
    write_examples(folder / run_folder.EXAMPLES, instances, tallies, behaviour, verdicts)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, the last file: a folder with a manifest is a run."""
    manifest.save(folder / run_folder.MANIFEST)
