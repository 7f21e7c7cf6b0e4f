"""Positions of planted heads, for any seed."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from headprobe.planted.checkpoint import draw_seats, planted_cases
from headprobe.planted.heads import CONTENT, DECAYS, PREVIOUS, SINKS
from headprobe.planted.weights import CheckpointShape

SHAPES = [case.shape for case in planted_cases(0, quick=False)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 10**6))
def test_every_planted_head_has_a_position_where_it_can_work(
    shape: CheckpointShape, seed: int
) -> None:
    seats = draw_seats(shape, Random(seed))  # noqa: S311
    assert sorted(seats) == [(x, y) for x in range(shape.layers) for y in range(shape.heads)]
    names = [plan.name for plan in seats.values()]
    for plan in (*CONTENT.values(), PREVIOUS, *SINKS):
        assert names.count(plan.name) == 1
    assert {plan.name for plan in DECAYS} <= set(names)
    assert names.count("random") >= 1
    repeats = [plan for plan in seats.values() if plan.repeats]
    assert len({plan.repeats for plan in repeats}) == len(repeats) == 2
    (writer,) = [layer for (layer, _), plan in seats.items() if plan.writes == "previous"]
    assert all(layer > writer for (layer, _), plan in seats.items() if plan.key == "previous")
    for layer in range(shape.layers):
        for first in range(0, shape.heads, shape.per_group):
            group = [seats[layer, head] for head in range(first, first + shape.per_group)]
            assert len({plan.key for plan in group} - {""}) <= 1
            assert len({plan.random for plan in group}) == 1
    voices = [plan.direction_seed for plan in seats.values() if not plan.repeats]
    assert len(set(voices)) == len(voices)


def test_positions_differ_between_seeds() -> None:
    drawn = [draw_seats(SHAPES[0], Random(seed)) for seed in range(20)]  # noqa: S311
    places = {seat for seats in drawn for seat, plan in seats.items() if plan.name == "agreement"}
    assert len(places) > 5
