"""Onsets and ends of a role, and steps that are missing."""

import pytest

from headprobe.analysis.onsets import Event, find_events, irregular_gaps

STEPS = [0, 1, 2, 4, 8]


@pytest.mark.parametrize(
    ("held", "events"),
    [
        ("-----", []),
        ("--+++", [Event("onset", 1, 2)]),
        ("--+-+", [Event("onset", 4, None)]),
        ("-+-++", [Event("onset", 2, 4)]),
        ("++---", [Event("onset", None, 0), Event("end", 1, 2)]),
        ("++-++", [Event("onset", None, 0)]),
        ("++++-", [Event("onset", None, 0), Event("end", 4, None)]),
        ("-++--", [Event("onset", 0, 1), Event("end", 2, 4)]),
        ("+-+-+", [Event("onset", 4, None)]),
    ],
)
def test_events(held: str, events: list[Event]) -> None:
    assert list(find_events(STEPS, [mark == "+" for mark in held])) == events


def test_two_onsets_of_one_role() -> None:
    steps = list(range(8))
    found = find_events(steps, [mark == "+" for mark in "-++--++-"])
    assert [(each.kind, each.after, each.by) for each in found] == [
        ("onset", 0, 1),
        ("end", 2, 3),
        ("onset", 4, 5),
        ("end", 6, None),
    ]


@pytest.mark.parametrize(
    ("steps", "gaps"),
    [
        ([0, 1000, 2000, 3000, 4000], []),
        ([0, 1000, 2000, 4000, 5000, 6000], [(2000, 4000)]),
        ([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 4000], []),
        ([0, 1, 2, 4, 8, 64, 128, 256, 512], [(8, 64)]),
        ([5], []),
        ([], []),
    ],
)
def test_missing_steps(steps: list[int], gaps: list[tuple[int, int]]) -> None:
    assert irregular_gaps(steps) == gaps
