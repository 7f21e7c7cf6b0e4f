"""Hostile parts of scans: shards, and the saved states of interrupted scans."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.hostile import spoil
from tests.hostile.driver import OUT, Attack, Case, Workplace, assert_promise
from tests.hostile.spoil import Damage

MERGE = ("merge", "parts", "-q")
SHARD = "parts.shard-2-of-2"


def shard_file(name: str, damage: Damage, shard: str = SHARD) -> Attack:
    """Damage one file of a shard, then merge the shards."""

    def attack(workplace: Workplace) -> Sequence[str]:
        damage(workplace.shards().with_name(shard) / name)
        return MERGE

    return attack


def state(damage: Damage) -> Attack:
    """Damage the saved state of an interrupted scan, then resume it."""

    def attack(workplace: Workplace) -> Sequence[str]:
        workplace.interrupted()
        damage(workplace.here / f".{OUT}.unfinished" / "checkpoint.npz")
        return ("scan", "--resume", OUT, "-q")

    return attack


def note(raw: str) -> Attack:
    """Replace the note of a saved state."""
    return state(spoil.array("note", lambda _: np.array(raw)))


def note_values(**changes: object) -> Attack:
    """Change values of the note of a saved state."""

    def damage(path: Path) -> None:
        with np.load(path) as archive:
            spare = path.with_suffix(".json")
            spare.write_text(str(archive["note"]))
        spoil.json_values(**changes)(spare)
        raw = spare.read_text()
        spare.unlink()
        spoil.array("note", lambda _: np.array(raw))(path)

    return state(damage)


def missing_shard(workplace: Workplace) -> Sequence[str]:
    folder = workplace.shards().with_name(SHARD)
    return ("merge", str(folder.with_name("parts.shard-1-of-2").relative_to(workplace.here)), "-q")


def twice_the_same_shard(workplace: Workplace) -> Sequence[str]:
    workplace.shards()
    return ("merge", SHARD, SHARD, "-q")


SHARDS = [
    Case("shard: missing", missing_shard, "missing"),
    Case("shard: named twice", twice_the_same_shard, "both"),
    Case("shard note: {}", shard_file("shard.json", spoil.content("{}")), "shard.json"),
    Case("shard note: nested", shard_file("shard.json", spoil.nested), "shard.json"),
    Case("shard note: a pipe", shard_file("shard.json", spoil.fifo), "shard.json"),
    Case("shard note: beyond the count", shard_file("shard.json", spoil.json_values(index=7))),
    Case("shard note: below zero", shard_file("shard.json", spoil.json_values(index=-1))),
    Case("shard note: of none", shard_file("shard.json", spoil.json_values(count=0))),
    Case("shard note: of 10**9", shard_file("shard.json", spoil.json_values(count=10**9))),
    Case("shard note: terms in a list", shard_file("shard.json", spoil.json_values(terms=[]))),
    Case("shard note: another seed",
         shard_file("shard.json", spoil.json_values(terms__zork="1")), "differs"),
    Case("shard note: an unknown control",
         shard_file("shard.json", spoil.json_values(controls={"zork": "1"}), "parts.shard-1-of-2")),
    Case("shard note: a control that only one has",
         shard_file("shard.json", spoil.json_values(controls={"twin": "1"}), "parts.shard-1-of-2")),
    Case("shard draft: missing", shard_file("draft.json", spoil.remove), "draft.json"),
    Case("shard draft: other heads",
         shard_file("draft.json", spoil.json_values(model__n_heads=8))),
    Case("shard sums: missing", shard_file("tallies.npz", spoil.remove), "tallies.npz"),
    Case("shard sums: of other layers",
         shard_file("tallies.npz", spoil.array("sink", lambda a: a[:1])), "tallies.npz"),
    Case("shard sums: NaN", shard_file("tallies.npz", spoil.entry("sink", 0, np.nan))),
    Case("shard tokens: too few",
         shard_file("tokens.json", spoil.content('["a"]'), "parts.shard-1-of-2")),
    Case("shard tokens: numbers",
         shard_file("tokens.json", spoil.content("[1, 2]"), "parts.shard-1-of-2"), "tokens.json"),
    Case("shard rules: missing",
         shard_file("rules.yaml", spoil.remove, "parts.shard-1-of-2"), "rules.yaml"),
    Case("shard instances: missing",
         shard_file("instances.npz", spoil.remove, "parts.shard-1-of-2"), "instances.npz"),
]  # fmt: skip

SAVED_SUM = "OutputStatistic_square."
SAVED = [
    Case("saved note: {", note("{")),
    Case("saved note: []", note("[]")),
    Case("saved note: {}", note("{}")),
    Case("saved note: nested", note("[" * 100_000)),
    Case("saved note: 5,000 digits", note("9" * 5000)),
    Case("saved note: missing", state(spoil.without("note"))),
    Case("saved note: a number", state(spoil.array("note", lambda _: np.arange(3)))),
    Case("saved note: pickled", state(spoil.member("note.npy", spoil.pickled("planted")))),
    Case("saved note: another folder", note_values(folder="/elsewhere"), "/elsewhere"),
    Case("saved note: resumed in words", note_values(resumed="twice")),
    Case("saved note: resumed below zero", note_values(resumed=-4)),
    Case("saved note: a start that is no time", note_values(started="noon")),
    Case("saved note: seconds of text", note_values(seconds={"read": "x"})),
    Case("saved note: terms of a list", note_values(terms=["the seed"])),
    Case("saved note: another seed", note_values(request__seed=5), "differs"),
    Case("saved note: another run", note_values(request__out="elsewhere")),
    Case("saved note: an option of the wrong type", note_values(request__budget="x")),
    Case("saved note: an option too many", note_values(request__trust_remote_code=True)),
    Case("saved note: another version",
         note_values(**{"terms__the version of headprobe": "0.0.1"}), "0.0.1"),
    Case("saved state: truncated", state(spoil.cut(0.7))),
    Case("saved state: a pipe", state(spoil.fifo)),
    Case("saved state: a folder", state(spoil.folder)),
    Case("saved state: no sums", state(spoil.without(SAVED_SUM))),
    Case("saved state: sums of another shape", state(spoil.array(SAVED_SUM, lambda a: a[:1]))),
    Case("saved state: sums of text", state(spoil.array(SAVED_SUM, lambda a: a.astype(str)))),
    Case("saved state: sums of NaN", state(spoil.entry(SAVED_SUM, 0, np.nan))),
    Case("saved state: passages of another number",
         state(spoil.array("passages", lambda a: a[:-1]))),
    Case("saved state: sequences of another number",
         state(spoil.array("sequences", lambda a: a[:-1]))),
    Case("saved state: limits below zero",
         state(spoil.array("limits", lambda a: np.array(str(a).replace(": ", ": -"))))),
    Case("saved state: limits in words",
         state(spoil.array("limits", lambda a: np.array(str(a).replace(": ", ': "x", "y": '))))),
    Case("saved state: limits of other names",
         state(spoil.array("limits", lambda _: np.array('{"zork": 1}')))),
    Case("saved state: limits that are nested",
         state(spoil.array("limits", lambda _: np.array("[" * 100_000)))),
    Case("saved state: bits that are infinite",
         state(spoil.array("bits", lambda a: a * np.inf))),
]  # fmt: skip

CASES = SHARDS + SAVED


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_parts(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)
