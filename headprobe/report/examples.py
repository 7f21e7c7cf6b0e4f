"""Sentences as evidence: where a head found what it looks for, and where it did not."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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

Example = dict[str, Any]


@dataclass(frozen=True)
class _Asked:
    """The instances of a relation among the example rows: which row [J], query [J], targets;
    ``keys`` names each pair of instance and target by one number, ascending."""

    relation: Relation
    row: Ints
    query: Ints
    targets: tuple[tuple[int, ...], ...]
    keys: Ints


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
        for row in examples(instances, tallies, conduct, verdicts):
            file.write(_visible(encode(row)) + "\n")


def examples(
    instances: Instances, tallies: Tallies, conduct: Conduct, verdicts: Iterable[Verdict]
) -> Iterator[Example]:
    """Per head, for what its claims are about (else its best relation): up to five hits, those with
    most attention on a target first, and up to two misses."""
    asked: dict[_Subject, _Asked] = {}
    text = _Text(instances)
    for verdict in sorted(verdicts, key=lambda verdict: (verdict.layer, verdict.head)):
        for subject in _subjects(verdict, conduct):
            if subject not in asked:
                asked[subject] = _ask(instances, _instances_of(subject, instances, tallies))
            relation = asked[subject].relation
            for found in _choose(text, tallies, asked[subject], verdict):
                named = {
                    "layer": verdict.layer,
                    "head": verdict.head,
                    "name": head_name(verdict.layer, verdict.head),
                    "family": relation.family,
                    "relation": relation_name(relation),
                    "looks_to": relation.looks_to,
                }
                yield named | found


class _Subject(NamedTuple):
    """What examples are about: a relation of the run, or what a role without one looks for (for
    unnamed heads a pair of labels, for positional ones a matter of the head)."""

    relation: int | None
    role: str = ""
    labels: int = -1
    head: tuple[int, int] = (-1, -1)


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
    targets = tuple(tuple(found.targets[found.first[i] : found.stop[i]].tolist()) for i in chosen)
    keys = [i * len(instances.form) + target for i, each in enumerate(targets) for target in each]
    row = order[place[chosen]] if len(shown) else chosen
    return _Asked(found.relation, row, found.query[chosen], targets, np.array(keys, dtype=np.int64))


def _choose(text: "_Text", tallies: Tallies, asked: _Asked, verdict: Verdict) -> Iterator[Example]:
    if not len(asked.row):
        return
    instances = text.instances
    words = tallies["example_word"][asked.row, verdict.layer, verdict.head].astype(np.int64)
    weights = tallies["example_weight"][asked.row, verdict.layer, verdict.head].astype(np.float64)
    start = instances.passage_first[instances.passage[asked.query]]
    numbers = np.where(words > 0, words - 1 + start[:, None], asked.query[:, None])
    keys = np.arange(len(asked.row))[:, None] * len(instances.form) + numbers
    is_target = asked.keys[np.searchsorted(asked.keys, keys).clip(max=len(asked.keys) - 1)] == keys
    is_other = _candidates(instances, asked, numbers) & ~is_target
    on_target = _most(np.where(is_target, weights, 0))
    on_other = _most(np.where(is_other, weights, 0))
    excerpt = partial(_excerpt, text, asked, numbers, weights)
    hits = np.flatnonzero(on_target > on_other)
    for i in _varied(text, asked, hits[np.argsort(-on_target[hits], kind="stable")], HITS):
        yield excerpt(i, hit=True, weight=on_target[i])
    misses = np.flatnonzero((on_other >= on_target) & (on_other > 0))
    for i in _varied(text, asked, misses[np.argsort(-on_other[misses], kind="stable")], MISSES):
        yield excerpt(i, hit=False, weight=on_target[i])


def _most(weights: Any) -> Any:
    """[J]: the largest of [J, S]; along an axis this short numpy's own takes four times as long."""
    return np.maximum.reduce([weights[:, place] for place in range(weights.shape[1])])


def _candidates(instances: Instances, asked: _Asked, numbers: Ints) -> Any:
    """[J, S]: which of the strongest words compete with the targets (METHOD section 2)."""
    relation = asked.relation
    query = asked.query[:, None]
    competing = (numbers < query) & instances.usable[numbers]
    if relation.scope == "sentence":
        competing &= numbers >= instances.sentence_first[query]
    if relation.strict:
        competing &= instances.folded_form[numbers] != instances.folded_form[query]
    return competing


def _varied(text: "_Text", asked: _Asked, ordered: Ints, most: int) -> list[int]:
    """The first ``most`` of ``ordered``, those with a new pair of query and target forms first."""
    seen: set[tuple[int, int]] = set()
    fresh: list[int] = []
    rest: list[int] = []
    for place, i in enumerate(ordered):
        forms = text.folded[asked.query[i]], text.folded[asked.targets[i][-1]]
        (rest if forms in seen else fresh).append(place)
        seen.add(forms)
        if len(fresh) == most:
            break
    return [int(ordered[place]) for place in sorted((fresh + rest)[:most])]


class _Text:
    """What is read of the instances word by word: arrays are slow at that, lists take much room."""

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.forms: list[str] = instances.forms.tolist()
        self.form, self.folded, self.space = (
            memoryview(np.ascontiguousarray(each).data)
            for each in (instances.form, instances.folded_form, instances.space)
        )

    def sentence(self, word: int) -> tuple[int, int]:
        """The first and the last word of the sentence."""
        starts = self.instances.sentence_first
        return int(starts[word]), int(np.searchsorted(starts, starts[word], side="right")) - 1

    def passage(self, word: int) -> tuple[int, int, int]:
        """The passage, its first word, and the first of the next."""
        number = int(self.instances.passage[word])
        low, high = self.instances.passage_first[number : number + 2].tolist()
        return number, low, high


def _excerpt(
    text: _Text,
    asked: _Asked,
    numbers: Ints,
    weights: Any,
    i: int,
    *,
    hit: bool,
    weight: float,
) -> Example:
    """The words around query, targets and attended words; ``gaps`` are the places in ``words``
    before which some were left out (their number: after the last), ``glued`` those without a space
    before them."""
    query = int(asked.query[i])
    pairs = zip(numbers[i].tolist(), weights[i].tolist(), strict=True)
    strongest = sorted(pairs, key=lambda each: -each[1])
    attended = [each for each in strongest if each[1] > 0 and each[0] != query][:ATTENDED]
    passage, low, high = text.passage(query)
    first, last = text.sentence(query)
    kept = set(range(max(first, query - BEFORE), min(last, query + AFTER) + 1))
    for far in [asked.targets[i][-1], *(number for number, _ in attended)]:
        kept.update(range(max(low, far - AROUND), min(high - 1, far + AROUND) + 1))
    shown = sorted(kept)
    place = {number: index for index, number in enumerate(shown)}
    jumps = [j for j in range(1, len(shown)) if shown[j] != shown[j - 1] + 1]
    return {
        "hit": hit,
        "weight": _rounded(weight),
        "passage": str(text.instances.passage_ids[passage]),
        "words": [text.forms[text.form[number]] for number in shown],
        "glued": [j for j, number in enumerate(shown) if j and not text.space[number]],
        "gaps": [0] * int(shown[0] > low) + jumps + [len(shown)] * int(shown[-1] < last),
        "query": place[query],
        "targets": [place[target] for target in asked.targets[i] if target in place],
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
