"""Hostile rules files."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from tests.hostile import spoil
from tests.hostile.driver import OUT, Attack, Case, Workplace, assert_promise
from tests.hostile.spoil import Damage

BOMB = "\n".join(
    ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    + [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in pairwise("abcdefghi")]
)
"""About 300 bytes that expand to a billion values."""


def rules(raw: bytes | str) -> Attack:
    """A scan by a rules file with this content."""
    return file(spoil.content(raw))


def file(damage: Damage) -> Attack:
    """A scan by a damaged rules file."""

    def attack(workplace: Workplace) -> Sequence[str]:
        path = workplace.here / "rules.yaml"
        path.write_text("margin: 0.2\n")
        damage(path)
        return workplace.scan("--rules", "rules.yaml")

    return attack


def judged(raw: str) -> Attack:
    """The same for ``judge``."""

    def attack(workplace: Workplace) -> Sequence[str]:
        workplace.run()
        (workplace.here / "rules.yaml").write_text(raw)
        return ("judge", "run", "--rules", "rules.yaml", "-o", OUT, "-q")

    return attack


CASES = [
    Case(name, rules(raw))
    for name, raw in {
        "empty": "",
        "a list": "[1, 2]",
        "a number": "7",
        "text": "margin 0.2",
        "null": "~",
        "aliases that expand to gigabytes": BOMB,
        "an alias of itself": "margin: &a [*a]",
        "an anchor": "margin: &a 0.2",
        "a tag of Python": "margin: !!python/object/apply:os.mkdir [planted]",
        "a tag of a number that is a word": "margin: !!int abc",
        "a tag of a float that is a word": "margin: !!float abc",
        "a tag of a truth that is none": "margin: !!bool x",
        "a tag of bytes": "margin: !!binary abc",
        "a set": "margin: !!set {a, b}",
        "a tag of its own": "margin: !zork 1",
        "a date that is none": "margin: 2026-13-45",
        "a date": "margin: 2026-11-28",
        "a time": "margin: 12:30:45",
        "an integer of 400 digits": f"margin: {'9' * 400}",
        "an integer of 5,000 digits": f"min_n: {'9' * 5000}",
        "a hexadecimal of 5,000 digits": f"min_n: 0x{'f' * 5000}",
        "a number of base 60": f"min_n: {':'.join(['1'] + ['59'] * 3000)}",
        "infinity": "margin: .inf",
        "not a number": "margin: .nan",
        "below zero": "margin: -0.1",
        "a fraction of a count": "min_n: 2.5",
        "a truth as number": "margin: true",
        "text as number": "margin: '0.2'",
        "a list as number": "margin: [0.2]",
        "a group as number": "margin: {a: 1}",
        "a number as group": "idle: 3",
        "a number as role": "roles: {mine: 3}",
        "nested 2,000 deep": "margin: " + "[" * 2000 + "]" * 2000,
        "nested mappings": "\n".join(" " * n + "a:" for n in range(2000)),
        "a key twice": "margin: 0.1\nmargin: 0.2",
        "a key that is a list": "? [1, 2]\n: 3",
        "a key that is a number": "17: 3",
        "a key that is null": "~: 3",
        "a key of 100,000 letters": f"{'m' * 100_000}: 1",
        "an unknown rule": "margim: 0.2",
        "an unknown rule of a group": "idle: {zork: 1}",
        "two documents": "margin: 0.1\n---\nmargin: 0.2",
        "an open bracket": "margin: [0.1",
        "a tab as indentation": "idle:\n\toutput_norm: 0.1",
        "a control character": "margin: 0.1 # \x07",
        "a confidence of one": "confidence: 1",
        "a power of zero": "power: 0",
        "a reserved role": "roles: {redundant: {family: user}}",
        "a role without a name": "roles: {'': {family: user}}",
        "a role with a separator": "roles: {'a;b': {family: user}}",
        "a role that is a number": "roles: {3: {family: user}}",
        "a role of 41 letters": f"roles: {{{'r' * 41}: {{family: user}}}}",
        "a role with an escape": 'roles: {"\\e[31m": {family: user}}',
        "a role without a family": "roles: {mine: {relation: obj}}",
        "a role that beats nothing known": "roles: {mine: {family: user, beats: luck}}",
        "a role of an unknown key": "roles: {mine: {family: user, zork: 1}}",
        "a role whose strict is a word": "roles: {mine: {family: user, strict: 'no'}}",
        "a value of 100,000 letters": f"margin: {'m' * 100_000}",
        "a directive": "%YAML 9.9\n---\nmargin: 0.1",
    }.items()
]
CASES += [
    Case("not UTF-8", rules(b"margin: 0.1 # \xff\n")),
    Case("UTF-16", rules("margin: 0.1".encode("utf-16"))),
    Case("two mebibytes", rules("# comment\n" * 200_000)),
    Case("missing", file(spoil.remove)),
    Case("a pipe", file(spoil.fifo)),
    Case("a folder", file(spoil.folder)),
    Case("a terabyte", file(spoil.sparse)),
    Case("a device without end", file(spoil.link("/dev/zero"))),
    Case("a link to itself", file(spoil.link("rules.yaml"))),
    Case("judge by aliases", judged(BOMB)),
    Case("judge by a reserved role", judged("roles: {mixed: {family: user}}")),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_rules(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)
