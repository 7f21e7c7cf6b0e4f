"""Sums drawn at random over real instances: of 1,024 heads, the size of an 8B model's run, or over
the words of 100,000 sentences."""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from headprobe.analysis.pos_control import pair_counts
from headprobe.batching.corpus import with_examples, with_sample
from headprobe.measure.layer_view import N_STRONGEST
from headprobe.runs.instances import Instances
from headprobe.runs.sums import AXES, Tallies, pack_heads, packed_bytes, unpack_heads
from headprobe.vocabulary import (
    DEPREL_PAIRS,
    FOLDS,
    LAGS,
    MAX_DISTANCE,
    QUADRANTS,
    deprel_pair,
    quadrant,
)
from tests.bench.corpora import corpus

LAYERS, HEADS, WIDTH = 32, 32, 128
RELATIONS, DOMAINS_ASKED = 80, 5
LONG_PASSAGES = 40
TOKENS = 4096
"""Distinct tokens, whose columns are summed."""


def instances() -> Instances:
    """Those of the bundled sets, cut into 80 relations and dealt to 5 domains."""
    instances = with_relations(corpus("all", 0).instances, RELATIONS)
    domains = [f"domain {number % DOMAINS_ASKED}" for number in range(len(instances.passage_ids))]
    instances = replace(
        instances,
        passage_domains=np.array(domains),
        passage_clusters=instances.passage_ids,
    )
    return with_sample(with_examples(instances, 0), 0)


def with_relations(instances: Instances, count: int) -> Instances:
    """Halves the largest relations until there are ``count``."""
    relations, relation = list(instances.relations), instances.link_relation.copy()
    while len(relations) < count:
        largest = int(np.bincount(relation).argmax())
        half = np.flatnonzero(relation == largest)[1::2]
        relation[half] = len(relations)
        relations.append(replace(relations[largest], name=f"{relations[largest].name}-{len(half)}"))
    cut = replace(
        instances,
        relations=tuple(relations),
        n_all=np.bincount(relation, minlength=len(relations)),
        link_relation=relation,
    )
    return cut.choose_class_queries(0)


