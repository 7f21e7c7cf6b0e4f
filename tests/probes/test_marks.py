"""The one list of marks."""

import pytest

from headprobe.probes.relations import MARKS, mark_class, marks_by_class


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (".", "stop"), ("...", "stop"), ("?!", "stop"), ("…", "stop"), ("。", "stop"),
        ("؟", "stop"),
        (",", "comma"), ("，", "comma"), ("、", "comma"), ("،", "comma"),
        ('"', "quote"), ("'", "quote"), ("``", "quote"), ("«", "quote"), ("「", "quote"),
        ("(", "bracket"), ("）", "bracket"), ("]", "bracket"), (").", "bracket"),
        (":", "other"), ("-", "other"), ("–", "other"), (";", "other"),
        ("；", "other"), ("؛", "other"),
        ("♥", "other"), ("", "other"), ("x.", "stop"),
    ],
)  # fmt: skip
def test_a_mark_is_of_the_class_of_its_first_listed_character(form, name):
    assert mark_class(form) == name


def test_each_character_is_listed_once():
    characters = "".join(MARKS.values())
    assert len(set(characters)) == len(characters)
    assert not any(character.isalnum() or character.isspace() for character in characters)


def test_the_list_can_be_printed_whole():
    printed = dict(marks_by_class())
    assert list(printed) == ["stop", "comma", "quote", "bracket", "other"]
    assert {name: "".join(line.split(" ")) for name, line in printed.items()} == dict(MARKS)
