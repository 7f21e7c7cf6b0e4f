"""What needs no model: the rules that a head must beat (METHOD section 3).

Each gives hits [I] paired with the instances of a relation: 1 where the rule finds a target, 0
where it does not, a fraction where it is torn between several words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from headprobe.evidence.arrays import Floats
from headprobe.evidence.candidates import Candidates, candidates_of
from headprobe.store.instances import Instances, RelationInstances


@dataclass(frozen=True)
class Baseline:
    """``hits`` [I] of a rule on the instances of a relation, and in words what the rule chose."""

    hits: Floats
    choice: str = ""


@dataclass(frozen=True)
class Question:
    """A relation's instances, at least one, with their candidates [I]."""

    instances: Instances
    asked: RelationInstances
    candidates: Candidates

    def per_instance(self, of_targets: Floats | None = None) -> Floats:
        """[I]: each instance's sum of ``of_targets`` [K]; without it, how many targets it has."""
        return np.bincount(
            self.asked.instance_of_target, weights=of_targets, minlength=len(self.asked)
        ).astype(np.float64)


def question_of(instances: Instances, asked: RelationInstances) -> Question:
    return Question(instances, asked, candidates_of(instances, asked))


def offset(question: Question) -> Baseline:
    """The best single distance in words of the passage; of equally good ones, the nearest."""
    asked = question.asked
    distance = asked.query[asked.instance_of_target] - asked.targets
    hits, best = _best_value(question, distance)
    return Baseline(hits, str(best))


def start(question: Question) -> Baseline:
    """The best single word counted from the start of the passage or of the query's sentence; of
    equally good ones the earlier word, and the passage before the sentence."""
    instances, asked = question.instances, question.asked
    place = instances.place[asked.targets]
    of_passage, in_passage = _best_value(question, place)
    query = asked.query[asked.instance_of_target]
    in_sentence = asked.targets - instances.sentence_first[query]
    of_sentence, place_in_sentence = _best_value(question, in_sentence)
    if of_sentence.sum() > of_passage.sum():
        return Baseline(of_sentence, f"word {place_in_sentence + 1} of the sentence")
    return Baseline(of_passage, f"word {in_passage + 1} of the passage")


def chance(question: Question) -> Baseline:
    """One candidate drawn blindly: targets / candidates."""
    everything = np.ones_like(question.instances.usable)
    return Baseline(question.per_instance() / question.candidates.count(everything))


def uniform(question: Question) -> Baseline:
    """Attention spread evenly over tokens: the candidate with most tokens wins, ties are split."""
    tokens = question.instances.tokens
    rivals = np.zeros(len(question.asked), dtype=np.int64)
    most = np.zeros(len(question.asked), dtype=np.int64)
    for number in np.unique(tokens)[::-1]:
        count = question.candidates.count(tokens == number)
        decided = (rivals == 0) & (count > 0)
        rivals[decided], most[decided] = count[decided], number
        if rivals.all():
            break
    at_most = tokens[question.asked.targets] == most[question.asked.instance_of_target]
    return Baseline(question.per_instance(at_most.astype(np.float64)) / rivals)


BASELINES: Mapping[str, Callable[[Question], Baseline]] = MappingProxyType(
    {"offset": offset, "start": start, "chance": chance, "uniform": uniform}
)
"""The rules that are the same for all heads, in the order in which equally good ones are named."""


def _best_value(question: Question, of_targets: NDArray[np.integer]) -> tuple[Floats, int]:
    """Hits [I] of always choosing the word with one value, and the best such value: the one that
    most instances have among the values of their targets [K]; negative ones do not count."""
    valid = of_targets >= 0
    if not valid.any():
        return np.zeros(len(question.asked)), 0
    best = int(np.bincount(of_targets[valid]).argmax())
    return question.per_instance((of_targets == best).astype(np.float64)), best
