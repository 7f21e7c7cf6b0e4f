"""Example sentences for each head: hits and misses of the relations behind its roles.

The scan keeps the strongest attention of each head on a sample of words, the example rows. Roles
that need no relation (``positional``, ``duplicate-token``, ``induction``, ``unnamed``) get
instances here that describe what such a head attends to. These instances are shown and never
counted.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headprobe.analysis.behaviour import BehaviourEvidence
from headprobe.analysis.candidates import Candidates
from headprobe.analysis.distance_control import distance_choices
from headprobe.analysis.evidence import mean_profile
from headprobe.arrays import Bools, Floats, Ints
from headprobe.format import relation_name
from headprobe.roles.verdict import Verdict
from headprobe.runs.instances import (
    PAIRS,
    Instances,
    Integers,
    RelationInstances,
    split_by_count,
)
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import (
    DEPRELS,
    DUPLICATE,
    INDUCTION,
    POSITIONAL,
    UNNAMED,
    Relation,
    head_name,
)


def earlier_copies(instances: Instances, role: str) -> RelationInstances:
    """Return instances whose targets are the earlier words of the query's lower-cased form."""
    form = instances.folded_form
    relation = Relation(role, "a word", "its earlier copy")
    return _example_instances(instances, relation, lambda query, words: form[words] == form[query])


def after_copies(instances: Instances, role: str) -> RelationInstances:
    """Return instances whose targets are the words after the query's earlier copies."""
    form = instances.folded_form

    def follows(query: Ints, words: Ints) -> Bools:
        return np.asarray((instances.place[words] > 0) & (form[words - 1] == form[query]))

    return _example_instances(
        instances, Relation(role, "a word", "the word after its earlier copy"), follows
    )


def label_pair_instances(instances: Instances, role: str, pair: int) -> RelationInstances:
    """Return instances that link words of a deprel pair (``vocabulary``): first label to second."""
    query_label, target_label = divmod(pair, len(DEPRELS))
    deprel = instances.deprel
    relation = Relation(role, DEPRELS[query_label] or "others", DEPRELS[target_label] or "others")
    return _example_instances(
        instances,
        relation,
        lambda query, words: (deprel[words] == target_label) & (deprel[query] == query_label),
    )


def usual_distance_instances(instances: Instances, role: str, profile: Floats) -> RelationInstances:
    """Return instances whose target is the word that a head would choose by distance alone.

    ``profile`` [D] is the head's mean attention per word distance.
    """
    rows = _example_candidates(instances)
    chosen = np.full(len(instances.form), -1, dtype=np.int64)
    chosen[rows.query] = rows.query - distance_choices(rows, profile[None])["habit"][:, 0]
    relation = Relation(role, "a word", "the word at its usual distance")
    return _example_instances(instances, relation, lambda query, words: words == chosen[query])


def _example_candidates(instances: Instances) -> Candidates:
    """The usable earlier words of the passage, for each example row."""
    query = np.unique(instances.example_words).astype(np.int64)
    return Candidates(instances, query, "passage", "any")


def _example_instances(
    instances: Instances, relation: Relation, is_target: Callable[[Ints, Ints], Bools]
) -> RelationInstances:
    """Instances of the example rows that have a target among their candidates.

    ``is_target`` returns which pairs of a query [K] and a candidate [K] are links.
    """
    queries, targets = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    every = _example_candidates(instances)
    for some in split_by_count(every.words_before, PAIRS):
        rows = Candidates(instances, every.query[some], every.scope, every.rule)
        index, words = rows.pairs()
        linked = is_target(rows.query[index], words)
        queries.append(rows.query[index[linked]])
        targets.append(words[linked])
    query, counts = np.unique(np.concatenate(queries), return_counts=True)
    edges = np.concatenate([[0], np.cumsum(counts)])
    return RelationInstances(relation, query, edges[:-1], edges[1:], np.concatenate(targets))


HITS, MISSES, SAME_FORMS = 5, 2, 1
"""Numbers of instances shown per head and relation: hits, misses, and instances where an antecedent
of the query's own form, which a strict relation leaves out, gets the most attention."""

RELATIONS = 3
"""Number of relations shown per head."""

ATTENDED = 3
"""Number of attended words shown per instance."""

BEFORE, AFTER, AROUND = 24, 8, 4
"""Numbers of words shown before and after the query, in its sentence, and around far words."""

MAX_TOGETHER = 1 << 17
"""Largest number of instances times heads in one block, to bound memory."""

Example = dict[str, Any]

_Head = tuple[int, int]


