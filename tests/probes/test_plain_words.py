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
def test_plain_text_is_split_into_words(text, forms):
    assert [word.form for word in plain_sentence(text, "f:1").words] == forms.split()


def test_marks_are_punctuation_and_signs_are_not():
    words = plain_sentence("Yes, “5 %” & $1 `so´ _ + ☺ !", "f:1").words
    assert [w.form for w in words if w.upos == "PUNCT"] == [",", "“", "”", "`", "´", "!"]
    assert {w.upos for w in words} == {"", "PUNCT"}


@settings(deadline=None)
@given(st.text())
def test_plain_text_is_unchanged_except_for_spacing(text):
    assert sentence_text(plain_sentence(text, "f:1")) == " ".join(text.split())


def test_sentences_end_at_lines_and_stops(write, notes):
    file = write("One. “Two!” Three (3.5)?\n\nFour\n他来了。她走了。\n", "story.txt")
    (document,) = read_text(file, notes.append)
    assert [sentence_text(sentence) for sentence in document.sentences] == [
        "One.", "“Two!”", "Three (3.5)?", "Four", "他来了。", "她走了。",
    ]  # fmt: skip
    assert document.sentences[3].source == "story.txt:3"
    assert (document.id, document.domain, document.annotated) == ("story.txt", "story", False)


def test_marked_documents_and_long_ones_are_divided(write, notes, monkeypatch):
    monkeypatch.setattr(text_reader, "SECTION_WORDS", 2)
    monkeypatch.setattr(text_reader, "_MAX_SECTION_WORDS", 4)
    file = write(
        "a\nb\nc\n<|endoftext|>\nd\n<|endoftext|>\n\n<|endoftext|>\nA b. C d. E f.\n", "s.txt"
    )
    documents = list(read_text(file, notes.append))
    assert [(d.id, d.cluster, len(d.sentences)) for d in documents] == [
        ("s.txt", "", 2), ("s.txt+1", "", 1), ("s.txt-2", "", 1),
        ("s.txt-4", "", 2), ("s.txt-4+1", "", 1),
    ]  # fmt: skip


WRAPPED = """\
The old dog saw a grey cat in the garden, and it
ran after the cat, but the cat was quick. The cat
lived next door.

Then it rained. The girl called, and the dog came
home.
"""


def test_wrapped_lines_are_joined_and_empty_lines_end_paragraphs(write, notes):
    (document,) = read_text(write(WRAPPED, "w.txt"), notes.append)
    assert [(sentence_text(s), s.source) for s in document.sentences] == [
        ("The old dog saw a grey cat in the garden, and it ran after the cat, but the cat was"
         " quick.", "w.txt:1"),
        ("The cat lived next door.", "w.txt:1"),
        ("Then it rained.", "w.txt:5"),
        ("The girl called, and the dog came home.", "w.txt:5"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wrapped"),
    [
        (WRAPPED, True),
        (WRAPPED.replace("\n", "\r\n"), True),
        ("", False),
        ("apples\npears\nplums\n", False),
        # one sentence a line, of different lengths
        ("".join(f"The dog ran{' and ran' * (n % 7)} away from number {n}.\nhe did.\n"
                 for n in range(30)), False),
        # a poem: lines begin with capitals
        ("The curfew tolls the knell of parting day,\nThe lowing herd wind slowly o'er the lea,\n"
         "The ploughman homeward plods his weary way,\n", False),
        # one paragraph a line
        (f"{'a word ' * 90}\n{'a word ' * 90}\n", False),
    ],
)  # fmt: skip
def test_hard_wrapped_text_is_recognised(text, wrapped):
    assert text_reader.is_hard_wrapped(text.splitlines()) is wrapped


def test_a_wrapped_paragraph_without_end_is_divided(write, notes, monkeypatch):
    monkeypatch.setattr(text_reader, "MAX_CHARACTERS", 100)
    file = write(("the dog and the cat and the bird and the cow\n" * 10), "endless.txt")
    (document,) = read_text(file, notes.append)
    assert len(document.sentences) == 4
    assert sum(len(s.words) for s in document.sentences) == 110


def test_a_file_with_nul_characters_is_no_text(write, notes):
    file = write("a\nb\n".encode("utf-16-le"), "s.txt")
    with pytest.raises(HeadprobeError, match=r"s\.txt:1: holds a NUL character"):
        list(read_text(file, notes.append))


def test_text_that_is_not_utf8_is_an_error(write, notes):
    with pytest.raises(HeadprobeError, match=r"s\.txt:2: not UTF-8"):
        list(read_text(write(b"a\n\xff\n", "s.txt"), notes.append))
