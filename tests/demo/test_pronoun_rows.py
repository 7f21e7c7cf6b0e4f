from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer

from headprobe.demo.pronoun_rows import PronounRows
from headprobe.demo.tokenizer import train_tokenizer

STORY = "Tom saw Anna and he liked his big boat and my cat."


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_tokenizer([STORY] * 50, 320)


def losses(tokenizer: Tokenizer, text: str, hidden: torch.Tensor) -> tuple[float, float]:
    """Both losses on one row, with one-hot embeddings and untouched hidden states."""
    ids = tokenizer.encode(text).ids
    size = tokenizer.get_vocab_size()
    module = PronounRows(tokenizer, torch.ones(size), size)
    for matrix in (module.ahead, module.recall):
        torch.nn.init.eye_(matrix.weight)
    ahead, recall = module(hidden[None, : len(ids)], torch.tensor([ids]), torch.eye(size))
    return ahead.item(), recall.item()


def test_recall_targets_the_other_form_and_the_token_before_it(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(STORY).ids
    he, his = (ids.index(tokenizer.token_to_id(word)) for word in ("Ġhe", "Ġhis"))
    hidden = torch.zeros(len(ids), tokenizer.get_vocab_size())
    _, unknowing = losses(tokenizer, STORY, hidden)
    hidden[his, ids[he]] = hidden[his, ids[he - 1]] = 50.0
    _, knowing = losses(tokenizer, STORY, hidden)
    assert unknowing > 5.0
    assert knowing == pytest.approx(0.6931, abs=1e-3)


def test_only_pronoun_rows_count(tokenizer: Tokenizer) -> None:
    hidden = torch.randn(40, tokenizer.get_vocab_size())
    assert losses(tokenizer, "Tom saw Anna.", hidden) == (0.0, 0.0)
    assert losses(tokenizer, "Tom saw his boat.", hidden)[1] == 0.0
