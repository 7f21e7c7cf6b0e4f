"""Minimal pairs from files: the built-in sets, BLiMP, and files that are damaged."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from headprobe.causal.outcomes import OutcomeBuilder, bundled_pairs, find_pairs, read_pairs
from headprobe.errors import HeadprobeError
from headprobe.model.load import CheckpointSource, load_encoder
from headprobe.results.importance import LOSS

BLIMP = Path(__file__).resolve().parents[2] / "../shared/pairs/blimp"


def test_built_in_sets_have_templates_and_names() -> None:
    assert [path.stem for path in bundled_pairs()] == ["agreement", "pronoun", "reflexive"]
    for path in bundled_pairs():
        pairs = read_pairs(path)
        assert {pair.group for pair in pairs} == {path.stem}
        assert len({pair.template for pair in pairs}) >= 4
        assert find_pairs(Path(path.stem)) == path
    assert find_pairs(Path("mine.jsonl")) == Path("mine.jsonl")


@pytest.mark.skipif(not BLIMP.is_dir(), reason="needs ../shared/pairs/blimp")
def test_blimp_files_are_read() -> None:
    for path in sorted(BLIMP.glob("*.jsonl")):
        pairs = read_pairs(path)
        lines = path.read_text("utf-8").splitlines()
        assert len(pairs) == len([line for line in lines if line.strip()])
        assert {pair.group for pair in pairs} == {json.loads(lines[0])["UID"]}
        assert len({pair.template for pair in pairs}) > 19  # each pair is a cluster of its own


def test_margins_are_those_of_the_critical_words() -> None:
    """With single critical words, a pair takes one sequence: the words before them."""
    encoder = load_encoder(CheckpointSource.demo())
    builder = OutcomeBuilder()
    pairs = read_pairs(find_pairs(Path("pronoun")))[:6]
    assert builder.add_pairs(pairs, encoder) == 0
    [outcome] = builder.outcomes
    scored = builder.scored()
    losses = np.arange(len(scored.row), dtype=np.float32)
    values = outcome.values(losses)
    for unit in range(len(pairs)):
        mine = losses[outcome.unit == unit] * outcome.sign[outcome.unit == unit]
        assert values[unit] == pytest.approx(mine.sum())
    assert outcome.harm == -1 and outcome.name != LOSS
    assert len(scored.sequences) <= 2 * len(pairs)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "no JSON object"),
        ('{"good": "a"}', "no good and bad"),
        ('{"good": "a b", "bad": "a c", "critical": "x", "rival": "y"}', "critical and rival"),
        ("", "no pair"),
    ],
)
def test_damaged_files_are_one_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(line + "\n", "utf-8")
    with pytest.raises(HeadprobeError, match=message):
        read_pairs(path)


class OneToken:
    """Encodes every text as the same token."""

    start = (1,)

    def encode(self, texts: list[str]) -> list[SimpleNamespace]:
        offsets = np.array([[0, 1]])
        return [SimpleNamespace(ids=np.array([7], np.int32), offsets=offsets) for _ in texts]


def test_pairs_of_equal_tokens_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"good": "He ran.", "bad": "He run."}) + "\n", "utf-8")
    pairs, builder = read_pairs(path), OutcomeBuilder()
    assert builder.add_pairs(pairs, OneToken()) == 1
    assert builder.outcomes == []
