"""Sentences as evidence: where a head found what it looks for, and where it did not."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headprobe.axes import head_name
from headprobe.evidence.conduct import Conduct
from headprobe.evidence.implied import after_copies, earlier_copies, habitual, labelled
from headprobe.evidence.sums import mean_profile
from headprobe.store.instances import Instances, Ints, RelationInstances
from headprobe.store.relation import Relation
from headprobe.store.tallies import Tallies
from headprobe.verdicts.rules import DUPLICATE, INDUCTION, POSITIONAL, UNNAMED
from headprobe.verdicts.verdict import Verdict
from headprobe.verdicts.wording import relation_name

HITS, MISSES = 5, 2
"""Instances shown per head and relation."""

RELATIONS = 3
"""Relations shown per head."""

ATTENDED = 3
"""Attended words shown per instance."""

BEFORE, AFTER, AROUND = 24, 8, 4
"""Words shown before and after the query (within its sentence), and around far words."""

AT_ONCE = 1 << 17
"""Instances by heads that are looked at together."""

Example = dict[str, Any]

_Head = tuple[int, int]


@dataclass(frozen=True)
class _Asked:
    """The instances of a relation among the example rows: which row [J] and query [J], and the
    folded forms of the query and of its nearest target. The ``targets`` [K] of each are those from
    ``first`` [J + 1] on; ``keys`` [K] names each pair of instance and target by one number,
    ascending."""

    relation: Relation
    row: Ints
    query: Ints
    targets: Ints
    first: Ints
    forms: tuple[tuple[int, int], ...]
    keys: Ints


class _Chosen(NamedTuple):
    """The instances [I] of a head that are shown, the first of them ``hits``: the ``weight`` [I] on
    the best target, and the words that the head attends to most with their weights [I, S]."""

    instance: Ints
    hits: int
    weight: Any
    numbers: Ints
    weights: Any


def write_examples(
    path: Path,
    instances: Instances,
    tallies: Tallies,
    conduct: Conduct,
    verdicts: Sequence[Verdict],
) -> None:
    """Write ``examples.jsonl``: one line per head, relation and instance, by layer and head.

    Lines begin with layer and head, by which ``Run.examples`` finds them."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    with path.open("w", encoding="utf-8", newline="\n") as file:
        rows = examples(instances, tallies, conduct, verdicts)
        file.writelines(_visible(encode(row)) + "\n" for row in rows)


def examples(
    instances: Instances, tallies: Tallies, conduct: Conduct, verdicts: Iterable[Verdict]
) -> Iterator[Example]:
    """Per head, for what its claims are about (else its best relation): up to five hits, those with
    most attention on a target first, and up to two misses."""
    subjects = {(each.layer, each.head): _subjects(each, conduct) for each in verdicts}
    heads_of: dict[_Subject, list[_Head]] = defaultdict(list)
    for head, theirs in subjects.items():
        for subject in theirs:
            heads_of[subject].append(head)
    shown: dict[tuple[_Head, _Subject], tuple[_Asked, _Chosen]] = {}
    for subject, heads in heads_of.items():
        asked = _ask(instances, _instances_of(subject, instances, tallies))
        for head, chosen in zip(heads, _choose(instances, tallies, asked, heads), strict=True):
            shown[head, subject] = asked, chosen
    text = _Text(instances)
    for head in sorted(subjects):
        for asked, chosen in (shown[head, subject] for subject in subjects[head]):
            named = {
                "layer": head[0],
                "head": head[1],
                "name": head_name(*head),
                "family": asked.relation.family,
                "relation": relation_name(asked.relation),
                "looks_to": asked.relation.looks_to,
            }
            for place in range(len(chosen.instance)):
                yield named | _excerpt(text, asked, chosen, place)


class _Subject(NamedTuple):
    """What examples are about: a relation of the run, or what a role without one looks for (for
    unnamed heads a pair of labels, for positional ones a matter of the head)."""

    relation: int | None
    role: str = ""
    labels: int = -1
    head: _Head = (-1, -1)


def _subjects(verdict: Verdict, conduct: Conduct) -> list[_Subject]:
    at, subjects = (verdict.layer, verdict.head), []
    for claim in verdict.claims:
        if claim.relation is not None:
            subjects.append(_Subject(claim.relation))
        elif claim.role == UNNAMED:
            pairs = conduct.agreement.turns[at].tolist()
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
        return labelled(instances, UNNAMED, subject.labels)
    if subject.role == POSITIONAL:
        profiles = mean_profile(tallies, "profile").reshape(tallies["profile"].shape)
        return habitual(instances, POSITIONAL, profiles[subject.head])
    looked_for = {DUPLICATE: earlier_copies, INDUCTION: after_copies}
    return looked_for[subject.role](instances, subject.role)


def _ask(instances: Instances, found: RelationInstances) -> _Asked:
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
    return _Asked(found.relation, row, query, targets, first, forms, keys)


