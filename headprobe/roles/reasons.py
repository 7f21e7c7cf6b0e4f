"""The reason for each verdict: one line that names the rule and gives its numbers.

The lines become the column ``reason`` of ``heads.csv``.
"""

from collections.abc import Sequence

from headprobe.analysis.behaviour import Copying, Positional
from headprobe.analysis.evidence import BEATS, Evidence, HeadStatistics
from headprobe.analysis.structure import Agreement
from headprobe.format import (
    baseline_name,
    deprel_words,
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
    role_applies,
    role_requirements,
)
from headprobe.roles.rules import Rules
from headprobe.vocabulary import DEPRELS, head_name

MAX_FORMS = 8
"""Number of target forms that a reason lists."""


def describe(evidence: Evidence, at: RelationIndex) -> str:
    """Describe the evidence of one head on one relation."""
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
    """Explain a role that a relation earns.

    ``norm`` says that the role also has a requirement on what reaches the output
    (``RoleRule.norm_above_habit``).
    """
    reason = f"{describe(evidence, at)}, beats {BEATS[evidence.beats[at]]}"
    if evidence.relations[at[2]].family == "semantic":
        swapped = evidence.baselines["swap"][at]
        reason += f", {fraction(swapped)} on unrelated words in the targets' places"
    if evidence.form_rule[at[2]] != "variance":
        reason += f", of {_some_forms(evidence.few_forms[at[2]])} only"
    if not norm:
        return reason
    return (
        f"{reason}, share_norm {fraction(evidence.share_norm[at])} "
        f"against habit_share {fraction(evidence.habit_share[at])}"
    )


def _some_forms(forms: Sequence[str]) -> str:
    """List forms, the most frequent first."""
    more = len(forms) - MAX_FORMS
    listed = " ".join(f"“{form}”" for form in forms[:MAX_FORMS])
    return f"{listed} and {more} other forms" if more > 0 else listed


def why_positional(positional: Positional, at: tuple[int, int]) -> str:
    """Explain ``positional`` for the head ``at`` (layer, head)."""
    return (
        f"its mean attention at each distance chooses the word it looks at most in "
        f"{fraction(positional.explained[at])} of {positional.rows[at]:,} rows "
        f"({fraction(positional.by_length[at])} by numbers of tokens alone)"
    )


def why_copying(copies: Copying, target: str, at: tuple[int, int]) -> str:
    """Explain ``duplicate-token`` or ``induction``; ``target`` describes the token looked for."""
    return (
        f"repeated random tokens: {target} gets most in {fraction(copies.top1[at])} of "
        f"{copies.rows:,} rows against {fraction(copies.baseline)} at a fixed distance, "
        f"gain {signed(copies.gain[at])}, at least {signed(copies.gain_low[at])}, "
        f"mass {fraction(copies.mass[at])}"
    )


def why_unnamed(agreement: Agreement, at: tuple[int, int]) -> str:
    """Explain ``unnamed``; names the pairs of dependency labels with the most attention."""
    pairs = [
        f"from {deprel_words(DEPRELS[pair // len(DEPRELS)])} "
        f"to {deprel_words(DEPRELS[pair % len(DEPRELS)])} ({signed(amount)})"
        for pair, amount in zip(
            agreement.top_pairs[at].tolist(), agreement.excess[at].tolist(), strict=True
        )
        if pair >= 0
    ]
    attends = f"it attends more {', '.join(pairs)}; " if pairs else ""
    return (
        f"beyond distance and part of speech {attends}"
        f"agreement {fraction(agreement.agreement[at])}, "
        f"at least {fraction(agreement.agreement_low[at])}, across documents and forms, "
        f"moves {fraction(agreement.moved[at])} of its attention"
    )


def why_idle(statistics: HeadStatistics, layer: int, head: int) -> str:
    """Explain ``redundant`` for an idle head, by the domain with the largest output."""
    high = statistics.output_high[:, layer, head].max()
    share = statistics.residual_by_domain[:, layer, head].max()
    return (
        f"idle: output norm at most {fraction(high)} of its layer's median head "
        f"and {small(share)} of the residual stream in every domain"
    )


def why_repeater(similarity: HeadSimilarity, head: int, stronger: int, heads: int) -> str:
    """Explain ``redundant`` for a head that repeats a ``stronger`` one.

    Both are numbers ``layer * heads + head``, with ``heads`` heads per layer.
    """
    pair = (head, stronger)
    return (
        f"repeats {head_name(*divmod(stronger, heads))}: "
        f"affinity {fraction(similarity.affinity[pair])}, "
        f"output cosine {fraction(similarity.cosine[pair])} on {similarity.rows[pair]:,} rows"
    )


def why_none(
    evidence: Evidence, rules: Rules, general: Sequence[Requirement], at: RelationIndex | None
) -> str:
    """Explain ``none``: the head's best evidence, and the first requirement that it misses.

    Of several roles that the relation could earn, the one with the fewest missed requirements
    counts. ``general`` are the requirements of every role. ``at`` is None where no relation has
    evidence.
    """
    if not evidence.relations:
        return "the probes have no relations"
    if at is None:
        return f"no relation has {rules.min_n} instances in more than one document"
    candidates = [
        [*general, *role_requirements(evidence, rule)]
        for rule in rules.roles.values()
        if role_applies(evidence.relations[at[2]], rule)
    ]
    by_role = [
        [requirement for requirement in requirements if not requirement.met[at]]
        for requirements in candidates or [[*general]]
    ]
    missed = min(by_role, key=len)
    what = missed[0].shortfall(at) if missed else "no rule gives a role for this relation"
    return f"{describe(evidence, at)}: {what}"
