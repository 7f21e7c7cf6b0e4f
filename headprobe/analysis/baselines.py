"""What needs no model: the rules that a head must beat (METHOD section 3).

Each gives hits [I] paired with the instances of a relation: 1 where the rule finds a target, 0
where it does not, a fraction where it is torn between several words.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.candidates import Candidates, candidates_of
from headprobe.analysis.evidence import Floats, Ints
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.vocabulary import number_deprels


@dataclass(frozen=True)
class Baseline:
    """``hits`` [I] of a rule on the instances of a relation, and in words what the rule chose."""

    hits: Floats
    choice: str = ""


@dataclass(frozen=True)
class BaselineInput:
    """A relation's instances, at least one, with their candidates [I]."""

    instances: Instances
    links: RelationInstances
    candidates: Candidates

    def hits_of(self, chosen: NDArray[np.integer]) -> Floats:
        """[I]: 1 where the word ``chosen`` [I] is a target; a negative number is none."""
        return self.links.contain(chosen).astype(np.float64)


def baseline_input(instances: Instances, links: RelationInstances) -> BaselineInput:
    return BaselineInput(instances, links, candidates_of(instances, links))


def offset(question: BaselineInput) -> Baseline:
    """The best single distance in words of the passage; of equally good ones, the nearest."""
    query = question.candidates.query
    best, _ = _most_frequent(question, (query[of] - words for of, words in question.links.pairs()))
    return Baseline(question.hits_of(query - best), str(best))


def start(question: BaselineInput) -> Baseline:
    """The best single word counted from the start of the passage or of the query's sentence; of
    equally good ones the earlier word, and the passage before the sentence."""
    instances, links = question.instances, question.links
    starts = {
        "passage": instances.passage_first[instances.passage[links.query]],
        "sentence": instances.sentence_first[links.query],
    }
    found: dict[str, tuple[int, int, NDArray[np.integer]]] = {}
    for scope, first in starts.items():
        inside = replace(links, first=links.places(first))
        places = (words - first[of] for of, words in inside.pairs())
        found[scope] = *_most_frequent(question, places), first
    scope = max(found, key=lambda scope: found[scope][1])
    best, _, first = found[scope]
    return Baseline(question.hits_of(first + best), f"word {best + 1} of the {scope}")


def chance(question: BaselineInput) -> Baseline:
    """One candidate drawn blindly: targets / candidates."""
    return Baseline((question.links.stop - question.links.first) / question.candidates.count())


def uniform(question: BaselineInput) -> Baseline:
    """Attention spread evenly over tokens: the candidate with most tokens wins, ties are split."""
    links, tokens = question.links, question.instances.tokens
    most, rivals = _longest_by_number(question) if links.relation.strict else _longest(question)
    hits = np.zeros(len(links))
    for of, words in links.pairs():
        found = np.bincount(of - of[0], weights=tokens[words] == most[of])
        hits[of[0] : of[0] + len(found)] += found
    return Baseline(hits / rivals)


def _longest(question: BaselineInput) -> tuple[Ints, Ints]:
    """[I] each: the tokens of the longest candidates, and how many have so many.

    Both run along the words of a scope: where a longer word comes, the count begins anew.
    """
    instances = question.instances
    every = Candidates(instances, np.arange(len(instances.form)), question.candidates.scope, False)
    tokens = np.where(instances.usable, instances.tokens, 0).astype(np.int64)
    base = every.scope_first * (tokens.max() + 1)
    most = np.maximum.accumulate(base + tokens)
    counted = np.cumsum(base + tokens == most)
    rises = np.diff(most, prepend=-1) > 0
    before = np.maximum.accumulate(np.where(rises, counted - 1, 0))
    last = question.candidates.query - 1
    return (most - base)[last], (counted - before)[last]


def _longest_by_number(question: BaselineInput) -> tuple[Ints, Ints]:
    """``_longest`` where some words of the scope are no candidates."""
    tokens = question.instances.tokens
    rivals, most = np.zeros((2, len(question.links)), dtype=np.int64)
    for number in np.unique(tokens)[::-1]:
        count = question.candidates.count(tokens == number)
        decided = (rivals == 0) & (count > 0)
        rivals[decided], most[decided] = count[decided], number
        if rivals.all():
            break
    return most, rivals


def nearest_mention(question: BaselineInput) -> Baseline | None:
    """The nearest candidate that heads a mention which ends before the query; None where no
    instance has one, as when the probes mark no mentions."""
    ends = np.asarray(question.instances.mention_end, dtype=np.int64)
    return _where_any(question, question.candidates.nearest(ends >= 0, ends))


def same_form(question: BaselineInput) -> Baseline:
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


def last_subject(question: BaselineInput) -> Baseline | None:
    """The nearest candidate that is a nominal subject; None where no instance has one, as when the
    probes say nothing of syntax."""
    subjects = question.instances.deprel == number_deprels(["nsubj"])[0]
    return _where_any(question, question.candidates.nearest(subjects))


def _where_any(question: BaselineInput, chosen: Ints) -> Baseline | None:
    return Baseline(question.hits_of(chosen)) if (chosen >= 0).any() else None


Rule = Callable[[BaselineInput], Baseline | None]

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


def _most_frequent(question: BaselineInput, values: Iterable[Ints]) -> tuple[int, int]:
    """Of the ``values`` of targets, none as large as the longest passage, the one that most have,
    and how many."""
    longest = int(np.diff(question.instances.passage_first).max())
    counts = np.zeros(longest, dtype=np.int64)
    for some in values:
        counts += np.bincount(some, minlength=longest)
    return int(counts.argmax()), int(counts.max())
