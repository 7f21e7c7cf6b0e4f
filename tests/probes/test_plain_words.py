"""Text without annotation: words, sentences, documents."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headprobe.errors import HeadprobeError
from headprobe.probes import text as text_reader
from headprobe.probes.passages import sentence_text
from headprobe.probes.text import plain_sentence, read_text


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("It didn't end.", "It didn't end ."),
        ("the well-known ‘rock’n’roll’", "the well-known ‘ rock’n’roll ’"),
        ("3.5, 1,000 or 2.", "3.5 , 1,000 or 2 ."),
        ("x--y -z'", "x - - y - z '"),
        ("你好，世界！", "你 好 ， 世 界 ！"),
        ("हिन्दी cafe\u0301", "हिन्दी cafe\u0301"),
        ("<|end|> ❤\ufe0f", "< | end | > ❤\ufe0f"),
        ("  \t\n ", ""),
    ],
)
def test_words(text, forms):
    assert [word.form for word in plain_sentence(text, "f:1").words] == forms.split()


def test_marks_are_punctuation_and_signs_are_not():
    words = plain_sentence("Yes, “5 %” & $1 `so´ _ + ☺ !", "f:1").words
    assert [w.form for w in words if w.upos == "PUNCT"] == [",", "“", "”", "`", "´", "!"]
    assert {w.upos for w in words} == {"", "PUNCT"}


@settings(deadline=None)
@given(st.text())
def test_the_text_is_kept_but_for_its_spacing(text):
    assert sentence_text(plain_sentence(text, "f:1")) == " ".join(text.split())


def test_sentences_end_with_lines_and_stops(write, notes):
    file = write("One. “Two!” Three (3.5)?\n\nFour\n他来了。她走了。\n", "story.txt")
    (document,) = read_text(file, notes.append)
    assert [sentence_text(sentence) for sentence in document.sentences] == [
        "One.", "“Two!”", "Three (3.5)?", "Four", "他来了。", "她走了。",
    ]  # fmt: skip
    assert document.sentences[3].source == "story.txt:3"
    assert (document.id, document.domain, document.annotated) == ("story.txt", "story", False)


def test_marked_documents_and_long_ones_are_divided(write, notes, monkeypatch):
    monkeypatch.setattr(text_reader, "MAX_SENTENCES", 2)
    file = write("a\nb\nc\n<|endoftext|>\nd\n<|endoftext|>\n\n<|endoftext|>\ne\n", "s.txt")
    documents = list(read_text(file, notes.append))
    assert [(d.id, d.cluster, len(d.sentences)) for d in documents] == [
        ("s.txt", "s.txt", 2), ("s.txt+1", "s.txt", 1), ("s.txt-2", "s.txt-2", 1),
        ("s.txt-4", "s.txt-4", 1),
    ]  # fmt: skip


def test_not_utf8(write, notes):
    with pytest.raises(HeadprobeError, match=r"s\.txt:2: not UTF-8"):
        list(read_text(write(b"a\n\xff\n", "s.txt"), notes.append))
