"""Baselines that need no model: the rules that every head must beat.

Each rule returns hits [I], paired with the instances of a relation: 1 where the rule chooses a
target, 0 where it does not, and a fraction where it is undecided between several words. See
``docs/method.md``, "Baselines". The baselines computed from a head itself are in
``distance_control``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.candidates import Candidates, candidates_of
from headprobe.arrays import Floats, Ints
from headprobe.runs.instances import Instances, RelationInstances
from headprobe.vocabulary import number_deprels


@dataclass(frozen=True)
class Baseline:
    """The result of a rule on the instances of a relation."""

    hits: Floats
    """[I]: 1 for a hit, 0 for a miss, a fraction for a tie."""
    choice: str = ""
    """What the rule chose, in words; empty if it has nothing to choose."""


@dataclass(frozen=True)
class BaselineInput:
    """What a rule reads: a relation's instances, at least one, and their candidates."""

    instances: Instances
    """The words of the run."""
    links: RelationInstances
    """The instances of the relation."""
    candidates: Candidates
    """The candidates of each instance [I]."""

    def hits_of(self, chosen: NDArray[np.integer]) -> Floats:
        """Return 1 where the word ``chosen`` [I] is a target, else 0; negative numbers miss."""
        return self.links.contain(chosen).astype(np.float64)


def baseline_input(instances: Instances, links: RelationInstances) -> BaselineInput:
    """Collect what the rules read of a relation with at least one instance."""
    return BaselineInput(instances, links, candidates_of(instances, links))


def offset(inputs: BaselineInput) -> Baseline:
    """The best fixed distance in words of the passage; the nearest of equally good ones.

    The baseline of Clark et al. 2019 and Voita et al. 2019.
    """
    query = inputs.candidates.query
    distances = (query[index] - words for index, words in inputs.links.pairs())
    best, _ = _most_frequent(inputs, distances)
    return Baseline(inputs.hits_of(query - best), str(best))


def start(inputs: BaselineInput) -> Baseline:
    """The best fixed position, counted from the start of the passage or of the query's sentence.

    Among equally good positions the earlier one counts, and the passage before the sentence.
    """
    instances, links = inputs.instances, inputs.links
    starts = {
        "passage": instances.passage_first[instances.passage[links.query]],
        "sentence": instances.sentence_first[links.query],
    }
    best_of: dict[str, tuple[int, int, NDArray[np.integer]]] = {}
    for scope, first in starts.items():
        inside = replace(links, first=links.places(first))
        positions = (words - first[index] for index, words in inside.pairs())
        best_of[scope] = *_most_frequent(inputs, positions), first
    scope = max(best_of, key=lambda scope: best_of[scope][1])
    best, _, first = best_of[scope]
    return Baseline(inputs.hits_of(first + best), f"word {best + 1} of the {scope}")


def chance(inputs: BaselineInput) -> Baseline:
    """A random candidate: number of targets / number of candidates."""
    return Baseline((inputs.links.stop - inputs.links.first) / inputs.candidates.count())


def uniform(inputs: BaselineInput) -> Baseline:
    """Attention spread evenly over tokens: the candidate with the most tokens wins.

    A tie counts as the share of the tied candidates that are targets.
    """
    links, tokens = inputs.links, inputs.instances.tokens
    most, tied = inputs.candidates.longest()
    hits = np.zeros(len(links))
    for index, words in links.pairs():
        longest_targets = np.bincount(index - index[0], weights=tokens[words] == most[index])
        hits[index[0] : index[0] + len(longest_targets)] += longest_targets
    return Baseline(hits / tied)


def nearest_mention(inputs: BaselineInput) -> Baseline | None:
    """The nearest candidate that heads a mention which ends before the query.

    None if no instance has one, as when the probes mark no mentions.
    """
    ends = np.asarray(inputs.instances.mention_end, dtype=np.int64)
    return _if_any(inputs, inputs.candidates.nearest(ends >= 0, ends))


def same_form(inputs: BaselineInput) -> Baseline:
    """The nearest candidate of the query's own lower-cased form."""
    form, usable = inputs.instances.folded_form, inputs.instances.usable
    # The previous usable word of the same form, for every word: neighbours when sorted by form.
    words = np.flatnonzero(usable)
    words = words[np.argsort(form[words], kind="stable")]
    same = form[words[1:]] == form[words[:-1]]
    previous = np.full(len(form), -1, dtype=np.int64)
    previous[words[1:][same]] = words[:-1][same]
    chosen = previous[inputs.candidates.query]
    is_candidate = inputs.candidates.contain(np.maximum(chosen, 0)) & (chosen >= 0)
    return Baseline(inputs.hits_of(np.where(is_candidate, chosen, -1)))


def last_subject(inputs: BaselineInput) -> Baseline | None:
    """The nearest candidate that is a nominal subject.

    None if no instance has one, as when the probes have no syntax.
    """
    subjects = inputs.instances.deprel == number_deprels(["nsubj"])[0]
    return _if_any(inputs, inputs.candidates.nearest(subjects))


def _if_any(inputs: BaselineInput, chosen: Ints) -> Baseline | None:
    """The hits of ``chosen`` [I], or None if no instance has a choice."""
    return Baseline(inputs.hits_of(chosen)) if (chosen >= 0).any() else None


Rule = Callable[[BaselineInput], Baseline | None]

BASELINES: Mapping[str, Rule] = MappingProxyType(
    {"offset": offset, "start": start, "chance": chance, "uniform": uniform}
)
"""Rules for every relation. The first of equally good ones is named."""

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
"""Further rules, which only the relations of one family must beat."""


def _most_frequent(inputs: BaselineInput, values: Iterable[Ints]) -> tuple[int, int]:
    """The most frequent of ``values`` and its count; the smallest of equally frequent ones.

    All values are below the length of the longest passage.
    """
    longest = int(np.diff(inputs.instances.passage_first).max())
    counts = np.zeros(longest, dtype=np.int64)
    for some in values:
        counts += np.bincount(some, minlength=longest)
    return int(counts.argmax()), int(counts.max())