@dataclass(frozen=True)
class _ShownInstances:
    """The instances of a relation among the example rows."""

    relation: Relation
    row: Integers
    """[J]: the example row of each instance."""
    query: Integers
    """[J]: its query word."""
    targets: Integers
    """[K]: the targets of all instances."""
    first: Integers
    """[J + 1]: where the targets of each instance begin in ``targets``."""
    forms: tuple[tuple[int, int], ...]
    """[J]: folded forms of the query and of its nearest target."""
    keys: Integers
    """[K]: instance times number of words plus target, ascending."""
    left_out: Integers
    """Keys of the targets that the relation would also have if it were not strict, ascending."""

    def left_out_of(self, instance: int, words: int) -> list[int]:
        """Words left out of one instance's targets; ``words`` is the number of words of the run."""
        low, high = np.searchsorted(self.left_out, [instance * words, (instance + 1) * words])
        return [int(key) - instance * words for key in self.left_out[low:high]]


class _ChosenExamples(NamedTuple):
    """The instances that are shown for one head and relation."""

    instance: Integers
    """[I]: indices into ``_ShownInstances``."""
    hits: int
    """The first ``hits`` of them are hits."""
    weight: Any
    """[I]: weight of the target with the most attention."""
    numbers: Integers
    """[I, S]: the words that the head attends to most."""
    weights: Any
    """[I, S]: their weights."""


def write_examples(
    path: Path,
    instances: Instances,
    tallies: Tallies,
    behaviour: BehaviourEvidence,
    verdicts: Sequence[Verdict],
) -> None:
    """Write ``examples.jsonl``: one line per head, relation and instance, by layer and head.

    Lines begin with layer and head, so that ``Run.examples`` reads those of one head quickly.
    """
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with path.open("w", encoding="utf-8", newline="\n") as file:
        rows = examples(instances, tallies, behaviour, verdicts)
        file.writelines(_visible(encode(row)) + "\n" for row in rows)


def examples(
    instances: Instances,
    tallies: Tallies,
    behaviour: BehaviourEvidence,
    verdicts: Iterable[Verdict],
) -> Iterator[Example]:
    """Yield the examples of each head, for its claims or else for its best relation.

    Of each there are up to five hits, highest weight on a target first, and up to two misses.
    """
    subjects = {(each.layer, each.head): _subjects(each, behaviour) for each in verdicts}
    heads_of: dict[_Subject, list[_Head]] = defaultdict(list)
    for head, theirs in subjects.items():
        for subject in theirs:
            heads_of[subject].append(head)
    shown: dict[tuple[_Head, _Subject], tuple[_ShownInstances, _ChosenExamples]] = {}
    for subject, heads in heads_of.items():
        available = _shown_instances(instances, _instances_of(subject, instances, tallies))
        for head, chosen in zip(heads, _choose(instances, tallies, available, heads), strict=True):
            shown[head, subject] = available, chosen
    text = _Text(instances)
    for head in sorted(subjects):
        for available, chosen in (shown[head, subject] for subject in subjects[head]):
            relation = available.relation
            header = {
                "layer": head[0],
                "head": head[1],
                "name": head_name(*head),
                "family": relation.family,
                "relation": relation_name(relation),
                "looks_to": relation.looks_to,
            }
            for place in range(len(chosen.instance)):
                yield header | _excerpt(text, available, chosen, place)


class _Subject(NamedTuple):
    """What examples illustrate: a relation of the run, or a role that needs no relation."""

    relation: int | None
    """Index of the relation; None for a role."""
    role: str = ""
    labels: int = -1
    """The deprel pair of an unnamed head."""
    head: _Head = (-1, -1)
    """The positional head, whose distance profile gives the targets."""


def _subjects(verdict: Verdict, behaviour: BehaviourEvidence) -> list[_Subject]:
    at, subjects = (verdict.layer, verdict.head), []
    for claim in verdict.claims:
        if claim.relation is not None:
            subjects.append(_Subject(claim.relation))
        elif claim.role == UNNAMED:
            pairs = behaviour.agreement.top_pairs[at].tolist()
            subjects += [_Subject(None, UNNAMED, labels=pair) for pair in pairs if pair >= 0]
        elif claim.role == POSITIONAL:
            subjects.append(_Subject(None, POSITIONAL, head=at))
        else:
            subjects.append(_Subject(None, claim.role))
    if not subjects and verdict.best_relation is not None:
        subjects = [_Subject(verdict.best_relation)]
    return list(dict.fromkeys(subjects))[:RELATIONS]


def _instances_of(subject: _Subject, instances: Instances, tallies: Tallies) -> RelationInstances:
    if subject.relation is not None:
        return instances.of(subject.relation)
    if subject.role == UNNAMED:
        return label_pair_instances(instances, UNNAMED, subject.labels)
    if subject.role == POSITIONAL:
        profiles = mean_profile(tallies, "profile").reshape(tallies["profile"].shape)
        return usual_distance_instances(instances, POSITIONAL, profiles[subject.head])
    copying = {DUPLICATE: earlier_copies, INDUCTION: after_copies}
    return copying[subject.role](instances, subject.role)


