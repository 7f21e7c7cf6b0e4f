"""Hostile probe files."""

from collections.abc import Callable

import pytest

from tests.hostile.driver import Attack, Case, Workplace, assert_promise

Content = bytes | str | Callable[[Workplace], None]


def probes(name: str, content: bytes | str) -> Attack:
    """A scan of a probe file with this name and content."""
    raw = content.encode() if isinstance(content, str) else content

    def attack(workplace: Workplace) -> list[str]:
        (workplace.here / name).write_bytes(raw)
        return workplace.scan(probes=name)

    return attack


def conllu(*rows: str) -> Attack:
    """A scan of a CoNLL-U file with these rows, columns separated by spaces."""
    return probes("p.conllu", "\n".join(row.replace(" ", "\t") for row in rows) + "\n\n")


CASES = [
    Case("latin-1", probes("p.conllu", b"1\tcaf\xe9\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n"), "UTF-8"),
    Case("a row of three columns", conllu("1 dog dog"), "3 columns"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_probes(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)
