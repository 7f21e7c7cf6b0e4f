"""The relations by which heads earned roles, as words and rows of text.

Label-preserving ablation keeps a head's attention to the targets of these relations
(``causal.label_preserving``); selectivity and the outcome ``query-loss`` ask about the rows of
their queries.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from headprobe.analysis.candidates import candidates_of
from headprobe.batching.corpus import Corpus
from headprobe.causal.ablation import Head
from headprobe.causal.label_preserving import LabelPreserving, LabelWeights, NamedWords
from headprobe.causal.role_scores import PassageInstances
from headprobe.format import relation_name
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.instances import RelationInstances

EVERY_WORD = frozenset({"punctuation", "word-class"})
"""Families whose queries are all words: there are no other rows to compare them with."""

NO_RECEIVER = -1
"""Stands for the receiver of a target that has none in the control."""


@dataclass(frozen=True)
class HeadLabels:
    """The relations by which each head of a run earned its roles, in one corpus."""

    corpus: Corpus
    profile: NDArray[np.float32]
    """[L, H, D]: each head's mean stripped attention per word distance."""
    claims: Mapping[Head, Mapping[str, tuple[int, ...]]]
    """By head and role the relations, as indices of ``Instances.judged_relations``; the strongest
    claim comes first. Claims that rest on no relation are left out."""
    _named_words: dict[tuple[tuple[int, ...], tuple[int, ...]], dict[int, NamedWords]] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def of(cls, run: Run, corpus: Corpus) -> "HeadLabels":
        """Read the claims and profiles of a run."""
        number = {
            (relation.family, relation_name(relation), relation.looks_to): place
            for place, relation in enumerate(corpus.instances.judged_relations)
            if not relation.twin
        }
        claims: defaultdict[Head, defaultdict[str, list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for row in run.rows(run_folder.CLAIMS):
            key = row.text("family"), row.text("relation"), row.text("looks_to")
            if key in number:
                head = row.whole("layer"), row.whole("head")
                claims[head][row.text("role")].append(number[key])
        sums = run.tally("profile").astype(np.float64)
        pairs = run.tally("profile_pairs").astype(np.float64)
        profile = np.divide(sums, pairs, out=np.zeros_like(sums), where=pairs > 0)
        plain = {
            head: {role: tuple(numbers) for role, numbers in roles.items()}
            for head, roles in claims.items()
        }
        return cls(corpus, profile.astype(np.float32), plain)

    def relations(self, head: Head, role: str = "") -> tuple[int, ...]:
        """Return the relations of a head: of one role, or of all its roles."""
        roles = self.claims.get(head, {})
        chosen = [roles.get(role, ())] if role else roles.values()
        return tuple(dict.fromkeys(number for numbers in chosen for number in numbers))

    def query_tokens(self, heads: Sequence[Head], role: str = "") -> NDArray[np.bool_] | None:
        """[T]: the tokens of the corpus that are query rows of the heads' relations; None where no
        relation tells some rows from others."""
        instances = self.corpus.instances
        numbers = {number for head in heads for number in self.relations(head, role)}
        selective = [n for n in numbers if instances.judged_relations[n].family not in EVERY_WORD]
        if not selective:
            return None
        is_query = np.zeros(int(self.corpus.token_first[-1]), dtype=np.bool_)
        for number in selective:
            is_query[self._query_token(instances.of(number).query)] = True
        return is_query

    def _query_token(self, words: NDArray[np.integer]) -> NDArray[np.int64]:
        first = self.corpus.token_first[self.corpus.instances.passage[words]]
        return np.asarray(first + self.corpus.last_token[words], dtype=np.int64)

    def interventions(
        self, heads: Sequence[Head], role: str, passages: Sequence[int]
    ) -> tuple[LabelPreserving, LabelPreserving] | None:
        """Return the label-preserving ablation of a set, and its control; None without labels.

        ``passages`` are those of the sequences that the interventions will run on, in their order.
        Heads of the set without a label keep nothing: their weights are spread by distance.
        """
        numbers = {head: self.relations(head, role) for head in heads}
        if not any(numbers.values()):
            return None
        edges = self.corpus.token_first
        words = [
            torch.from_numpy(self.corpus.word_of_token[edges[p] : edges[p + 1]].astype(np.int64))
            for p in passages
        ]
        kept, control = {}, {}
        for head in heads:
            key = numbers[head], tuple(passages)
            if key not in self._named_words:  # many heads share a relation
                self._named_words[key] = self._named(*key)
            named = self._named_words[key]
            profile = torch.from_numpy(self.profile[head])
            control[head] = LabelWeights(profile, words, named)
            kept[head] = LabelWeights(
                profile,
                words,
                {at: NamedWords(each.row, each.word, each.word) for at, each in named.items()},
            )
        return LabelPreserving(kept), LabelPreserving(control)

    def text_instances(
        self, relations: Collection[int], passages: Sequence[int]
    ) -> dict[int, "TextInstances"]:
        """Return the instances of relations in passages, whose places are sequence numbers."""
        instances, edges = self.corpus.instances, self.corpus.token_first
        prepared = {}
        for number in relations:
            links = instances.of(number)
            chosen = np.flatnonzero(np.isin(instances.passage[links.query], passages))
            some = links.take(chosen)
            passage = instances.passage[some.query]
            targets, candidates = links.targets_of(chosen), candidates_of(instances, some).pairs()
            by_sequence = {}
            for place, each in enumerate(passages):
                mine = np.flatnonzero(passage == each)
                if not len(mine):
                    continue
                first, last = instances.passage_first[each : each + 2]
                words = range(int(first), int(last))
                by_sequence[place] = PassageInstances(
                    torch.from_numpy(mine),
                    torch.from_numpy(self.corpus.last_token[some.query[mine]].astype(np.int64)),
                    _table(mine, targets[0], targets[1], words),
                    _table(mine, candidates[0], candidates[1], words),
                    torch.from_numpy(
                        self.corpus.word_of_token[edges[each] : edges[each + 1]].astype(np.int64)
                    ),
                )
            fold = instances.document_fold[passage]
            prepared[number] = TextInstances(by_sequence, np.asarray(fold, dtype=np.int64))
        return prepared

    def _named(self, relations: Sequence[int], passages: Sequence[int]) -> dict[int, NamedWords]:
        """The words that relations name, with their receivers in the control, by the place of the
        passage among ``passages``."""
        instances = self.corpus.instances
        sequence = {passage: place for place, passage in enumerate(passages)}
        triples: defaultdict[int, dict[tuple[int, int], int]] = defaultdict(dict)
        for number in relations:
            links = instances.of(number)
            chosen = np.flatnonzero(np.isin(instances.passage[links.query], passages))
            receivers = control_words(self.corpus, links, chosen)
            for instance, pairs in zip(chosen.tolist(), receivers, strict=True):
                query = int(links.query[instance])
                passage = int(instances.passage[query])
                first = int(instances.passage_first[passage])
                row = int(self.corpus.last_token[query])
                for target, receiver in pairs:
                    moved = receiver - first if receiver >= 0 else NO_RECEIVER
                    triples[sequence[passage]].setdefault((row, target - first), moved)
        return {
            place: NamedWords(
                np.array([row for row, _ in receiver_of], dtype=np.int64),
                np.array([word for _, word in receiver_of], dtype=np.int64),
                np.array(list(receiver_of.values()), dtype=np.int64),
            )
            for place, receiver_of in triples.items()
        }


@dataclass(frozen=True)
class TextInstances:
    """The instances of one relation in some passages."""

    by_sequence: Mapping[int, PassageInstances]
    cluster: NDArray[np.int64]
    """[I]: the document fold of each instance."""


def _table(
    rows: NDArray[np.integer],
    index: NDArray[np.integer],
    word: NDArray[np.integer],
    words: range,
) -> torch.Tensor:
    """[K, W]: whether a word of a passage is paired with each of ``rows`` [K]; the pairs of an
    ``index`` and a ``word`` number may be those of all passages."""
    table = np.zeros((len(rows), len(words)), dtype=np.bool_)
    inside = np.isin(index, rows)
    table[np.searchsorted(rows, index[inside]), word[inside] - words.start] = True
    return torch.from_numpy(table)


def control_words(
    corpus: Corpus, links: RelationInstances, chosen: NDArray[np.integer]
) -> list[list[tuple[int, int]]]:
    """Return, for each of the ``chosen`` instances, its targets with their receivers.

    The receiver of a target is the candidate that is no target and is nearest to it in distance; of
    two equally near ones, that nearer the query. ``NO_RECEIVER`` where there is none.
    """
    some = links.take(chosen)
    index, word = candidates_of(corpus.instances, some).pairs()
    edges = np.searchsorted(index, np.arange(len(chosen) + 1))
    receivers = []
    for place in range(len(chosen)):
        targets = links.targets[some.first[place] : some.stop[place]]
        candidates = word[edges[place] : edges[place + 1]]
        others = candidates[~np.isin(candidates, targets)]
        if not len(others):
            receivers.append([(int(target), NO_RECEIVER) for target in targets])
            continue
        after = np.searchsorted(others, targets)
        later = others[np.minimum(after, len(others) - 1)]
        earlier = others[np.maximum(after - 1, 0)]
        is_later = np.abs(later - targets) <= np.abs(earlier - targets)
        nearest = np.where(is_later, later, earlier)
        receivers.append([(int(a), int(b)) for a, b in zip(targets, nearest, strict=True)])
    return receivers
