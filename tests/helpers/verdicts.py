"""Evidence and shapes of heads made up to pass every rule, or to miss one."""

from typing import Any

import numpy as np

from headprobe.analysis.behaviour import BehaviourEvidence, Copying, Positional
from headprobe.analysis.evidence import Evidence, HeadStatistics
from headprobe.analysis.structure import Agreement
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import DEPRELS, Relation, deprel_pair

OBJ = Relation("syntax", "obj", "head", "sentence")
NSUBJ = Relation("syntax", "nsubj", "dependent", "sentence")
PRONOUN = Relation("coreference", "pronoun", "antecedent")
STRICT = Relation("coreference", "pronoun-strict", "antecedent", strict=True)
MARKS = Relation("punctuation", "any", "mark", every=True)
CUE = Relation("negation", "cue", "cue")
NOUNS = Relation("word-class", "noun", "word", every=True)
RELATIONS = (OBJ, NSUBJ, PRONOUN, STRICT, MARKS, CUE, NOUNS)


def evidence_for(earning: dict[tuple[int, int], list[Relation]], **changes: Any) -> Evidence:
    """Two layers of two heads; those named pass section 4 on the relations named, the others show
    nothing. ``changes`` replace a number of the passing seats, or a whole [R] array."""
    shape = (2, 2, len(RELATIONS))
    passes = np.zeros(shape, dtype=bool)
    for head, relations in earning.items():
        passes[(*head, [RELATIONS.index(relation) for relation in relations])] = True

    def seats(name: str, value: float, otherwise: float) -> np.ndarray:
        changed = changes.get(name, value)
        return np.where(passes, changed, otherwise).astype(np.float64)

    def each(name: str, value: float) -> np.ndarray:
        return np.broadcast_to(changes.get(name, value), len(RELATIONS)).copy()

    top1, baseline_top1 = seats("top1", 0.8, 0.3), seats("baseline_top1", 0.4, 0.4)
    return Evidence(
        relations=RELATIONS,
        n=each("n", 400),
        forms=each("forms", 90),
        n_all=each("n", 400),
        few_forms=changes.get("few_forms", ((),) * len(RELATIONS)),
        form_rule=changes.get("form_rule", ("variance",) * len(RELATIONS)),
        distance_share=seats("distance_share", 0.2, 0.45),
        lift=seats("lift", 4.0, 1.0),
        lift_low=seats("lift_low", 3.0, 0.9),
        lift_without_form=seats("lift_without_form", np.nan, np.nan),
        document_folds=each("document_folds", 25.0),
        form_folds=each("form_folds", 40.0),
        mass=seats("mass", 0.4, 0.1),
        kept=np.full(shape, 0.5),
        share=np.full(shape, 0.5),
        share_norm=seats("share_norm", 0.6, 0.2),
        habit_share=seats("habit_share", 0.3, 0.3),
        habit_expected=np.full(shape, 0.3),
        top1=top1,
        baselines={
            "offset": np.full(len(RELATIONS), 0.2),
            "habit": baseline_top1,
        },
        best_offset=np.full(len(RELATIONS), 2),
        best_start=("word 1 of the passage",) * len(RELATIONS),
        baseline=np.ones(shape, dtype=np.int64),
        baseline_top1=baseline_top1,
        gain=top1 - baseline_top1,
        gain_error=np.full(shape, 0.03),
        gain_low=seats("gain_low", 0.34, -0.16),
        gain_high=seats("gain_high", 0.46, -0.04),
        gain_a=seats("gain_a", 0.41, -0.1),
        gain_b=seats("gain_b", 0.39, -0.1),
        gain_without_form=seats("gain_without_form", np.nan, np.nan),
        p=seats("p", 1e-12, 0.9),
        q=seats("q", 2e-9, 0.95),
        strength=(top1 - baseline_top1) / (1 - baseline_top1),
        category_top1=seats("category_top1", 0.5, 0.3),
        category_gain=seats("category_gain", 0.3, 0.0),
        category_gain_low=seats("category_gain_low", 0.2, -0.1),
        beats=seats("beats", 2, 0).astype(np.int64),
        reliability=np.full(len(RELATIONS), 0.7),
        domains=("prose",),
        domain_n=each("n", 400)[None],
        domain_top1=top1[None],
        domain_baseline_top1=baseline_top1[None],
        domain_gain=(top1 - baseline_top1)[None],
    )


def shape_of(high: Any = 1.1, residual: Any = 0.2, norm: Any = 1.0) -> HeadStatistics:
    """Two layers of two heads in two domains; ``high`` and ``residual`` broadcast to [2, L, H]."""
    plain = np.full((2, 2), 0.5)
    return HeadStatistics(
        *[plain] * 9,
        output_norm=np.broadcast_to(norm, (2, 2)).astype(np.float64),
        output_high=np.broadcast_to(high, (2, 2, 2)).astype(np.float64),
        domains=("prose", "talk"),
        residual_share=np.broadcast_to(residual, (2, 2, 2)).mean(0),
        residual_by_domain=np.broadcast_to(residual, (2, 2, 2)).astype(np.float64),
        profile=np.ones((2, 2, 511)),
    )


def conduct_of(**changes: Any) -> BehaviourEvidence:
    """Two layers of two heads that follow, copy and repeat nothing; ``changes`` name a number of
    L1H0's conduct: ``explained``, ``duplicate_gain_low``, ``moved`` ..."""

    def number(name: str, otherwise: float) -> np.ndarray:
        values = np.full((2, 2), otherwise, dtype=np.float64)
        values[1, 0] = changes.get(name, otherwise)
        return values

    def copies(kind: str) -> Copying:
        return Copying(
            rows=564,
            baseline=0.06,
            top1=number(f"{kind}_gain_low", 0.0) + 0.1,
            mass=number(f"{kind}_mass", 0.7),
            gain=number(f"{kind}_gain_low", 0.0) + 0.04,
            gain_low=number(f"{kind}_gain_low", 0.0),
        )

    turns = np.full((2, 2, 3), -1)
    pairs = (("obj", "root"), ("nsubj", "root"))
    turns[..., :2] = [deprel_pair(*map(DEPRELS.index, pair)) for pair in pairs]
    return BehaviourEvidence(
        Positional(
            rows=number("rows", 2048).astype(np.int64),
            explained=number("explained", 0.4),
            by_length=number("by_length", 0.05),
        ),
        copies("duplicate"),
        copies("induction"),
        Agreement(
            agreement=number("agreement_low", 0.1) + 0.1,
            agreement_low=number("agreement_low", 0.1),
            moved=number("moved", 0.01),
            top_pairs=turns,
            excess=np.broadcast_to([0.12, 0.05, np.nan], (2, 2, 3)).astype(np.float64),
        ),
    )


def pairs_of(
    heads: int, alike: dict[tuple[int, int], tuple[float, float]], rows: int = 200
) -> Tallies:
    """Sums of pairs: those named have such (affinity, cosine), all others 0.5 and 0.1."""
    affinity, cosine = np.full((heads, heads), 0.5), np.full((heads, heads), 0.1)
    for (a, b), (attends, writes) in alike.items():
        affinity[a, b] = affinity[b, a] = attends
        cosine[a, b] = cosine[b, a] = writes
    counts = np.full((heads, heads), rows)
    return Tallies({"affinity": affinity * rows, "cosine": cosine * rows, "both_active": counts})
