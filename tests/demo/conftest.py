"""A tiny corpus and a tiny shape, so that a training run takes a second."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import LlamaConfig

from headprobe.demo import card, trainer
from headprobe.demo.settings import Settings
from headprobe.demo.tokenizer import BEGIN_ID, END_ID

NAMES = ("Lily", "Tom", "Anna", "Max")
VERBS = ("saw", "found", "lost", "liked")
THINGS = ("ball", "stone", "boat", "cat")


def tiny_story(rng: random.Random) -> str:
    """Some sentences about one child."""
    name = rng.choice(NAMES)
    lines = [
        f"{who} {rng.choice(VERBS)} the {rng.choice(THINGS)}."
        for who in (name, "She", "He", name, "They") * rng.randint(2, 12)
    ]
    return " ".join(lines)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """120 stories, each closed by its line, with a manifest."""
    rng = random.Random(0)  # noqa: S311
    path = tmp_path / "tiny.train.txt"
    path.write_text("".join(f"{tiny_story(rng)}\n<|endoftext|>\n" for _ in range(120)), "utf-8")
    (tmp_path / "tiny.manifest.tsv").write_text(
        "split\tsource\tid\tlicence\tbytes\twords\ntrain\tours\tone\tCC0\t1000000\t9\n", "utf-8"
    )
    return path


@pytest.fixture
def tiny_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers of four heads instead of the demo model's shape."""

    def tiny_config(vocabulary: int) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=BEGIN_ID,
            eos_token_id=END_ID,
        )

    monkeypatch.setattr(trainer, "demo_config", tiny_config)
    monkeypatch.setattr(trainer, "HELD_OUT_ROWS", 4)
    monkeypatch.setattr(trainer, "HELD_OUT_BATCHES", 1)
    monkeypatch.setattr(card, "SAMPLE_TOKENS", 4)


@pytest.fixture
def settings(corpus: Path, tmp_path: Path) -> Settings:
    """A run of about twenty steps of 512 tokens."""
    return Settings(
        corpora=(corpus,),
        out=tmp_path / "run",
        tokens=20 * 400,
        tokens_per_step=512,
        pieces=320,
        report_steps=5,
        compiled=False,
    )