def _shown_instances(instances: Instances, found: RelationInstances) -> _ShownInstances:
    shown = instances.example_words
    order = np.argsort(shown, kind="stable")
    place = np.searchsorted(shown[order], found.query)
    place = np.minimum(place, max(len(shown) - 1, 0))
    is_shown = shown[order][place] == found.query if len(shown) else np.zeros(len(found), bool)
    chosen = np.flatnonzero(is_shown)
    query, form = found.query[chosen], instances.folded_form
    of, targets = found.targets_of(chosen)
    nearest = form[found.nearest[chosen]] if len(chosen) else chosen
    forms = tuple(zip(form[query].tolist(), nearest.tolist(), strict=True))
    row = order[place[chosen]] if len(shown) else chosen
    first = np.searchsorted(of, np.arange(len(chosen) + 1))
    keys = of * len(instances.form) + targets
    left_out = _left_out(instances, found.relation, query)
    return _ShownInstances(found.relation, row, query, targets, first, forms, keys, left_out)


def _left_out(instances: Instances, relation: Relation, query: Integers) -> Integers:
    """Keys of the targets that a strict relation leaves out for each ``query`` [J], ascending.

    These words have the query's own form. Other relations leave out none.
    """
    name = relation.name.removesuffix("-strict")
    numbers = [
        number
        for number, other in enumerate(instances.judged_relations)
        if relation.strict and not other.strict and other.family == relation.family
        if other.name == name and other.looks_to == relation.looks_to
    ]
    size, form = len(instances.form), instances.folded_form
    words: dict[int, set[int]] = defaultdict(set)
    asking = set(query.tolist())
    for number in numbers:
        found = instances.of(number)
        chosen = np.flatnonzero(np.isin(found.query, list(asking)))
        of, targets = found.targets_of(chosen)
        own = form[targets] == form[found.query[chosen][of]]
        for word, target in zip(found.query[chosen][of][own], targets[own], strict=True):
            words[int(word)].add(int(target))
    keys = [j * size + word for j, asks in enumerate(query.tolist()) for word in words[asks]]
    return np.array(sorted(keys), dtype=np.int64)


