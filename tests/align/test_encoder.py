"""Text to tokens, and what stands before it."""

from headprobe.align.encoder import Encoder
from tests.checkpoints import toy_tokenizer


def test_text_that_spells_a_special_token_is_plain_text() -> None:
    """Else a word of the text would be one more attention sink."""
    tokenizer = toy_tokenizer()
    encoded = Encoder(tokenizer, "toy").encode(["it is </s> and <s>"])[0]
    assert not set(encoded.ids.tolist()) & set(tokenizer.all_special_ids)
    assert encoded.offsets[-1, 1] == len("it is </s> and <s>")