def many_words(count: int) -> Instances:
    """Passages of 512 tokens, repeated as other documents until there are so many words."""
    instances = corpus("long", LONG_PASSAGES).instances
    words, links = len(instances.form), len(instances.link_targets)
    times = -(-count // words)
    of = np.repeat(np.arange(times), len(instances.passage_ids))
    names = np.array([f"document {number}" for number in range(len(of))])

    def moved(numbers: np.ndarray, by: int) -> np.ndarray:
        return (numbers + by * np.arange(times)[:, None]).ravel()

    by_word = (
        *("sentence", "upos", "form", "tokens", "usable", "space", "word_classes", "deprel"),
        *("class_queries", "lemma"),
    )
    many = replace(
        instances,
        passage_ids=names,
        passage_documents=names,
        passage_clusters=names,
        passage_domains=np.tile(instances.passage_domains, times),
        passage_sentence=np.tile(instances.passage_sentence, times),
        passage_original=np.full(len(names), -1),
        passage_first=np.append(moved(instances.passage_first[:-1], words), times * words),
        **{name: np.tile(getattr(instances, name), times) for name in by_word},
        link_relation=np.tile(instances.link_relation, times),
        link_query=moved(instances.link_query, words),
        link_first=np.append(moved(instances.link_first[:-1], links), times * links),
        link_targets=moved(instances.link_targets, words),
        mention_end=np.where(
            np.tile(instances.mention_end, times) < 0, -1, moved(instances.mention_end, words)
        ),
    )
    return with_sample(with_examples(many.choose_class_queries(0), 0), 0)


def tallies(asked: Instances, layers: int = LAYERS, heads: int = HEADS) -> Tallies:
    """Every head hits some of the instances of each relation, by chance of its own."""
    rng = np.random.default_rng(0)
    grid = (layers, heads)
    links = [asked.of(number) for number in range(len(asked.relations))]
    n = np.array([len(each) for each in links])[:, None, None]
    folds = (
        [asked.document_fold[asked.passage[each.query]] for each in links],
        [asked.form_fold[each.nearest] for each in links],
    )
    by_document, by_form = (
        np.array([np.bincount(each, minlength=FOLDS) for each in of_links])[:, :, None, None]
        * rng.beta(1, 4, (len(links), 1, *grid))
        for of_links in folds
    )
    pairs = (layers * heads,) * 2
    likeness = {name: rng.uniform(0, 92, pairs) for name in ("affinity", "cosine")}
    cells, words = len(asked.cells), len(asked.form)
    rows = np.full(cells, words // cells)
    earlier = np.maximum(asked.place[asked.example_words], 1)
    sums = rng.normal(size=(cells, *grid, WIDTH)) * rows[:, None, None, None] / 10
    return Tallies(
        {
            **{name: n * rng.random((len(n), *grid)) for name in ("mass", "kept", "share_norm")},
            "share_by_document": by_document,
            "share_by_form": by_form,
            # two random bytes in one: a hit in a quarter of the instances
            "hits": rng.integers(256, size=(int(n.sum()), packed_bytes(layers * heads)), dtype="u1")
            & rng.integers(256, size=(int(n.sum()), packed_bytes(layers * heads)), dtype="u1"),
            # Attention per distance falls about as 1 / distance, as in real heads
            "profile": words * rng.random((*grid, MAX_DISTANCE)) / np.arange(1, MAX_DISTANCE + 1),
            "profile_norm": rng.random((*grid, MAX_DISTANCE)) / np.arange(1, MAX_DISTANCE + 1),
            "profile_pairs": np.full(MAX_DISTANCE, words),
            "category": _by_kind(rng, pair_counts(asked) > 0, grid),
            "deprel_pairs": _by_kind(rng, _met(asked), grid),
            "sampled_winner": rng.integers(1, 50, (len(asked.sampled_words), *grid), np.int32),
            "sampled_kept": rng.random((len(asked.sampled_words), *grid), np.float32),
            "copy_rows": np.array(LAGS),
            **{
                f"{name}_hits": rng.integers(12, size=(len(LAGS), *grid))
                for name in ("duplicate", "induction")
            },
            **{
                f"{name}_mass": rng.random((len(LAGS), *grid))
                for name in ("duplicate", "induction")
            },
            "rows": np.array(words),
            "rows_stripped": rng.integers(1, words, grid),
            **{
                name: words * rng.random(grid)
                for name in ("sink", "self", "previous", "entropy", "distance", "punctuation")
            },
            "output_rows": rows,
            "output_sum": sums,
            "output_square": np.square(sums).sum(-1) + rng.random((cells, *grid)) * rows.max(),
            "residual_square": rng.random((cells, layers)) * rows.max(),
            **likeness,
            "both_active": np.full(pairs, 100),
            "sampled_rows": np.array(len(asked.sampled_words)),
            "column_token": rng.random((layers, TOKENS)),
            "column_token_rows": np.full(TOKENS, 9),
            "column_position": rng.random((layers, 8)),
            "column_position_rows": np.full(8, 9),
            "column_token_passages": np.full(TOKENS, 9),
            "column_position_passages": np.full(8, 9),
            "bits": np.array(9.0),
            "characters": np.array(9),
            "example_word": np.moveaxis(
                rng.integers(1, earlier + 1, (*grid, N_STRONGEST, len(earlier)), np.int16), -1, 0
            ),
            "example_weight": rng.random((len(earlier), *grid, N_STRONGEST), np.float32),
        }
    )


def some_heads(whole: Tallies, layers: int) -> Tallies:
    """The sums of the first ``layers`` alone."""
    return Tallies(
        {
            name: pack_heads(unpack_heads(sums, layers * HEADS))
            if AXES[name] == "IZ"
            else sums[: layers * HEADS, : layers * HEADS]
            if AXES[name] == "NN"
            else np.take(sums, range(layers), AXES[name].index("L"))
            if "L" in AXES[name]
            else sums
            for name, sums in whole.arrays.items()
        }
    )


def _by_kind(rng: Generator, met: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    sums = np.zeros((*met.shape, *grid))
    sums[met] = rng.exponential(size=(int(met.sum()), *grid))
    return sums


def _met(asked: Instances) -> np.ndarray:
    """[O, M]: whether any pair has these labels and stands in this quadrant."""
    met = np.zeros((QUADRANTS, DEPREL_PAIRS), dtype=bool)
    deprel = asked.deprel.astype(np.int64)
    for distance in range(1, int(np.diff(asked.passage_first).max())):
        near = np.flatnonzero(
            (asked.passage[distance:] == asked.passage[:-distance])
            & asked.usable[distance:]
            & asked.usable[:-distance]
        )
        quarter = quadrant(
            asked.document_fold[asked.passage[near]], asked.form_fold[near].astype(np.int64)
        )
        met[quarter, deprel_pair(deprel[near + distance], deprel[near])] = True
    return met
