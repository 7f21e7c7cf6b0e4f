"""The suite is as large as docs/reliability.md says, and no case is there twice."""

from importlib import import_module

import pytest

from tests.hostile.driver import Case

KINDS = (
    *("checkpoints", "tokenizers", "probes", "rules", "run_folder", "parts"),
    *("command_line", "environment"),
)


def cases(kind: str) -> list[Case]:
    listed: list[Case] = import_module(f"tests.hostile.test_{kind}").CASES
    return listed


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_have_enough_distinct_cases(kind: str) -> None:
    names = [case.name for case in cases(kind)]
    assert len(names) >= 25
    assert len(set(names)) == len(names)


def test_there_are_enough_cases() -> None:
    assert sum(len(cases(kind)) for kind in KINDS) >= 400
