"""Small runs made up for the judging wing: instances at random, tallies of heads we know."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from numpy.random import Generator

from headprobe.analysis.gains import BaselineHits, compute_baselines
from headprobe.analysis.pos_control import fit_preferences
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.runs.sums import Tallies, pack_heads, packed_bytes
from headprobe.vocabulary import CATEGORIES, DEPRELS, FOLDS, MAX_DISTANCE, Relation

OBJ = Relation("syntax", "obj", "head", "sentence")
PRONOUN = Relation("coreference", "pronoun", "antecedent")
PRONOUN_STRICT = Relation("coreference", "pronoun-strict", "antecedent", strict=True)
MARKS = Relation("punctuation", "any", "mark", every=True)
STOPS = Relation("punctuation", "stop", "mark", every=True)
RELATIONS = (OBJ, PRONOUN, PRONOUN_STRICT, MARKS, STOPS)


def random_instances(
    rng: Generator,
    lengths: Sequence[int],
    relations: Sequence[Relation] = RELATIONS,
    *,
    documents: Sequence[str] | None = None,
    domains: Sequence[str] | None = None,
    sentence_length: int = 9,
    asked: float = 0.3,
    usable: float = 0.85,
) -> Instances:
    """Passages of so many words; each usable word asks a relation with probability ``links`` and
    has some of its candidates as targets."""
    words = sum(lengths)
    first = np.concatenate([[0], np.cumsum(lengths)])
    forms = np.array(["The", "the", "cat", "Cat", "dog", ".", ",", "it", "It", "sat", "on", "a"])
    form = rng.integers(len(forms), size=words)
    can_use = rng.random(words) < usable
    tokens = np.where(can_use, rng.integers(1, 4, size=words), 0)
    sentence = np.concatenate([np.arange(length) // sentence_length for length in lengths])
    folded = np.array([forms[index].lower() for index in form])
    passage = np.repeat(np.arange(len(lengths)), lengths)
    links: list[tuple[int, int, list[int]]] = []
    for query in range(words):
        for index, relation in enumerate(relations):
            if relation.every or not can_use[query] or rng.random() > asked:
                continue
            candidates = [
                word
                for word in range(first[passage[query]], query)
                if can_use[word]
                and (relation.scope == "passage" or sentence[word] == sentence[query])
                and not (relation.strict and folded[word] == folded[query])
            ]
            if candidates:
                size = rng.integers(1, min(len(candidates), 3) + 1)
                targets = sorted(rng.choice(candidates, size=size, replace=False).tolist())
                links.append((index, query, targets))
    apart = rng.spawn(1)[0]
    classes = np.zeros(words, dtype=np.int64)
    for bit, relation in enumerate(each for each in relations if each.every):
        marks = (".", ",") if relation.name == "any" else (".",)
        classes |= np.isin(folded, marks).astype(np.int64) << bit
    names = documents or [f"d{index}" for index in range(len(lengths))]
    instances = Instances(
        relations=tuple(relations),
        passage_ids=np.array([f"p{index}" for index in range(len(lengths))]),
        passage_documents=np.array(names),
        passage_domains=np.array(domains or ["prose"] * len(lengths)),
        passage_clusters=np.array(names),
        passage_original=np.full(len(lengths), -1),
        passage_sentence=np.zeros(len(lengths), dtype=np.int64),
        passage_first=first,
        sentence=sentence,
        upos=apart.integers(4, size=words),
        upos_names=np.array(["NOUN", "VERB", "PRON", "no such tag"]),
        form=form,
        forms=forms,
        tokens=tokens,
        usable=can_use,
        space=np.ones(words, dtype=bool),
        word_classes=classes,
        class_queries=np.zeros(words, dtype=np.int64),
        n_all=np.bincount(
            np.array([link[0] for link in links], dtype=np.int64), minlength=len(relations)
        ),
        link_relation=np.array([link[0] for link in links], dtype=np.int64),
        link_query=np.array([link[1] for link in links], dtype=np.int64),
        link_first=np.cumsum([0, *(len(link[2]) for link in links)]),
        link_targets=np.array([word for link in links for word in link[2]], dtype=np.int64),
        deprel=apart.choice([DEPRELS.index("nsubj"), DEPRELS.index("obj"), 0], size=words),
        lemma=form // 2,
        mention_end=_mention_ends(apart, first, passage),
        example_words=np.zeros(0, dtype=np.int64),
        sampled_words=np.zeros(0, dtype=np.int64),
    )
    return instances.choose_class_queries(seed=0)


DrawnInstances = Callable[[], tuple[Generator, Instances]]


def _drawing(lengths: Sequence[int], relations: Sequence[Relation], asked: float) -> DrawnInstances:
    def draw() -> tuple[Generator, Instances]:
        rng = np.random.default_rng(len(lengths))
        return rng, random_instances(rng, lengths, relations, asked=asked, usable=0.7)

    return draw


to_loop_over = pytest.mark.parametrize(
    "drawn",
    [
        _drawing([3, 17, 40, 1, 25], (OBJ, PRONOUN, PRONOUN_STRICT, STOPS), 0.3),
        _drawing([640, 515], (PRONOUN, PRONOUN_STRICT), 0.03),
    ],
    ids=["short", "beyond the profile"],
)
"""Instances few enough for a loop over their candidates, after the generator that drew them."""


def links_of(instances: Instances) -> list[RelationInstances]:
    return [instances.of(index) for index in range(len(instances.relations))]


def _mention_ends(rng: Generator, first: np.ndarray, passage: np.ndarray) -> np.ndarray:
    """A third of the words head mentions, which end there or up to four words later."""
    words = np.arange(len(passage))
    end = np.minimum(words + rng.integers(5, size=len(words)), first[passage + 1] - 1)
    return np.where(rng.random(len(words)) < 1 / 3, end, -1)


def candidates_by_hand(instances: Instances, relation: Relation, query: int) -> list[int]:
    """The candidates of a query word, nearest last, word by word."""
    lowered = [instances.forms[index].lower() for index in instances.form]
    start = int(instances.passage_first[instances.passage[query]])
    return [
        word
        for word in range(start, query)
        if instances.usable[word]
        and (relation.scope == "passage" or instances.sentence[word] == instances.sentence[query])
        and not (relation.strict and lowered[word] == lowered[query])
        and not (relation.same_upos and not _same_upos(instances, word, query))
    ]


def _same_upos(instances: Instances, word: int, query: int) -> bool:
    same_upos = instances.upos[word] == instances.upos[query]
    return bool(same_upos and instances.lemma[word] != instances.lemma[query])


def instances_by_hand(instances: Instances, relation: int) -> list[tuple[int, set[int]]]:
    """(query, targets) of each instance."""
    links = instances.of(relation)
    return [
        (int(query), set(links.targets[links.first[i] : links.stop[i]].tolist()))
        for i, query in enumerate(links.query)
    ]


def tallies_of(
    instances: Instances,
    hits: Mapping[int, np.ndarray],
    layers: int,
    heads: int,
    *,
    profile: np.ndarray | None = None,
    profile_norm: np.ndarray | None = None,
    category: np.ndarray | None = None,
    mass: float = 0.5,
) -> Tallies:
    """Tallies in which heads [N] hit as ``hits`` [I, N] says for each relation, with flat profiles
    and outputs of unit variance in every cell unless told otherwise."""
    relations, cells = len(instances.relations), len(instances.cells)
    packed = np.zeros((instances.first_instance[-1], packed_bytes(layers * heads)), dtype=np.uint8)
    sums = np.zeros((relations, layers, heads))
    shares = np.zeros((2, relations, FOLDS, layers, heads))
    for index, links in enumerate(links_of(instances)):
        documents = instances.document_fold[instances.passage[links.query]]
        for by_fold, folds in zip(
            shares, (documents, instances.form_fold[links.nearest]), strict=True
        ):
            by_fold[index] += np.bincount(folds, minlength=FOLDS)[:, None, None] * mass
        if index in hits:
            packed[instances.numbers(index)] = pack_heads(hits[index])
            sums[index] = len(links)
    flat = np.ones((layers, heads, MAX_DISTANCE))
    pairs = (layers * heads, layers * heads)
    rows = np.full(cells, 1000)
    return Tallies(
        {
            "mass": sums * mass,
            "kept": sums * 0.8,
            "share_norm": sums * mass,
            "share_by_document": shares[0],
            "share_by_form": shares[1],
            "hits": packed,
            "category": np.ones((CATEGORIES, layers, heads)) if category is None else category,
            "profile": flat if profile is None else profile,
            "profile_norm": flat if profile_norm is None else profile_norm,
            "profile_pairs": np.ones(MAX_DISTANCE, dtype=np.int64),
            "rows": np.array(10),
            "rows_stripped": np.full((layers, heads), 8),
            **{
                name: np.full((layers, heads), 4.0)
                for name in ("sink", "self", "previous", "entropy", "distance", "punctuation")
            },
            "output_rows": rows,
            "output_sum": np.zeros((cells, layers, heads, 2)),
            "output_square": np.broadcast_to(rows[:, None, None], (cells, layers, heads)) * 1.0,
            "residual_square": np.broadcast_to(rows[:, None], (cells, layers)) * 1.0,
            "affinity": np.zeros(pairs),
            "cosine": np.zeros(pairs),
            "both_active": np.full(pairs, 200),
            "sampled_rows": np.array(200),
        }
    )


def baselines_of(instances: Instances, heads: int) -> BaselineHits:
    """The baselines of heads of one layer with flat profiles."""
    tallies = tallies_of(instances, {}, 1, heads)
    return compute_baselines(instances, tallies, fit_preferences(instances, tallies))