def _choose(
    instances: Instances, tallies: Tallies, available: _ShownInstances, heads: Sequence[_Head]
) -> Iterator[_ChosenExamples]:
    """Choose the examples of each head: hits and misses, highest weights first."""
    count = len(available.row)
    relation, query = available.relation, available.query.astype(np.int64)
    candidates = Candidates(instances, query, relation.scope, relation.candidates)
    start = instances.passage_first[instances.passage[available.query]][:, None, None]
    size = max(1, MAX_TOGETHER // max(count, 1))
    for some in (heads[first : first + size] for first in range(0, len(heads), size)):
        place = (available.row[:, None], *np.array(some).T)
        words = tallies["example_word"][place].astype(np.int64)
        weights = tallies["example_weight"][place].astype(np.float64)
        numbers = np.where(words > 0, words - 1 + start, available.query[:, None, None])
        keys = np.arange(count)[:, None, None] * len(instances.form) + numbers
        is_target = _among(keys, available.keys)
        is_other = candidates.contain(numbers) & ~is_target
        on_target = _most(np.where(is_target, weights, 0))
        on_other = _most(np.where(is_other, weights, 0))
        is_query = numbers == available.query[:, None, None]
        on_any = _most(np.where(is_query, 0, weights))
        on_left_out = _most(np.where(_among(keys, available.left_out), weights, 0))
        hits, missed = on_target > on_other, (on_other >= on_target) & (on_other > 0)
        same_form = ~hits & (on_left_out > 0) & (on_left_out >= on_any)
        groups = (
            (hits, on_target, HITS),
            (missed & ~same_form, on_other, MISSES),
            (same_form, on_left_out, SAME_FORMS),
        )
        ordered = [
            (np.argsort(np.where(which, -amount, 1), axis=0, kind="stable").T, which.sum(0), most)
            for which, amount, most in groups
        ]
        for n in range(len(some)):
            shown = [
                _varied(available, order[n][: count[n]].tolist(), most)
                for order, count, most in ordered
            ]
            i = np.array([each for group in shown for each in group], dtype=np.int64)
            yield _ChosenExamples(i, len(shown[0]), on_target[i, n], numbers[i, n], weights[i, n])


def _among(keys: Integers, known: Integers) -> Any:
    """Return which of ``keys`` are in ``known`` (ascending)."""
    if not len(known):
        return np.zeros(keys.shape, dtype=np.bool_)
    return known[np.searchsorted(known, keys).clip(max=len(known) - 1)] == keys


def _most(weights: Any) -> Any:
    """[J, N]: maximum of [J, N, S]; along so short an axis, ``max`` takes four times as long."""
    return np.maximum.reduce([weights[..., place] for place in range(weights.shape[-1])])


def _varied(available: _ShownInstances, ordered: Sequence[int], most: int) -> list[int]:
    """Choose ``most`` of ``ordered``, preferring new pairs of query and target forms."""
    seen: set[tuple[int, int]] = set()
    fresh: list[int] = []
    rest: list[int] = []
    for place, i in enumerate(ordered):
        (rest if available.forms[i] in seen else fresh).append(place)
        seen.add(available.forms[i])
        if len(fresh) == most:
            break
    return [ordered[place] for place in sorted((fresh + rest)[:most])]


class _Text:
    """Reads words of the instances one at a time; memoryviews are faster than arrays for that, and
    smaller than lists."""

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.forms: list[str] = instances.forms.tolist()
        self.form, self.space = (
            memoryview(np.ascontiguousarray(each).data)
            for each in (instances.form, instances.space)
        )
        self._around: dict[int, tuple[int, int, int, int]] = {}

    def around(self, word: int) -> tuple[int, int, int, int]:
        """Return the first and last word of the sentence, the passage, and its first word."""
        if word not in self._around:
            starts, passage = self.instances.sentence_first, int(self.instances.passage[word])
            last = int(np.searchsorted(starts, starts[word], side="right")) - 1
            low = int(self.instances.passage_first[passage])
            self._around[word] = int(starts[word]), last, passage, low
        return self._around[word]


def _excerpt(
    text: _Text, available: _ShownInstances, chosen: _ChosenExamples, number: int
) -> Example:
    """Return one example: the words around the query, its targets and the attended words.

    All other values are places in ``words``. ``gaps``: words are omitted before this place, or
    after the last word; ``glued``: no space precedes the word; ``expected``: the target that a miss
    should have attended to; ``same_form``: antecedents that a strict relation leaves out.
    """
    i = int(chosen.instance[number])
    query, targets = (
        int(available.query[i]),
        available.targets[slice(*available.first[i : i + 2])].tolist(),
    )
    pairs = zip(chosen.numbers[number].tolist(), chosen.weights[number].tolist(), strict=True)
    strongest = sorted(pairs, key=lambda each: -each[1])
    attended = [each for each in strongest if each[1] > 0 and each[0] != query][:ATTENDED]
    first, last, passage, low = text.around(query)
    visible = set(range(max(first, query - BEFORE), min(last, query + AFTER) + 1))
    expected = _expected(text.instances, available.relation, targets)
    for far in [expected, *(number for number, _ in attended)]:
        # Nothing after the query's sentence: the text would seem to end there.
        visible.update(range(max(low, far - AROUND), min(last, far + AROUND) + 1))
    shown = sorted(visible)
    place = {number: index for index, number in enumerate(shown)}
    jumps = [j for j in range(1, len(shown)) if shown[j] != shown[j - 1] + 1]
    return {
        "hit": number < chosen.hits,
        "weight": _rounded(chosen.weight[number]),
        "passage": str(text.instances.passage_ids[passage]),
        "words": [text.forms[text.form[number]] for number in shown],
        "glued": [j for j, number in enumerate(shown) if j and not text.space[number]],
        "gaps": [0] * int(shown[0] > low) + jumps + [len(shown)] * int(shown[-1] < last),
        "query": place[query],
        "targets": [place[target] for target in targets if target in place],
        "expected": place[expected],
        "same_form": [
            place[word]
            for word in available.left_out_of(i, len(text.instances.form))
            if word in place
        ],
        "attended": [[place[number], _rounded(amount)] for number, amount in attended],
    }


def _expected(instances: Instances, relation: Relation, targets: Sequence[int]) -> int:
    """Return the nearest target; for a mention, its head word, which need not be its last word.

    The targets of coreference are all words of earlier mentions. The last group of adjacent targets
    is the nearest mention. Its head is the first word of the group that heads a mention ending with
    the group (mentions inside it, "[the king]'s son", end earlier); without a declared head, the
    last word counts (docs/method.md, Relations).
    """
    last = targets[-1]
    if relation.family != "coreference":
        return last
    first = last
    while first - 1 in targets:
        first -= 1
    ends = instances.mention_end[first : last + 1].tolist()
    return next((first + place for place, end in enumerate(ends) if end == last), last)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


_UNSEEN = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def _visible(line: str) -> str:
    """Escape the characters of a JSON line that hide or reorder text."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
