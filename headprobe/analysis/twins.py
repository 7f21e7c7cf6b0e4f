"""Twins of passages: taken out of a run's sums, and their hits as the baseline ``swap``.

The twin of a passage has an unrelated word at the place of each target of a semantic relation. A
head that hits that word in the twin as well did not need the meaning of the target
(docs/method.md, "Baselines"). Twins, their words and their relations come last in ``Instances``, so
they are taken out by shortening arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headprobe.arrays import Ints
from headprobe.runs.instances import DECLARED, Instances, RelationInstances
from headprobe.runs.sums import AXES, Tallies

Packed = NDArray[np.uint8]


@dataclass(frozen=True)
class TextSums:
    """The sums of a run without twins, and the hits in twins."""

    instances: Instances
    tallies: Tallies

    swap: Mapping[int, Packed]
    """Relation -> packed hits [I, Z] on the unrelated word, for each instance of the relation.
    Relations of which no instance has a twin are missing."""


def without_twins(instances: Instances) -> Instances:
    """Return the part of a run without twins of passages."""
    passages = instances.text_passages
    if passages == len(instances.passage_ids):
        return instances
    words = int(instances.passage_first[passages])
    links = int(np.searchsorted(instances.link_query, words))
    relations = tuple(relation for relation in instances.relations if not relation.twin)
    targets = int(instances.link_first[links])
    sizes = (len(relations), passages, passages + 1, words, links, links + 1, targets)
    lengths = dict(zip("RPpWJjT", sizes, strict=True))
    arrays = {
        name: getattr(instances, name)[: lengths[declared.axes[0]]]
        for name, declared in DECLARED.items()
        if declared.axes[0] in lengths
    }
    return replace(instances, **{**arrays, "relations": relations})


def separate_twins(instances: Instances, tallies: Tallies) -> TextSums:
    """Take twins out of instances and sums.

    An instance without a twin gets its own hits as ``swap``: it shows nothing about the head's
    knowledge of meaning, so it counts against it.
    """
    text = without_twins(instances)
    counts = {"R": len(text.relations), "I": int(text.first_instance[-1])}
    shortened = {
        name: array[: counts[AXES[name][0]]] if AXES[name][:1] in counts else array
        for name, array in tallies.arrays.items()
    }
    swap = {}
    for number, relation in enumerate(text.relations):
        twin = replace(relation, twin=True)
        if twin in instances.relations:
            other = instances.relations.index(twin)
            place, twin_place = _pair(instances, instances.of(number), instances.of(other))
            rows = instances.numbers(number)
            rows[place] = instances.numbers(other)[twin_place]
            swap[number] = tallies["hits"][rows]
    return TextSums(text, Tallies(shortened), swap)


def _pair(
    instances: Instances, own: RelationInstances, twins: RelationInstances
) -> tuple[Ints, Ints]:
    """The places of instances that have a twin, and the places of these twins."""
    # Words of a twin stand at the places of the passage's own words
    passage = instances.passage[twins.query]
    first = instances.passage_first
    shift = first[passage] - first[instances.passage_original[passage]]
    place_of = {key: place for place, key in enumerate(_keys(own, 0))}
    pairs = [
        (place_of[key], place) for place, key in enumerate(_keys(twins, shift)) if key in place_of
    ]
    places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return places[:, 0], places[:, 1]


def _keys(links: RelationInstances, shift: Ints | int) -> list[tuple[int, int]]:
    """The query and the first target of each instance, as words of the passage itself."""
    first_target = links.targets[links.first] - shift
    return list(zip((links.query - shift).tolist(), first_target.tolist(), strict=True))
