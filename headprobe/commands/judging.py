"""From sums to a run folder: evidence, verdicts, tables and manifest; no model is needed.

``scan``, ``merge`` and ``judge`` share this code.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from headprobe.analysis.behaviour import (
    BehaviourEvidence,
    behaviour_evidence,
    flagged_sinks,
    head_statistics,
)
from headprobe.analysis.evidence import Evidence, HeadStatistics
from headprobe.analysis.gains import compute_evidence
from headprobe.analysis.intervals import find_power
from headprobe.analysis.pos_control import fit_preferences
from headprobe.analysis.twins import separate_twins, without_twins
from headprobe.errors import HeadprobeError
from headprobe.format import fraction, relation_name
from headprobe.progress import Progress
from headprobe.results.tables import (
    controls_table,
    write_csv,
    write_manifest,
    write_results,
    write_sums,
)
from headprobe.roles.requirements import role_applies
from headprobe.roles.roles import judge
from headprobe.roles.rules import RoleRule, Rules, load_rules
from headprobe.roles.verdict import Pair, Verdict
from headprobe.runs.checkpoint import Clock
from headprobe.runs.folder import (
    CONTROL_SUMS,
    CONTROLS,
    INSTANCES,
    RULES,
    TALLIES,
    TOKENS,
    Run,
    new_run,
)
from headprobe.runs.instances import Instances
from headprobe.runs.manifest import BitsNote, ControlName, ControlNote, Manifest
from headprobe.runs.shards import Shard
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import REDUNDANT, Relation, Skipped


@dataclass(frozen=True)
class ControlSums:
    """The sums of a control before they are judged; see ``runs.manifest.ControlNote``."""

    name: ControlName
    seed: int
    key: str
    taken_from: str | None
    instances: Instances
    tallies: Tallies


@dataclass(frozen=True)
class JudgedSums:
    """Evidence and verdicts from the sums of a run or of one of its controls."""

    instances: Instances
    tallies: Tallies
    evidence: Evidence
    statistics: HeadStatistics
    behaviour: BehaviourEvidence
    verdicts: tuple[Verdict, ...]
    pairs: tuple[Pair, ...]


def judge_sums(instances: Instances, tallies: Tallies, kv_heads: int, rules: Rules) -> JudgedSums:
    """Return evidence and verdicts of all heads; ``kv_heads`` is the number of key/value heads of a
    layer."""
    text = separate_twins(instances, tallies)
    instances, tallies = text.instances, text.tallies
    preferences = fit_preferences(instances, tallies)
    evidence = compute_evidence(instances, tallies, preferences, rules, text.swap)
    statistics = head_statistics(instances, tallies, rules.confidence)
    behaviour = behaviour_evidence(
        instances,
        tallies,
        preferences,
        confidence=rules.confidence,
        min_kept=rules.positional.min_kept,
        min_attention=rules.unnamed.min_attention,
        recheck=(rules.unnamed.agreement, rules.unnamed.moved),
    )
    verdicts, pairs = judge(evidence, statistics, behaviour, tallies, kv_heads, rules)
    return JudgedSums(
        instances, tallies, evidence, statistics, behaviour, tuple(verdicts), tuple(pairs)
    )


def write_judged(
    folder: Path,
    judged: JudgedSums,
    skipped: Iterable[Skipped],
    n_kv_heads: Sequence[int],
    rules: Rules,
) -> None:
    """Write the tables, the examples, and the rules that were applied."""
    write_results(
        folder,
        judged.instances,
        judged.tallies,
        judged.evidence,
        find_power(judged.evidence, rules),
        judged.statistics,
        judged.behaviour,
        judged.verdicts,
        judged.pairs,
        skipped,
        n_kv_heads,
    )
    rules.save(folder / RULES)


def write_controls(
    folder: Path, controls: Sequence[ControlSums], kv_heads: int, rules: Rules
) -> tuple[ControlNote, ...]:
    """Judge the controls like the run itself, and write ``controls.csv`` if there are any."""
    notes, evidence = [], []
    for control in controls:
        judged = judge_sums(control.instances, control.tallies, kv_heads, rules)
        notes.append(_note(control, judged.verdicts))
        evidence.append((control.name, judged.evidence))
    if evidence:
        write_csv(controls_table(evidence), folder / CONTROLS)
    return tuple(notes)


def measuring_rules(rules: Rules) -> dict[str, float]:
    """Return the rules that act while measuring; judging again does not change their effect."""
    return {
        "idle.output_norm": rules.idle.output_norm,
        "sinks.weight": rules.sinks.weight,
        "sinks.min_passages": float(rules.sinks.min_passages),
    }


def role_warnings(relations: Sequence[Relation], rules: Rules) -> list[str]:
    """Return warnings for roles of the user that no relation can earn, often because of a typo."""
    packaged = load_rules().roles
    return [
        f"role {name}: no head can earn it, because the probes have no relation {_wanted(rule)}; "
        f"they have {_named(relations, rule)}"
        for name, rule in rules.roles.items()
        if packaged.get(name) != rule and not any(role_applies(each, rule) for each in relations)
    ]


def _wanted(rule: RoleRule) -> str:
    named = f"{rule.relation} " if rule.relation else ""
    return f"{named}of family {rule.family}{' and strict' if rule.strict else ''}"


def _named(relations: Sequence[Relation], rule: RoleRule) -> str:
    """Names of the relations of the family, or of the families if it is unknown."""
    names = [relation_name(each) for each in relations if each.family == rule.family]
    return ", ".join(sorted(set(names or (each.family for each in relations)))) or "none"


def text_warning(bits: BitsNote | None, rules: Rules) -> str | None:
    """Return a warning if the model predicts the text of the probes badly."""
    if bits is None or bits.per_byte is None or bits.per_byte <= rules.max_bits:
        return None
    return (
        f"{bits.per_byte:.1f} bits per byte: the model predicts this text badly, and its heads may "
        "behave differently on text that it knows"
    )


def _note(control: ControlSums, verdicts: Sequence[Verdict]) -> ControlNote:
    # Shuffled links change relations only; roles that need no relation do not count there.
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


@dataclass(frozen=True)
class RunSums:
    """Everything that is judged; ``token`` returns the name of a distinct token (K)."""

    instances: Instances
    tallies: Tallies
    controls: Sequence[ControlSums]
    skipped: Sequence[Skipped]
    n_kv_heads: Sequence[int]
    token: Callable[[int], str]

    def rounded(self) -> "RunSums":
        """The sums as a run folder holds them, so that judging the folder again changes nothing."""
        controls = [replace(each, tallies=each.tallies.rounded()) for each in self.controls]
        return replace(self, tallies=self.tallies.rounded(), controls=controls)

    def bits(self, draft: BitsNote | None) -> BitsNote:
        """Return the model's loss on the scored passages, which ``draft`` counts."""
        bits, characters = float(self.tallies["bits"]), int(self.tallies["characters"])
        text_bytes = 0 if draft is None else draft.text_bytes
        return BitsNote(
            value=bits / max(characters, 1),
            passages=0 if draft is None else draft.passages,
            characters=characters,
            text_bytes=text_bytes,
            per_byte=bits / text_bytes if text_bytes else None,
        )


