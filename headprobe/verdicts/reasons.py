"""Why a head is called what it is called: one line each, the rule and its numbers."""

from collections.abc import Sequence

from headprobe.axes import head_name
from headprobe.evidence.evidence import Evidence, Shape
from headprobe.verdicts.redundancy import Likeness
from headprobe.verdicts.requirements import Requirement, Seat, belongs, writes_it_too
from headprobe.verdicts.rules import Rules


def describe(evidence: Evidence, at: Seat) -> str:
    """A head's evidence on one relation."""
    relation, n = evidence.relations[at[2]], evidence.n[at[2]]
    baseline = list(evidence.baselines)[evidence.baseline[at]]
    low, high = evidence.gain_low[at], evidence.gain_high[at]
    return (
        f"{relation.name} -> {relation.looks_to}: top1 {evidence.top1[at]:.2f} "
        f"against {baseline} {evidence.baseline_top1[at]:.2f}, "
        f"gain {evidence.gain[at]:.2f} [{low:.2f}, {high:.2f}], n {n}, q {evidence.q[at]:.1g}"
    )


def why_idle(shape: Shape, layer: int, head: int) -> str:
    high = shape.output_high[:, layer, head].max()
    share = shape.residual_by_domain[:, layer, head].max()
    return (
        f"idle: output norm at most {high:.2f} of its layer's median head "
        f"and {share:.3f} of the residual stream in every domain"
    )


def why_repeater(likeness: Likeness, head: int, stronger: int, heads: int) -> str:
    """Both as numbers ``layer * heads + head``."""
    pair = (head, stronger)
    return (
        f"repeats {head_name(*divmod(stronger, heads))}: affinity {likeness.affinity[pair]:.2f}, "
        f"output cosine {likeness.cosine[pair]:.2f} on {likeness.rows[pair]} rows"
    )


def why_none(
    evidence: Evidence, rules: Rules, asked: Sequence[Requirement], at: Seat | None
) -> str:
    """The best evidence of a head and the first thing that it lacks; None: there is no evidence."""
    if not evidence.relations:
        return "the probes ask for no relation"
    if at is None:
        return f"no relation has {rules.min_n} instances in more than one document"
    earning = [rule for rule in rules.roles.values() if belongs(evidence.relations[at[2]], rule)]
    if earning and all(rule.norm_above_habit for rule in earning):
        asked = [*asked, writes_it_too(evidence)]
    lacking = [requirement.shortfall(at) for requirement in asked if not requirement.met[at]]
    missing = lacking[0] if lacking else "earns no role by these rules"
    return f"{describe(evidence, at)}: {missing}"
