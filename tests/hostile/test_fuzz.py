"""Random damage to every file that is read: one line or success, and nothing is left behind.

Each reader gets a few examples, or as many as the variable ``HEADPROBE_FUZZ`` says.
"""

import itertools
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.driver import OUT, Outcome, Workplace, assert_refused, run_here, snapshot

EXAMPLES = int(os.environ.get("HEADPROBE_FUZZ", "4"))

READERS = {
    "run/manifest.json": ("show", "run"),
    "run/heads.csv": ("show", "run"),
    "run/relations.csv": ("show", "run"),
    "run/rules.yaml": ("show", "run"),
    "run/skipped.csv": ("judge", "run", "-o", OUT, "-q"),
    "run/tallies.npz": ("judge", "run", "-o", OUT, "-q"),
    "run/instances.npz": ("judge", "run", "-o", OUT, "-q"),
    "run/shuffled.npz": ("judge", "run", "-o", OUT, "-q"),
    "run/power.csv": ("export", "run", "--csv", OUT, "-q"),
    "parts.shard-1-of-2/shard.json": ("merge", "parts", "-o", OUT, "-q"),
    "parts.shard-1-of-2/draft.json": ("merge", "parts", "-o", OUT, "-q"),
    "parts.shard-1-of-2/tokens.json": ("merge", "parts", "-o", OUT, "-q"),
    f".{OUT}.unfinished/checkpoint.npz": ("scan", "--resume", OUT, "-q"),
    "probes.conllu": ("probes", "show", "probes.conllu"),
    "rules.yaml": ("judge", "run", "--rules", "rules.yaml", "-o", OUT, "-q"),
    "set.yaml": ("probes", "show", "set.yaml"),
}
"""The file that is damaged, and the command that reads it."""

OWN = {
    "rules.yaml": "margin: 0.2\nidle:\n  output_norm: 0.1\nroles:\n  mine: {family: user}\n",
    "set.yaml": "- text: It slept, the dog.\n  relation: pronoun\n  link: dog -> It\n",
}
"""Files that no scan writes."""

EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.integers(0, 8),
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"\x00", b"\xff\xff\xff\xff", b"NaN", b"-1", b"9" * 30, b"[", b'"']),
        ),
    ),
    min_size=1,
    max_size=4,
)
"""Where in the file, how many bytes are replaced, and by what."""


def apply(edits: list[tuple[float, int, bytes]], path: Path) -> None:
    raw = path.read_bytes()
    for share, length, new in edits:
        start = int(share * len(raw))
        raw = raw[:start] + new + raw[start + length :]
    path.write_bytes(raw)


@pytest.mark.parametrize("name", READERS)
def test_random_damage(name: str, workplace: Workplace) -> None:
    numbers, root = itertools.count(), workplace.here

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="HEADPROBE_FUZZ" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(EDITS)
    def damaged(edits: list[tuple[float, int, bytes]]) -> None:
        workplace.here = root / str(next(numbers))
        workplace.here.mkdir()
        os.chdir(workplace.here)
        if name.startswith("parts"):
            workplace.shards()
        elif name.startswith("."):
            workplace.interrupted()
        else:
            workplace.run()
        if name == "probes.conllu":
            workplace.probes()
        path = workplace.here / name
        if name in OWN:
            path.write_text(OWN[name])
        apply(edits, path)
        before = snapshot(workplace.here)
        outcome = run_here(READERS[name])
        if outcome.code != 0:
            last = outcome.err.splitlines()[-1]
            assert_refused(Outcome(outcome.code, outcome.out, last))
            assert snapshot(workplace.here) == before
        os.chdir(root)
        shutil.rmtree(workplace.here)

    damaged()
