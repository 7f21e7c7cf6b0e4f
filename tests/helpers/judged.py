"""What could be found in a run made by hand (``tests.report.synthetic``)."""

import numpy as np

from headprobe.analysis.behaviour import BehaviourEvidence, Copying, Positional
from headprobe.analysis.evidence import Evidence, HeadStatistics
from headprobe.analysis.structure import Agreement
from headprobe.roles.verdict import Claim, Verdict
from headprobe.vocabulary import Relation

RELATIONS = (
    Relation("coreference", "pronoun-strict", "antecedent", strict=True),
    Relation("syntax", "nsubj", "dependent", scope="sentence"),
    Relation("syntax", "obj", "head", scope="sentence"),
    Relation("syntax", "det", "dependent", scope="sentence"),
    Relation("punctuation", "any", "mark", every=True),
)


def evidence(
    n_layers: int,
    n_heads: int,
    relations: tuple[Relation, ...] = RELATIONS,
    seed: int = 0,
    domains: tuple[str, ...] = ("fiction", "talk"),
) -> Evidence:
    random = np.random.default_rng(seed)
    shape = (n_layers, n_heads, len(relations))
    top1 = random.beta(1.5, 3, shape)
    baseline_top1 = np.broadcast_to(random.uniform(0.1, 0.5, len(relations)), shape)
    gain = top1 - baseline_top1
    half = random.normal(0, 0.02, shape)
    n = random.integers(0, 900, len(relations)) + 60
    flat = {
        name: random.uniform(0, 1, shape)
        for name in ("mass", "kept", "share", "share_norm", "habit_share", "habit_expected")
    }
    sides = [1 - 2 * (place % 2) for place in range(len(domains))]
    in_domains = np.stack([half * side for side in sides])
    has_text = [side > 0 or len(domains) > 2 for side in sides]
    return Evidence(
        relations=relations,
        n=n,
        forms=n // 3,
        n_all=n,
        few_forms=((),) * len(relations),
        form_rule=("variance",) * len(relations),
        distance_share=flat["share"] / 2,
        lift=flat["share"] * 3,
        lift_low=flat["share"] * 2.5,
        lift_without_form=np.full(shape, np.nan),
        document_folds=np.full(len(relations), 20.0),
        form_folds=np.full(len(relations), 30.0),
        top1=top1,
        baselines={
            "offset": baseline_top1[0, 0],
            "start": baseline_top1[0, 0] / 2,
            "chance": baseline_top1[0, 0] / 3,
            "uniform": baseline_top1[0, 0] / 3,
            "habit": baseline_top1 * 0.9,
            "same_form": np.where(
                [relation.family == "coreference" for relation in relations],
                baseline_top1[0, 0] / 4,
                np.nan,
            ),
        },
        best_offset=np.full(len(relations), 2),
        best_start=("first word of the sentence",) * len(relations),
        baseline=np.zeros(shape, dtype=np.int64),
        baseline_top1=baseline_top1.copy(),
        gain=gain,
        gain_error=np.full(shape, 0.03),
        gain_low=gain - 0.06,
        gain_high=gain + 0.06,
        gain_a=gain + half,
        gain_b=gain - half,
        gain_without_form=gain - 0.01,
        p=np.clip(0.3 - gain, 1e-9, 1),
        q=np.clip(0.4 - gain, 1e-8, 1),
        strength=gain / (1 - baseline_top1),
        category_top1=top1 - gain / 2,
        category_gain=gain / 2,
        category_gain_low=gain / 2 - 0.06,
        beats=np.where(gain > 0.06, 1 + (gain > 0.12), 0),
        reliability=np.full(len(relations), 0.7),
        domains=domains,
        domain_n=np.stack([n * side for side in has_text]),
        domain_top1=top1 + in_domains,
        domain_baseline_top1=baseline_top1 - in_domains,
        domain_gain=gain + 2 * in_domains,
        **flat,
    )


def shape(n_layers: int, n_heads: int, seed: int = 1) -> HeadStatistics:
    random = np.random.default_rng(seed)
    dimensions = (n_layers, n_heads)
    return HeadStatistics(
        sink=random.beta(2, 2, dimensions),
        self_attention=random.beta(1, 8, dimensions),
        previous=random.beta(1, 5, dimensions),
        entropy=random.uniform(0.2, 4, dimensions),
        distance=random.uniform(1, 40, dimensions),
        punctuation=random.beta(1, 5, dimensions),
        nouns=random.beta(2, 5, dimensions),
        verbs=random.beta(1, 5, dimensions),
        adjectives=random.beta(1, 9, dimensions),
        output_norm=random.uniform(0.1, 2, dimensions),
        output_high=random.uniform(0.1, 2, (1, *dimensions)),
        domains=("fiction",),
        residual_share=random.uniform(0, 0.2, dimensions),
        residual_by_domain=random.uniform(0, 0.2, (1, *dimensions)),
        profile=np.zeros((*dimensions, 511)),
    )


def conduct(n_layers: int, n_heads: int, seed: int = 2) -> BehaviourEvidence:
    random = np.random.default_rng(seed)
    dimensions = (n_layers, n_heads)

    def some() -> np.ndarray:
        return random.beta(1, 5, dimensions)

    copies = [Copying(564, 0.06, some(), some(), some(), some() - 0.1) for _ in range(2)]
    return BehaviourEvidence(
        Positional(random.integers(0, 2049, dimensions), some(), some()),
        *copies,
        Agreement(
            some(),
            some() - 0.2,
            some() / 5,
            np.full((*dimensions, 3), -1),
            np.full((*dimensions, 3), np.nan),
        ),
    )


def verdicts(found: Evidence, user_role: str = "") -> list[Verdict]:
    """Roles where the gain is clear, one head in eight idle, one in eleven a repeater."""
    n_layers, n_heads, _ = found.top1.shape
    made = []
    for layer in range(n_layers):
        for head in range(n_heads):
            number = layer * n_heads + head
            gains = found.gain[layer, head]
            best = int(gains.argmax())
            claims = []
            for relation in np.argsort(-gains):
                if found.gain_low[layer, head, relation] > 0.2:
                    asked = found.relations[relation]
                    reason = (
                        f"{asked.name} looks to {asked.looks_to}: "
                        f"top1 {found.top1[layer, head, relation]:.2f} against "
                        f"{found.baseline_top1[layer, head, relation]:.2f} (offset 2), "
                        f"gain {gains[relation]:+.2f} over {found.n[relation]} instances"
                    )
                    role = asked.family if asked.family != "user" else user_role
                    claims.append(Claim(role, int(relation), float(gains[relation]), reason))
            idle, repeater = number % 8 == 5, number % 11 == 7 and number % 8 != 5
            role = claims[0].role if claims else "none"
            reason = claims[0].reason if claims else "no relation beats its baselines by the margin"
            if idle:
                role, reason = "redundant", "idle: output at most 0.21 of the layer's median head"
            if repeater:
                role, reason = "redundant", "repeats L0H1: affinity 0.95, cosine 0.97"
            made.append(
                Verdict(
                    layer=layer,
                    head=head,
                    role=role,
                    claims=tuple(claims),
                    strength=claims[0].strength if claims else None,
                    reason=reason,
                    idle=idle,
                    repeater_of="L0H1" if repeater else None,
                    cluster=1 if repeater else None,
                    best_relation=best,
                )
            )
    return made
