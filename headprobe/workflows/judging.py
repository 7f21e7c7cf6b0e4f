"""Sums and rules to everything that a run folder says; no model is needed for it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headprobe.evidence.category_null import fit_tastes
from headprobe.evidence.conduct import Conduct, conduct
from headprobe.evidence.evidence import Evidence, Shape
from headprobe.evidence.power import find_power
from headprobe.evidence.shape import shape
from headprobe.evidence.weigh import weigh
from headprobe.report.control_table import controls as control_table
from headprobe.report.csv_files import write_csv
from headprobe.report.run_files import write_results
from headprobe.store.instances import Instances
from headprobe.store.manifest import ControlNote
from headprobe.store.relation import Relation
from headprobe.store.run_folder import CONTROLS, RULES
from headprobe.store.skipped import Skipped
from headprobe.store.tallies import Tallies
from headprobe.verdicts.requirements import belongs
from headprobe.verdicts.roles import judge
from headprobe.verdicts.rules import REDUNDANT, RoleRule, Rules, load_rules
from headprobe.verdicts.verdict import Pair, Verdict
from headprobe.verdicts.wording import relation_name


@dataclass(frozen=True)
class Control:
    """The sums of a control (``store.manifest.ControlNote``), not judged yet."""

    name: str
    seed: int
    key: str
    taken_from: str | None
    instances: Instances
    tallies: Tallies


@dataclass(frozen=True)
class Judged:
    """What rules make of sums, of a run or of one of its controls."""

    instances: Instances
    tallies: Tallies
    evidence: Evidence
    shape: Shape
    conduct: Conduct
    verdicts: tuple[Verdict, ...]
    pairs: tuple[Pair, ...]


def judge_sums(instances: Instances, tallies: Tallies, kv_heads: int, rules: Rules) -> Judged:
    """Weigh and judge every head; ``kv_heads`` is the number of key/value heads of a layer."""
    fitted = fit_tastes(instances, tallies)
    evidence = weigh(instances, tallies, fitted, rules)
    shapes = shape(instances, tallies, rules.confidence)
    conducted = conduct(
        instances,
        tallies,
        fitted,
        confidence=rules.confidence,
        min_kept=rules.positional.min_kept,
        min_attention=rules.unnamed.min_attention,
        look_again=(rules.unnamed.agreement, rules.unnamed.moved),
    )
    verdicts, pairs = judge(evidence, shapes, conducted, tallies, kv_heads, rules)
    return Judged(instances, tallies, evidence, shapes, conducted, tuple(verdicts), tuple(pairs))


def write_judged(
    folder: Path,
    judged: Judged,
    skipped: Iterable[Skipped],
    n_kv_heads: Sequence[int],
    rules: Rules,
) -> None:
    """The tables and the examples, and beside them the rules that decided."""
    write_results(
        folder,
        judged.instances,
        judged.tallies,
        judged.evidence,
        find_power(judged.evidence, rules),
        judged.shape,
        judged.conduct,
        judged.verdicts,
        judged.pairs,
        skipped,
        n_kv_heads,
    )
    rules.save(folder / RULES)


def write_controls(
    folder: Path, found: Sequence[Control], kv_heads: int, rules: Rules
) -> tuple[ControlNote, ...]:
    """Judge the controls as the run itself is judged, and write ``controls.csv``; nothing where
    there is no control."""
    notes, weighed = [], []
    for control in found:
        judged = judge_sums(control.instances, control.tallies, kv_heads, rules)
        notes.append(_note(control, judged.verdicts))
        weighed.append((control.name, judged.evidence))
    if weighed:
        write_csv(control_table(weighed), folder / CONTROLS)
    return tuple(notes)


def measured_with(rules: Rules) -> dict[str, float]:
    """The rules that are in the sums already, so that judging again does not change them."""
    return {
        "idle.output_norm": rules.idle.output_norm,
        "sinks.weight": rules.sinks.weight,
        "sinks.min_passages": float(rules.sinks.min_passages),
    }


def doubts_of_roles(relations: Sequence[Relation], rules: Rules) -> list[str]:
    """Roles of the user's own that no relation of the run can earn: as likely as not, a typo."""
    packaged = load_rules().roles
    return [
        f"role {name}: no relation here is {_wanted(rule)}, so no head can earn it; there is "
        f"{_named(relations, rule)}"
        for name, rule in rules.roles.items()
        if packaged.get(name) != rule and not any(belongs(each, rule) for each in relations)
    ]


def _wanted(rule: RoleRule) -> str:
    named = f"{rule.relation} " if rule.relation else ""
    return f"{named}of family {rule.family}{' and strict' if rule.strict else ''}"


def _named(relations: Sequence[Relation], rule: RoleRule) -> str:
    """The relations of the family, or the families where it is unknown."""
    names = [relation_name(each) for each in relations if each.family == rule.family]
    return ", ".join(sorted(set(names or (each.family for each in relations)))) or "none"


def doubt_of_text(bits: float, rules: Rules) -> str | None:
    """What is to be said where the model hardly knows the probes' text."""
    if bits <= rules.max_bits:
        return None
    return (
        f"{bits:.1f} bits per character: the model hardly knows such text, and what its heads "
        "do here may not be what they do on text it knows"
    )


def _note(control: Control, verdicts: Sequence[Verdict]) -> ControlNote:
    # shuffled links change what the relations say, and nothing else that a head does
    links_only = control.name == "shuffled"
    named = [
        any(claim.relation is not None or not links_only for claim in verdict.claims)
        for verdict in verdicts
    ]
    counted = Counter(
        verdict.role
        for verdict, holds in zip(verdicts, named, strict=True)
        if holds or verdict.role == REDUNDANT
    )
    return ControlNote(
        control=control.name,
        seed=control.seed,
        key=control.key,
        named=sum(named),
        redundant=counted[REDUNDANT],
        roles={role: counted[role] for role in sorted(counted)},
        taken_from=control.taken_from,
    )
