"""The one list of punctuation marks can be read."""

import json

import pytest

from headprobe.cli import main as command_line
from headprobe.probes.relations import MARKS, mark_class


def test_probes_marks_prints_the_classes_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.run(["probes", "marks", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == list(MARKS)
    for name, characters in printed.items():
        assert characters
        assert {mark_class(character) for character in characters} == {name}
    assert command_line.run(["probes", "marks"]) == 0
    page = capsys.readouterr().out
    assert all(name in page for name in MARKS)
    assert "\x1b" not in page
