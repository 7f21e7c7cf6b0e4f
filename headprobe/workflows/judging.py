"""Sums and rules to everything that a run folder says; no model is needed for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headprobe.evidence.evidence import Evidence, Shape
from headprobe.evidence.shape import shape
from headprobe.evidence.weigh import weigh
from headprobe.report.run_files import write_results
from headprobe.store.instances import Instances
from headprobe.store.run_folder import RULES
from headprobe.store.skipped import Skipped
from headprobe.store.tallies import Tallies
from headprobe.verdicts.roles import judge
from headprobe.verdicts.rules import Rules
from headprobe.verdicts.verdict import Pair, Verdict


@dataclass(frozen=True)
class Judged:
    """What rules make of sums."""

    instances: Instances
    tallies: Tallies
    evidence: Evidence
    shape: Shape
    verdicts: tuple[Verdict, ...]
    pairs: tuple[Pair, ...]


def judge_sums(instances: Instances, tallies: Tallies, kv_heads: int, rules: Rules) -> Judged:
    """Weigh and judge every head; ``kv_heads`` is the number of key/value heads of a layer."""
    evidence = weigh(instances, tallies, rules)
    shapes = shape(instances, tallies, rules.confidence)
    verdicts, pairs = judge(evidence, shapes, tallies, kv_heads, rules)
    return Judged(instances, tallies, evidence, shapes, tuple(verdicts), tuple(pairs))


def write_judged(
    folder: Path,
    judged: Judged,
    skipped: Iterable[Skipped],
    n_kv_heads: Sequence[int],
    rules: Rules,
) -> None:
    """The tables, the examples, and beside them the rules that decided."""
    write_results(
        folder,
        judged.instances,
        judged.tallies,
        judged.evidence,
        judged.shape,
        judged.verdicts,
        judged.pairs,
        skipped,
        n_kv_heads,
    )
    rules.save(folder / RULES)
