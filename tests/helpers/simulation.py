"""Simulated heads, hit by hit, for tests of p, q, intervals and power.

Each noise head likes some documents and some forms, at random; it hits at the baselines' rate on
average, and each head has baselines of its own, so that heads are independent draws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice

import numpy as np

from headprobe.analysis.distance_control import DistanceControl
from headprobe.analysis.evidence import Evidence
from headprobe.analysis.gains import BaselineHits, RuleHits, compare_with_baselines
from headprobe.analysis.groups import GroupedInstances, group_instances
from headprobe.runs.instances import Instances, fold_of
from headprobe.runs.sums import Tallies, pack_heads
from headprobe.vocabulary import FOLDS, Relation

RATE = 0.35


@dataclass(frozen=True)
class Demands:
    confidence: float = 0.95
    min_n: int = 20
    min_form_folds: float = 10
    min_forms: int = 3


@cache
def name_in_fold(fold: int) -> str:
    """A name whose hash is in this fold; another one for the same fold plus 64, and so on."""
    ordinal, place = divmod(fold, FOLDS)
    found = (name for number in range(100_000) if fold_of(name := f"word{number}") == place)
    return next(islice(found, ordinal, None))


def instances_of(
    documents: np.ndarray,
    forms: np.ndarray,
    relations: Sequence[Relation],
    *,
    collide: bool = False,
) -> Instances:
    """One instance per passage of two words: ``documents`` [n] and ``forms`` [n] number the
    document, and the form of the target. Numbers below 64 have folds of their own; with ``collide``
    names are hashed as they come."""
    n, count = len(documents), len(relations)
    names = [f"name{number}" if collide else name_in_fold(number) for number in range(FOLDS * 4)]
    order = np.repeat(np.arange(n), count)
    words = 2 * n
    return Instances(
        relations=tuple(relations),
        passage_ids=np.array([f"p{number}" for number in range(n)]),
        passage_documents=np.array([names[number] for number in documents]),
        passage_domains=np.array(["prose"] * n),
        passage_clusters=np.array([names[number] for number in documents]),
        passage_sentence=np.zeros(n, dtype=np.int64),
        passage_original=np.full(n, -1),
        passage_first=np.arange(0, words + 1, 2),
        sentence=np.zeros(words, dtype=np.int64),
        upos=np.zeros(words, dtype=np.int64),
        upos_names=np.array(["NOUN"]),
        form=np.ravel([forms, np.full(n, len(names))], order="F"),
        forms=np.array([*names, "query"]),
        tokens=np.ones(words, dtype=np.int64),
        usable=np.ones(words, dtype=np.bool_),
        space=np.ones(words, dtype=np.bool_),
        word_classes=np.zeros(words, dtype=np.int64),
        class_queries=np.zeros(words, dtype=np.int64),
        n_all=np.full(count, n),
        link_relation=np.tile(np.arange(count), n),
        link_query=2 * order + 1,
        link_first=np.arange(n * count + 1),
        link_targets=2 * order,
        deprel=np.zeros(words, dtype=np.int64),
        lemma=np.zeros(words, dtype=np.int64),
        mention_end=np.full(words, -1),
        example_words=np.zeros(0, dtype=np.int64),
        sampled_words=np.zeros(0, dtype=np.int64),
    )


@dataclass
class Simulation:
    """Relations of ``n`` instances in so many documents and forms, with ``rivals`` baselines.

    ``liking`` is the spread of what heads and baselines like about documents, about forms and about
    pairs of both. Forms have equal chances, or such as 1 / rank ** ``zipf``."""

    heads: int
    n: int = 300
    documents: int = 25
    forms: int = 25
    rivals: int = 1
    liking: tuple[float, ...] = (0.1, 0.1)
    families: Sequence[str] = ("syntax",)
    gains: dict[tuple[int, int], float] = field(default_factory=dict)
    """True gains by (relation, head); all others are 0."""
    zipf: float = 0.0
    collide: bool = False

    def weigh(self, rng: np.random.Generator) -> Evidence:
        """The evidence on these relations."""
        relations = tuple(Relation(name, f"r{i}", "x") for i, name in enumerate(self.families))
        documents, forms = self._draw_groups(rng)
        instances = instances_of(documents, forms, relations, collide=self.collide)
        drawn = [list(self._hits(rng, documents, forms, index)) for index in range(len(relations))]

        def packed(which: int) -> np.ndarray:
            return np.concatenate([pack_heads(each[which]) for each in drawn])

        names = [f"rule {number}" for number in range(1, self.rivals + 1)]
        none = np.zeros((len(relations), self.heads))
        by_fold = np.zeros((2, len(relations), FOLDS, self.heads))
        by_head = {name: packed(number + 1) for number, name in enumerate(names)}
        baselines = BaselineHits(
            rules=(RuleHits({}),) * len(relations),
            by_head=by_head,
            category=np.array([packed(-1)]),
            distance=DistanceControl(by_head, none, none, by_fold, by_fold),
        )
        sums = dict.fromkeys(("mass", "kept", "share_norm"), none[:, None])
        shares = dict.fromkeys(("share_by_document", "share_by_form"), by_fold[0][:, :, None])
        tallies = Tallies({**sums, **shares, "hits": packed(0)})
        return compare_with_baselines(instances, tallies, baselines, Demands())

    def group(self, rng: np.random.Generator) -> tuple[GroupedInstances, np.ndarray]:
        """The instances of one relation, and gains [n, N] of the heads over one baseline."""
        documents, forms = self._draw_groups(rng)
        instances = instances_of(
            documents, forms, [Relation("syntax", "r", "x")], collide=self.collide
        )
        hits, rival, _ = self._hits(rng, documents, forms, 0)
        gains = hits.astype(np.int8) - rival
        return group_instances(instances, instances.of(0), Demands().min_form_folds), gains

    def _draw_groups(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        weights = 1 / np.arange(1, self.forms + 1) ** self.zipf
        forms = rng.choice(self.forms, size=self.n, p=weights / weights.sum())
        return rng.integers(self.documents, size=self.n), forms

    def _hits(
        self, rng: np.random.Generator, documents: np.ndarray, forms: np.ndarray, relation: int
    ) -> Iterator[np.ndarray]:
        """Hits [n, N] of the heads, of each baseline, and of the control."""
        groups = documents, forms, documents * self.forms + forms
        for choosing in range(self.rivals + 2):
            rate = np.full((self.n, self.heads), RATE, dtype=np.float32)
            for group, spread in zip(groups, self.liking, strict=False):
                if spread:
                    liked = rng.uniform(-1, 1, (group.max() + 1, self.heads)).astype(np.float32)
                    rate += liked[group] * np.float32(spread * np.sqrt(3))
            if choosing == 0:
                for (planted, head), gain in self.gains.items():
                    rate[:, head] += gain * (planted == relation)
            assert rate.min() >= 0 and rate.max() <= 1
            yield rng.random(rate.shape, dtype=np.float32) < rate
