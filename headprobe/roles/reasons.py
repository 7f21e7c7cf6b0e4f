"""Why a head is called what it is called: one line each, the rule and its numbers."""

from collections.abc import Sequence

from headprobe.analysis.behaviour import Copying, Positional
from headprobe.analysis.evidence import BEATS, Evidence, HeadStatistics
from headprobe.analysis.structure import Agreement
from headprobe.format import (
    baseline_name,
    fraction,
    p_value,
    relation_name,
    relation_words,
    signed,
    small,
    span,
)
from headprobe.roles.redundancy import HeadSimilarity
from headprobe.roles.requirements import (
    RelationIndex,
    Requirement,
    norm_requirement,
    role_applies,
    role_requirements,
)
from headprobe.roles.rules import Rules
from headprobe.vocabulary import DEPRELS, head_name


def describe(evidence: Evidence, at: RelationIndex) -> str:
    """A head's evidence on one relation."""
    relation, n = evidence.relations[at[2]], evidence.n[at[2]]
    name = list(evidence.baselines)[evidence.baseline[at]]
    baseline = baseline_name(name, int(evidence.best_offset[at[2]]))
    return (
        f"{relation_words(relation.family, relation_name(relation), relation.looks_to)}: "
        f"top1 {fraction(evidence.top1[at])} "
        f"against {fraction(evidence.baseline_top1[at])} {baseline}, "
        f"gain {signed(evidence.gain[at])} "
        f"[{span(evidence.gain_low[at], evidence.gain_high[at])}], "
        f"n {n:,}, q {p_value(evidence.q[at])}"
    )


def why_earned(evidence: Evidence, at: RelationIndex, norm: bool) -> str:
    """The evidence, what it beats, and what reaches the output where the role asks for it."""
    reason = f"{describe(evidence, at)}, beats {BEATS[evidence.beats[at]]}"
    return f"{reason}, {norm_requirement(evidence).shortfall(at)}" if norm else reason


def why_positional(positional: Positional, at: tuple[int, int]) -> str:
    return (
        f"its mean attention at each distance chooses the word it looks at most in "
        f"{fraction(positional.explained[at])} of {positional.rows[at]:,} rows "
        f"({fraction(positional.by_length[at])} by length alone)"
    )


def why_copying(copies: Copying, target: str, at: tuple[int, int]) -> str:
    return (
        f"repeated random tokens: {target} gets most in {fraction(copies.top1[at])} of "
        f"{copies.rows:,} rows against {fraction(copies.baseline)} at a fixed distance, "
        f"gain {signed(copies.gain[at])}, at least {signed(copies.gain_low[at])}, "
        f"mass {fraction(copies.mass[at])}"
    )


def why_unnamed(found: Agreement, at: tuple[int, int]) -> str:
    turns = [
        f"from {DEPRELS[pair // len(DEPRELS)] or 'others'} "
        f"to {DEPRELS[pair % len(DEPRELS)] or 'others'} ({signed(amount)})"
        for pair, amount in zip(
            found.top_pairs[at].tolist(), found.excess[at].tolist(), strict=True
        )
        if pair >= 0
    ]
    turned = f"it turns {', '.join(turns)}; " if turns else ""
    return (
        f"beyond distance and part of speech {turned}agreement {fraction(found.agreement[at])}, "
        f"at least {fraction(found.agreement_low[at])}, across documents and forms, "
        f"moves {fraction(found.moved[at])} of its attention"
    )


def why_idle(statistics: HeadStatistics, layer: int, head: int) -> str:
    high = statistics.output_high[:, layer, head].max()
    share = statistics.residual_by_domain[:, layer, head].max()
    return (
        f"idle: output norm at most {fraction(high)} of its layer's median head "
        f"and {small(share)} of the residual stream in every domain"
    )


def why_repeater(similarity: HeadSimilarity, head: int, stronger: int, heads: int) -> str:
    """Both as numbers ``layer * heads + head``."""
    pair = (head, stronger)
    return (
        f"repeats {head_name(*divmod(stronger, heads))}: "
        f"affinity {fraction(similarity.affinity[pair])}, "
        f"output cosine {fraction(similarity.cosine[pair])} on {similarity.rows[pair]:,} rows"
    )


def why_none(
    evidence: Evidence, rules: Rules, general: Sequence[Requirement], at: RelationIndex | None
) -> str:
    """The best evidence of a head and the first thing that it lacks; None: there is no evidence."""
    if not evidence.relations:
        return "the probes ask for no relation"
    if at is None:
        return f"no relation has {rules.min_n} instances in more than one document"
    earning = [
        [*general, *role_requirements(evidence, rule)]
        for rule in rules.roles.values()
        if role_applies(evidence.relations[at[2]], rule)
    ]
    if not earning:
        earning = [[*general]]
    nearest = min(earning, key=lambda each: sum(not need.met[at] for need in each))
    lacking = [need.shortfall(at) for need in nearest if not need.met[at]]
    missing = lacking[0] if lacking else "earns no role by these rules"
    return f"{describe(evidence, at)}: {missing}"