def _choose(
    instances: Instances, tallies: Tallies, asked: _Asked, heads: Sequence[_Head]
) -> Iterator[_Chosen]:
    """Of each of some heads: hits, the strongest first, then misses, the clearest first."""
    count = len(asked.row)
    start = instances.passage_first[instances.passage[asked.query]][:, None, None]
    size = max(1, AT_ONCE // max(count, 1))
    for some in (heads[first : first + size] for first in range(0, len(heads), size)):
        place = (asked.row[:, None], *np.array(some).T)
        words = tallies["example_word"][place].astype(np.int64)
        weights = tallies["example_weight"][place].astype(np.float64)
        numbers = np.where(words > 0, words - 1 + start, asked.query[:, None, None])
        keys = np.arange(count)[:, None, None] * len(instances.form) + numbers
        nearby = np.searchsorted(asked.keys, keys).clip(max=len(asked.keys) - 1)
        is_target = asked.keys[nearby] == keys
        is_other = _candidates(instances, asked, numbers) & ~is_target
        on_target = _most(np.where(is_target, weights, 0))
        on_other = _most(np.where(is_other, weights, 0))
        hits, misses = on_target > on_other, (on_other >= on_target) & (on_other > 0)
        by_hit, by_miss = (
            np.argsort(np.where(which, -amount, 1), axis=0, kind="stable").T.tolist()
            for which, amount in ((hits, on_target), (misses, on_other))
        )
        for n, (n_hits, n_misses) in enumerate(zip(hits.sum(0), misses.sum(0), strict=True)):
            best = _varied(asked, by_hit[n][:n_hits], HITS)
            i = np.array(best + _varied(asked, by_miss[n][:n_misses], MISSES), dtype=np.int64)
            yield _Chosen(i, len(best), on_target[i, n], numbers[i, n], weights[i, n])


def _most(weights: Any) -> Any:
    """[J, N]: the largest of [J, N, S]; along an axis so short numpy's own takes four times as
    long."""
    return np.maximum.reduce([weights[..., place] for place in range(weights.shape[-1])])


def _candidates(instances: Instances, asked: _Asked, numbers: Ints) -> Any:
    """[J, N, S]: which of the strongest words compete with the targets (METHOD section 2)."""
    relation = asked.relation
    query = asked.query[:, None, None]
    competing = (numbers < query) & instances.usable[numbers]
    if relation.scope == "sentence":
        competing &= numbers >= instances.sentence_first[query]
    if relation.strict:
        competing &= instances.folded_form[numbers] != instances.folded_form[query]
    return competing


def _varied(asked: _Asked, ordered: Sequence[int], most: int) -> list[int]:
    """The first ``most`` of ``ordered``, those with a new pair of query and target forms first."""
    seen: set[tuple[int, int]] = set()
    fresh: list[int] = []
    rest: list[int] = []
    for place, i in enumerate(ordered):
        (rest if asked.forms[i] in seen else fresh).append(place)
        seen.add(asked.forms[i])
        if len(fresh) == most:
            break
    return [ordered[place] for place in sorted((fresh + rest)[:most])]


class _Text:
    """What is read of the instances word by word: arrays are slow at that, lists take much room."""

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.forms: list[str] = instances.forms.tolist()
        self.form, self.space = (
            memoryview(np.ascontiguousarray(each).data)
            for each in (instances.form, instances.space)
        )
        self._around: dict[int, tuple[int, int, int, int, int]] = {}

    def around(self, word: int) -> tuple[int, int, int, int, int]:
        """The first and the last word of the sentence, the passage, its first word, and the first
        of the next."""
        if word not in self._around:
            starts, passage = self.instances.sentence_first, int(self.instances.passage[word])
            last = int(np.searchsorted(starts, starts[word], side="right")) - 1
            low, high = self.instances.passage_first[passage : passage + 2].tolist()
            self._around[word] = int(starts[word]), last, passage, low, high
        return self._around[word]


def _excerpt(text: _Text, asked: _Asked, chosen: _Chosen, number: int) -> Example:
    """The words around query, targets and attended words; ``gaps`` are the places in ``words``
    before which some were left out (their number: after the last), ``glued`` those without a space
    before them."""
    i = int(chosen.instance[number])
    query, targets = int(asked.query[i]), asked.targets[slice(*asked.first[i : i + 2])].tolist()
    pairs = zip(chosen.numbers[number].tolist(), chosen.weights[number].tolist(), strict=True)
    strongest = sorted(pairs, key=lambda each: -each[1])
    attended = [each for each in strongest if each[1] > 0 and each[0] != query][:ATTENDED]
    first, last, passage, low, high = text.around(query)
    kept = set(range(max(first, query - BEFORE), min(last, query + AFTER) + 1))
    for far in [targets[-1], *(number for number, _ in attended)]:
        kept.update(range(max(low, far - AROUND), min(high - 1, far + AROUND) + 1))
    shown = sorted(kept)
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
        "attended": [[place[number], _rounded(amount)] for number, amount in attended],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


_UNSEEN = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def _visible(line: str) -> str:
    """JSON with characters that hide or reorder text as escapes; reading gives them back."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
