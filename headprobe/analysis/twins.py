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

from headprobe.runs.instances import Instances, RelationInstances
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


def separate_twins(instances: Instances, tallies: Tallies) -> TextSums:
    """Take twins out of instances and sums.

    An instance without a twin gets its own hits as ``swap``: it shows nothing about the head's
    knowledge of meaning, so it counts against it.
    """
    text = instances.text
    counts = {"R": len(text.relations), "I": int(text.first_instance[-1])}
    shortened = {
        name: array[: counts[AXES[name][0]]] if AXES[name][:1] in counts else array
        for name, array in tallies.arrays.items()
    }
    swap = {}
    for number, relation in enumerate(text.relations):
        twin = replace(relation, twin=True)
        if twin in instances.relations:
            own = _rows(instances, number)
            of_twin = _rows(instances, instances.relations.index(twin))
            chosen = np.arange(own.start, own.stop)
            place, twin_place = _pair(instances, text.of(number), twin)
            if len(place):
                chosen[place] = of_twin.start + twin_place
                swap[number] = tallies["hits"][chosen]
    return TextSums(text, Tallies(shortened), swap)


def _rows(instances: Instances, relation: int) -> slice:
    """The rows of a relation's instances in the array ``hits``."""
    return slice(*instances.first_instance[relation : relation + 2].tolist())


def _pair(
    instances: Instances, own: RelationInstances, relation: object
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of instances that have a twin, and of these twins among those of ``relation``."""
    twins = instances.of([*instances.relations].index(relation))  # type: ignore[arg-type]
    # Words of a twin stand at the places of the passage's own words
    passage = instances.passage[twins.query]
    shift = (
        instances.passage_first[passage]
        - instances.passage_first[instances.passage_original[passage]]
    )
    place_of = {
        (query, target): place
        for place, (query, target) in enumerate(
            zip(own.query.tolist(), own.targets[own.first].tolist(), strict=True)
        )
    }
    first_targets = twins.targets[twins.first] - shift
    pairs = [
        (place_of[key], place)
        for place, key in enumerate(
            zip((twins.query - shift).tolist(), first_targets.tolist(), strict=True)
        )
        if key in place_of
    ]
    return tuple(np.array(pairs, dtype=np.int64).reshape(-1, 2).T)  # type: ignore[return-value]
