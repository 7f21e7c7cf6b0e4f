from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from headprobe.demo.corpus import read_documents
from headprobe.demo.tokenizer import BEGIN_ID, save_tokenizer, train_tokenizer

TEXT = 'Lily  said: "I can\'t see him\u2014café, 25 €, 日本!"\n\nShe ran.\tHe\nhid.'


def test_text_survives_the_round_trip(corpus: Path) -> None:
    tokenizer = train_tokenizer(read_documents(corpus), 320)
    encoded = tokenizer.encode(TEXT)
    assert encoded.ids[0] == BEGIN_ID
    assert tokenizer.decode(encoded.ids) == TEXT


def test_tokens_do_not_cross_words_or_join_marks_to_words(corpus: Path) -> None:
    tokenizer = train_tokenizer(read_documents(corpus), 320)
    for start, end in tokenizer.encode(TEXT).offsets:
        piece = TEXT[start:end].strip()
        assert piece.isalpha() or len(piece) <= 1, piece


def test_common_words_are_one_token(corpus: Path) -> None:
    tokenizer = train_tokenizer(read_documents(corpus), 320)
    assert tokenizer.encode("Tom saw the ball. She lost", add_special_tokens=False).tokens == [
        "Tom", "Ġsaw", "Ġthe", "Ġball", ".", "ĠShe", "Ġlost",
    ]  # fmt: skip


def test_saved_tokenizer_prepends_the_bos_token(corpus: Path, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(read_documents(corpus), 320)
    save_tokenizer(tokenizer, tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    encoded = loaded("Tom saw", return_offsets_mapping=True)
    assert encoded.input_ids[0] == loaded.bos_token_id == BEGIN_ID
    assert encoded.offset_mapping == [(0, 0), (0, 3), (3, 7)]
    assert loaded.decode(encoded.input_ids, skip_special_tokens=True) == "Tom saw"
