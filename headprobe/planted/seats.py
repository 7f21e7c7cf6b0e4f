"""Who sits where: plans on random seats, so that no role ever depends on an index."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random

from headprobe.planted.heads import CONTENT, DECAYS, PREVIOUS, RANDOM, SINKS, Plan, repeated
from headprobe.planted.weights import Shape

Seat = tuple[int, int]
"""Layer and head."""

RESCALED = 1.6
"""How much louder the second repeater is."""

_BLIND = (PREVIOUS, *DECAYS, *SINKS)
_SINK_SHARE = 1 / 3
_ATTEMPTS = 1000


def draw_seats(shape: Shape, rng: Random) -> Mapping[Seat, Plan]:
    """A plan for every seat: each content head, two repeaters of different ones, each head that is
    blind to content, and random heads in the groups that are left.

    The heads of a key/value group share one feature: those that look for it, their repeaters, and
    blind ones. At most a third of a layer sleeps, because idle means quiet beside the layer's
    median head; who reads what another head writes sits in a later layer.
    """
    for _ in range(_ATTEMPTS):
        seats = _attempt(shape, rng)
        if seats and _fits(shape, seats):
            return _voiced(seats)
    raise ValueError(f"{shape} has no room for the planted heads")


def _attempt(shape: Shape, rng: Random) -> dict[Seat, Plan]:
    first, second = rng.sample(sorted(CONTENT), 2)
    sharing = [*CONTENT.values(), repeated(CONTENT[first], 1), repeated(CONTENT[second], RESCALED)]
    groups = [(layer, group) for layer in range(shape.layers) for group in range(shape.groups)]
    rng.shuffle(groups)
    members: dict[tuple[int, int], list[Plan]] = {}
    for plan in sharing:
        room = [
            group
            for group, found in members.items()
            if found[0].key == plan.key and len(found) < shape.per_group
        ]
        free = [group for group in groups if group not in members]
        if not room and not free:
            return {}
        # a repeater beside its original as often as in a group of its own
        chosen = rng.choice(room) if room and (not free or rng.random() < 0.5) else free[0]
        members.setdefault(chosen, []).append(plan)
    blind = rng.sample(_BLIND, len(_BLIND))
    for found in members.values():
        while len(found) < shape.per_group:
            found.append(blind.pop() if blind else rng.choice(DECAYS))
    for group in groups:
        if group not in members:
            some, blind = blind[: shape.per_group], blind[shape.per_group :]
            some += rng.choices(DECAYS, k=shape.per_group - len(some)) if some else []
            members[group] = some or [RANDOM] * shape.per_group
    if blind:
        return {}
    return {
        (layer, group * shape.per_group + place): plan
        for (layer, group), found in members.items()
        for place, plan in enumerate(rng.sample(found, len(found)))
    }


def _fits(shape: Shape, seats: Mapping[Seat, Plan]) -> bool:
    writer = [layer for (layer, _), plan in seats.items() if plan.writes == "previous"]
    readers = [layer for (layer, _), plan in seats.items() if plan.key == "previous"]
    asleep = Counter(layer for (layer, _), plan in seats.items() if plan.sink and not plan.key)
    return (
        RANDOM in seats.values()
        and max(writer) < min(readers)
        and max(asleep.values()) <= shape.heads * _SINK_SHARE
    )


def _voiced(seats: Mapping[Seat, Plan]) -> dict[Seat, Plan]:
    """Each head writes in a direction of its own, but repeaters in their original's."""
    names = sorted(CONTENT)
    return {
        (layer, head): replace(
            plan,
            voice=names.index(plan.repeats or plan.name)
            if plan.key
            else len(names) + layer * 1000 + head,
        )
        for (layer, head), plan in seats.items()
    }