def write_run(
    target: Path,
    overwrite: bool,
    sums: RunSums,
    rules: Rules,
    draft: Callable[[], Manifest],
    progress: Progress,
    clock: Clock,
) -> Run:
    """Judge the sums and write the run folder completely, or not at all.

    ``draft`` returns the manifest without the values that follow from the sums.
    """
    sums = sums.rounded()
    _check_finite(target, sums)
    bits = sums.bits(draft().bits_per_character)
    if warning := text_warning(bits, rules):
        progress.warn(warning)
    kv_heads = sums.n_kv_heads[0]
    with clock("judge"):
        progress.stage("judging")
        judged = judge_sums(sums.instances, sums.tallies, kv_heads, rules)
    with new_run(target, overwrite) as folder:
        with ThreadPoolExecutor(1) as pool:  # sums wait for the disk, tables for the processor
            saved = [pool.submit(write_sums, folder, sums.instances, sums.tallies)]
            for control in sums.controls:
                path = folder / CONTROL_SUMS[control.name]
                saved.append(pool.submit(control.tallies.save, path))
            write_judged(folder, judged, sums.skipped, sums.n_kv_heads, rules)
            for each in saved:
                each.result()
        controls = write_controls(folder, sums.controls, kv_heads, rules)
        write_manifest(
            folder,
            replace(
                draft(),
                controls=controls,
                sinks_flagged=_describe_sinks(sums, rules),
                used=int(without_twins(sums.instances).first_instance[-1]),
                bits_per_character=bits,
            ),
        )
    return Run.load(target)


def write_shard(shard: Shard, overwrite: bool, sums: RunSums, rules: Rules) -> None:
    """Write the folder ``shard.path`` completely, or not at all."""
    _check_finite(shard.path, sums)
    with new_run(shard.path, overwrite) as folder:
        sums.tallies.save(folder / TALLIES)
        for control in sums.controls:
            control.tallies.save(folder / CONTROL_SUMS[control.name])
        rules.save(folder / RULES)
        if shard.index == 0:
            sums.instances.save(folder / INSTANCES)
            names = [sums.token(number) for number in range(sums.tallies["column_token"].shape[-1])]
            (folder / TOKENS).write_text(json.dumps(names), encoding="utf-8")
        shard.save(folder)


def _check_finite(target: Path, sums: RunSums) -> None:
    for tallies in (sums.tallies, *(control.tallies for control in sums.controls)):
        if spoiled := tallies.first_spoiled():
            raise HeadprobeError(
                str(target),
                f"its sums contain values that are not finite ({spoiled})",
                "Try --dtype float32",
            )


def _describe_sinks(sums: RunSums, rules: Rules) -> tuple[str, ...]:
    lines = []
    for sink in flagged_sinks(sums.tallies, rules.sinks.weight, rules.sinks.min_passages):
        key = f"position {sink.index} of the text"
        if sink.kind == "token":
            key = f"token {sums.token(sink.index)!r}"
        weight = fraction(sink.weight)
        lines.append(f"{key}: {weight} of the attention in layer {sink.layer}")
    return tuple(lines)
