"""What needs no model: the rules that a head must beat (METHOD section 3).

Each gives hits [I] paired with the instances of a relation: 1 where the rule finds a target, 0
where it does not, a fraction where it is torn between several words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from headprobe.evidence.arrays import Floats, Ints
from headprobe.evidence.candidates import Candidates, candidates_of
from headprobe.store.categories import number_deprels
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

    def hits_of(self, chosen: Ints) -> Floats:
        """[I]: 1 where the word ``chosen`` [I] is a target; a negative number is none."""
        found = self.asked.targets == chosen[self.asked.instance_of_target]
        return self.per_instance(found.astype(np.float64))

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


def nearest_mention(question: Question) -> Baseline | None:
    """The nearest candidate that heads a mention which ends before the query; None where no
    instance has one, as when the probes mark no mentions."""
    ends = np.asarray(question.instances.mention_end, dtype=np.int64)
    return _where_any(question, question.candidates.nearest(ends >= 0, ends))


def same_form(question: Question) -> Baseline:
    """The nearest candidate of the query's own lower-cased form."""
    form, usable = question.instances.folded_form, question.instances.usable
    members = np.flatnonzero(usable)
    members = members[np.argsort(form[members], kind="stable")]
    alike = form[members[1:]] == form[members[:-1]]
    before = np.full(len(form), -1, dtype=np.int64)
    before[members[1:][alike]] = members[:-1][alike]
    chosen = before[question.candidates.query]
    rival = question.candidates.contain(np.maximum(chosen, 0)) & (chosen >= 0)
    return Baseline(question.hits_of(np.where(rival, chosen, -1)))


def last_subject(question: Question) -> Baseline | None:
    """The nearest candidate that is a nominal subject; None where no instance has one, as when the
    probes say nothing of syntax."""
    subjects = question.instances.deprel == number_deprels(["nsubj"])[0]
    return _where_any(question, question.candidates.nearest(subjects))


def _where_any(question: Question, chosen: Ints) -> Baseline | None:
    return Baseline(question.hits_of(chosen)) if (chosen >= 0).any() else None


Rule = Callable[[Question], Baseline | None]

BASELINES: Mapping[str, Rule] = MappingProxyType(
    {"offset": offset, "start": start, "chance": chance, "uniform": uniform}
)
"""The rules that are the same for all heads, in the order in which equally good ones are named."""

BASELINES_OF_FAMILY: Mapping[str, Mapping[str, Rule]] = MappingProxyType(
    {
        "coreference": MappingProxyType(
            {
                "nearest_mention": nearest_mention,
                "same_form": same_form,
                "last_subject": last_subject,
            }
        )
    }
)
"""More such rules, which only the relations of one family must beat."""


def _best_value(question: Question, of_targets: NDArray[np.integer]) -> tuple[Floats, int]:
    """Hits [I] of always choosing the word with one value, and the best such value: the one that
    most instances have among the values of their targets [K]; negative ones do not count."""
    valid = of_targets >= 0
    if not valid.any():
        return np.zeros(len(question.asked)), 0
    best = int(np.bincount(of_targets[valid]).argmax())
    return question.per_instance((of_targets == best).astype(np.float64)), best
