"""A head that follows likeness of input embeddings finds synonyms, and earns no semantic role."""

import csv
from pathlib import Path

import pytest
import torch

from headprobe.commands.scan import scan
from headprobe.config import ScanConfig
from headprobe.planted.checkpoint import END, START, build_tokenizer
from headprobe.planted.heads import CONTENT, DECAYS, PREVIOUS, RANDOM, SINKS
from headprobe.planted.weights import CheckpointShape, build_model, embed
from headprobe.planted.words import Lexeme
from headprobe.progress import SilentProgress

SHAPE = CheckpointShape(2, 4, 4, 48)
FOLLOWER = (0, 1)
SEATS = {
    **dict(
        zip(
            ((0, 0), (0, 1), (0, 2), (0, 3)),
            (PREVIOUS, CONTENT["duplicate"], *DECAYS[:2]),
            strict=True,
        )
    ),
    **dict(
        zip(((1, 0), (1, 1), (1, 2), (1, 3)), (SINKS[0], RANDOM, DECAYS[2], RANDOM), strict=True)
    ),
}


class Quiet(SilentProgress):
    """A planted model knows no text, and says so."""

    def warn(self, text: str) -> None:
        """Ignore the warning."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, lexicon: list[Lexeme]) -> Path:
    folder = tmp_path_factory.mktemp("follower")
    forms = [word.form for word in lexicon]
    tokenizer = build_tokenizer(forms, {}, adds_start=True)
    tokenizer.save_pretrained(folder / "model")
    numbers, generator = tokenizer.get_vocab(), torch.Generator().manual_seed(0)
    layout = SHAPE.layout
    table = embed(layout, SHAPE.hidden, numbers, (START, END), lexicon, {}, generator)
    table[:, layout.mark.start : layout.code.start] = 0
    table[:, layout.sense.start : layout.initial.stop] = 0
    codes = table[:, layout.code.start : layout.code.stop]
    known = {word.form: word for word in lexicon}
    for word in lexicon:
        for other in sorted(word.related):
            if word.form not in known[other].related or word.form < other:
                noise = 0.05 * torch.nn.functional.normalize(
                    torch.randn(len(layout.code), generator=generator), dim=0
                )
                mixed = codes[numbers[other]] + noise
                codes[numbers[word.form]] = torch.nn.functional.normalize(mixed, dim=0)
    build_model(SHAPE, table, SEATS, generator).save_pretrained(folder / "model")
    config = ScanConfig(
        model=str(folder / "model"), probes=("semantic",), out=folder / "run", device="cpu"
    )
    return scan(config, Quiet()).path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_it_finds_related_words_but_not_more_than_its_embeddings_do(run: Path) -> None:
    name = f"L{FOLLOWER[0]}H{FOLLOWER[1]}"
    semantic = {
        row["relation"]: row
        for row in rows(run / "relations.csv")
        if row["name"] == name and row["family"] == "semantic"
    }
    assert float(semantic["synonym"]["top1"]) > 0.6
    for row in semantic.values():
        # without the rule it would pass: distance and unrelated words explain little
        others = ("offset_top1", "habit_top1", "swap_top1", "chance_top1", "uniform_top1")
        assert float(row["top1"]) - max(float(row[each]) for each in others) > 0.3
        assert row["baseline"] == "embedding"
        assert float(row["gain_low"]) < 0.1 and row["role"] == ""


def test_no_head_earns_the_role(run: Path) -> None:
    heads = rows(run / "heads.csv")
    assert not any("semantic" in row["roles"].split(";") for row in heads)
    (follower,) = [row for row in heads if row["name"] == f"L{FOLLOWER[0]}H{FOLLOWER[1]}"]
    assert follower["role"] == "duplicate-token"
