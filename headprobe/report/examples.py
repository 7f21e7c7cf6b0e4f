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
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in examples(instances, tallies, conduct, verdicts):
            file.write(_visible(json.dumps(row, ensure_ascii=False)) + "\n")


def examples(
    instances: Instances, tallies: Tallies, conduct: Conduct, verdicts: Iterable[Verdict]
) -> Iterator[Example]:
    """Per head, for what its claims are about (else its best relation): up to five hits, those with
    most attention on a target first, and up to two misses."""
    asked: dict[_Subject, _Asked] = {}
    for verdict in sorted(verdicts, key=lambda verdict: (verdict.layer, verdict.head)):
        for subject in _subjects(verdict, conduct):
            if subject not in asked:
                asked[subject] = _ask(instances, _instances_of(subject, instances, tallies))
            relation = asked[subject].relation
            for found in _choose(instances, tallies, asked[subject], verdict):
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
    targets = tuple(
        tuple(found.targets[found.first[i] : found.first[i + 1]].tolist()) for i in chosen
    )
    keys = [i * len(instances.form) + target for i, each in enumerate(targets) for target in each]
    row = order[place[chosen]] if len(shown) else chosen
    return _Asked(found.relation, row, found.query[chosen], targets, np.array(keys, dtype=np.int64))


def _choose(
    instances: Instances, tallies: Tallies, asked: _Asked, verdict: Verdict
) -> Iterator[Example]:
    if not len(asked.row):
        return
    words = tallies["example_word"][asked.row, verdict.layer, verdict.head].astype(np.int64)
    weights = tallies["example_weight"][asked.row, verdict.layer, verdict.head].astype(np.float64)
    start = instances.passage_first[instances.passage[asked.query]]
    numbers = np.where(words > 0, words - 1 + start[:, None], asked.query[:, None])
    keys = np.arange(len(asked.row))[:, None] * len(instances.form) + numbers
    is_target = asked.keys[np.searchsorted(asked.keys, keys).clip(max=len(asked.keys) - 1)] == keys
    is_other = _candidates(instances, asked, numbers) & ~is_target
    on_target = np.where(is_target, weights, 0).max(axis=1, initial=0)
    on_other = np.where(is_other, weights, 0).max(axis=1, initial=0)
    excerpt = partial(_excerpt, instances, asked, numbers, weights)
    hits = np.flatnonzero(on_target > on_other)
    for i in _varied(instances, asked, hits[np.argsort(-on_target[hits], kind="stable")], HITS):
        yield excerpt(i, hit=True, weight=on_target[i])
    misses = np.flatnonzero((on_other >= on_target) & (on_other > 0))
    for i in _varied(
        instances, asked, misses[np.argsort(-on_other[misses], kind="stable")], MISSES
    ):
        yield excerpt(i, hit=False, weight=on_target[i])


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


def _varied(instances: Instances, asked: _Asked, ordered: Ints, most: int) -> list[int]:
    """The first ``most`` of ``ordered``, those with a new pair of query and target forms first."""
    seen: set[tuple[int, ...]] = set()
    fresh: list[int] = []
    rest: list[int] = []
    for i in ordered.tolist():
        forms = instances.folded_form[[asked.query[i], asked.targets[i][-1]]]
        (rest if tuple(forms) in seen else fresh).append(i)
        seen.add(tuple(forms))
        if len(fresh) == most:
            break
    chosen = (fresh + rest)[:most]
    return sorted(chosen, key=ordered.tolist().index)


def _excerpt(
    instances: Instances,
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
    strongest = np.argsort(-weights[i], kind="stable")
    attended = [
        (int(numbers[i, s]), float(weights[i, s]))
        for s in strongest
        if weights[i, s] > 0 and numbers[i, s] != query
    ][:ATTENDED]
    passage = int(instances.passage[query])
    low, high = instances.passage_first[passage], instances.passage_first[passage + 1]
    sentence = np.flatnonzero(instances.sentence_first[low:high] == instances.sentence_first[query])
    first, last = low + sentence[0], low + sentence[-1]
    kept = set(range(max(first, query - BEFORE), min(last, query + AFTER) + 1))
    nearest = asked.targets[i][-1]
    for far in [nearest, *(number for number, _ in attended)]:
        kept |= set(range(max(low, far - AROUND), min(high - 1, far + AROUND) + 1))
    shown = sorted(kept)
    place = {number: index for index, number in enumerate(shown)}
    jumps = [j for j in range(1, len(shown)) if shown[j] != shown[j - 1] + 1]
    return {
        "hit": hit,
        "weight": _rounded(weight),
        "passage": str(instances.passage_ids[passage]),
        "words": instances.forms[instances.form[shown]].tolist(),
        "glued": [int(j) for j in np.flatnonzero(~instances.space[shown]) if j],
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
