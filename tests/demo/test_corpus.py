from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headprobe.demo.corpus import IGNORED, Stream, TokenisedCorpus, cut, read_documents, tokenise
from headprobe.demo.tokenizer import BEGIN_ID, END_ID, train_tokenizer
from headprobe.errors import HeadprobeError


@pytest.fixture
def tokenised(corpus: Path) -> TokenisedCorpus:
    documents = read_documents(corpus)
    return tokenise(documents, train_tokenizer(documents, 320))


def test_spans_cover_every_token_inside_one_document(tokenised: TokenisedCorpus) -> None:
    spans = cut(tokenised, 100, np.random.default_rng(0))
    seen = np.zeros(len(tokenised.tokens), dtype=bool)
    for start, end in spans:
        assert 0 < end - start <= 100
        assert END_ID not in tokenised.tokens[start : end - 1]
        seen[start:end] = True
    assert seen.all()


def test_rows_begin_with_the_bos_token_and_end_with_padding(
    tokenised: TokenisedCorpus,
) -> None:
    batch = Stream(tokenised, ((tokenised, 0.5),), 2, seed=3).next(8, 128)
    assert batch.shape == (8, 128)
    assert (batch[:, 0] == BEGIN_ID).all()
    assert not ((batch[:, :-1] == IGNORED) & (batch[:, 1:] != IGNORED)).any()


def test_stream_continues_from_epoch_and_cursor(tokenised: TokenisedCorpus) -> None:
    first = Stream(tokenised, (), 1, seed=3)
    for _ in range(40):
        first.next(8, 128)
    assert first.epoch > 0
    second = Stream(tokenised, (), 1, seed=3, epoch=first.epoch, cursor=first.cursor)
    np.testing.assert_array_equal(first.next(8, 128), second.next(8, 128))


def test_missing_corpus_gives_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(HeadprobeError, match=r"no such corpus file\. Give a text file\.$"):
        read_documents(tmp_path / "nothing.txt")
