"""Start tokens, offsets, readable tokens, and text that spells special tokens."""

from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from headprobe.batching.encoder import Encoder, readable_piece
from headprobe.errors import HeadprobeError
from tests.helpers.checkpoints import toy_tokenizer


def test_start_token_of_the_tokenizer_is_used() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    assert encoder.start == (1,)
    assert encoder.start_tokens == ("<s>",)
    assert not encoder.prepended


def test_missing_start_token_is_replaced_by_bos_or_else_eos() -> None:
    assert Encoder(toy_tokenizer(adds_start=False), "toy").start == (1,)
    without = toy_tokenizer(adds_start=False)
    without.bos_token = None
    found = Encoder(without, "toy")
    assert (found.start, found.prepended) == ((2,), True)
    without.eos_token = None
    with pytest.raises(HeadprobeError, match="neither a beginning nor an end token"):
        Encoder(without, "toy")


def test_slow_tokenizer_is_refused() -> None:
    with pytest.raises(HeadprobeError, match="slow one"):
        Encoder(SimpleNamespace(is_fast=False), "toy")


def test_text_that_spells_a_special_token_is_encoded_as_text() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    text = "He wrote </s> and <s> twice."
    encoded = encoder.encode([text])[0]
    assert not set(encoded.ids.tolist()) & {0, 1, 2}
    assert encoded.offsets[-1].tolist() == [len(text) - 1, len(text)]


def test_offsets_select_the_text_of_each_token() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    text = "naïve 猫 🐈 cat"
    encoded = encoder.encode([text])[0]
    covered = {place for low, high in encoded.offsets.tolist() for place in range(low, high)}
    assert covered == set(range(len(text)))
    assert encoder.count([text, "a"]) == [len(encoded.ids), 1]


def test_tokens_are_readable_and_incomplete_characters_become_bytes() -> None:
    encoder = Encoder(toy_tokenizer(), "toy")
    text = "the 猫 ï\n"
    shown = encoder.tokens(encoder.encode([text])[0].ids.tolist())
    assert "<0xE7><0x8C><0xAB>" in "".join(shown)  # three tokens, none of them a character
    assert "".join(shown).startswith("the <0xE7>") and shown[-1] == "\n"
    assert encoder.tokens([1]) == ["<s>"]


def test_readable_piece_for_each_kind_of_vocabulary() -> None:
    assert readable_piece("Ġthe", byte_level=True) == " the"
    assert readable_piece("Ċ", byte_level=True) == "\n"
    assert readable_piece("Ã©", byte_level=True) == "é"
    assert readable_piece("çĮ", byte_level=True) == "<0xE7><0x8C>"
    assert readable_piece("<|猫|>", byte_level=True) == "<|猫|>"  # added by hand, not bytes
    assert readable_piece("▁the", byte_level=False) == " the"
    assert readable_piece("<0xE2>", byte_level=False) == "<0xE2>"


def test_tokenizer_that_fails_during_encoding_gives_a_one_line_error() -> None:
    """A word-level vocabulary without an unknown token cannot encode other words."""
    backend = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    encoder = Encoder(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>"), "m")
    assert encoder.count(["a a"]) == [2]
    with pytest.raises(HeadprobeError, match=r"m: its tokenizer cannot encode a text \(") as raised:
        encoder.encode(["a", "a b"])
    assert "\n" not in str(raised.value)
    assert encoder.count(["a a", "a"]) == [2, 1]
