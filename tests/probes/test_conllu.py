"""CoNLL-U as treebanks really write it, and as they break it."""

import pytest

from headprobe.errors import HeadprobeError
from headprobe.probes.conllu import read_conllu
from headprobe.probes.document import Surface, Word
from headprobe.probes.passages import sentence_text

ODDITIES = """\
# newdoc id = letters
# meta::genre = letter
# sent_id = letters-1
1 | She | she | PRON | _ | Case=Nom | 4 | nsubj | _ | Gloss=a=b
2-3 | didn't | _ | _ | _ | _ | _ | _ | _ | _
2 | did | do | AUX | _ | _ | 4 | aux | _ | SpaceAfter=No
# a comment between words
3 | n't | not | PART | _ | _ | 4 | advmod | _ | _
3.1 | silently | _ | _ | _ | _ | _ | _ | 4:advmod | _
4 | write | write | VERB | _ | _ | 0 | root | _ | CorrectSpaceAfter=No
5-6 | du | _ | _ | _ | _ | _ | _ | _ | Foo|SpaceAfter=No
5 | de | de | ADP | _ | _ | 4 | case | _ | _
6 | le | le | DET | _ | _ | 4 | det:def | _ | _
7 | . | . | PUNCT | _ | _ | 4 | punct | _ | SpaceAfter=No

# sent_id = letters-2
# text = no tree
1 | no | _ | _ | _ | _ | _ | _ | _ | _
2 | 10 000 | _ | NUM | _ | _ | _ | _ | _ | _
"""


def rows(*words: str) -> str:
    """A sentence of ten-column rows, each written 'id form head'."""
    parts = [word.split() for word in words]
    return "".join(f"{i} | {f} | _ | X | _ | _ | {h} | dep | _ | _\n" for i, f, h in parts) + "\n"


def test_conllu_words_surfaces_and_text_are_read(write, notes):
    (document,) = read_conllu(write(ODDITIES), notes.append)
    first, second = document.sentences
    assert sentence_text(first) == "She didn't write du."
    assert sentence_text(second) == "no 10 000"
    assert first.surfaces == (
        Surface("She", 0, 0),
        Surface("didn't", 1, 2),
        Surface("write", 3, 3),
        Surface("du", 4, 5, space_after=False),
        Surface(".", 6, 6, space_after=False),
    )
    assert first.words[5] == Word("le", "DET", 3, "det:def", "le")
    assert first.words[3] == Word("write", "VERB", None, "root", "write")
    assert second.words == (Word("no"), Word("10 000", "NUM"))
    assert (document.id, document.domain, document.cluster) == ("letters", "letter", "letters")
    assert (first.source, second.source) == ("set.conllu:1", "set.conllu:16")
    assert notes == []


def test_sentences_before_newdoc_are_single_documents(write, notes):
    one = rows("1 a 0")
    text = f"# sent_id = s1\n{one}{one}# newdoc\n# genre = news\n{one}{one}# newdoc id = d\n{one}"
    documents = list(read_conllu(write(text), notes.append))
    found = [(document.id, len(document.sentences)) for document in documents]
    assert found == [("s1", 1), ("set.conllu:4", 1), ("set.conllu:6", 2), ("d", 1)]
    assert [document.domain for document in documents] == ["set", "set", "news", "set"]


def test_a_template_names_the_cluster(write, notes):
    file = write(f"# newdoc id = d\n# template = the N V\n{rows('1 a 0')}")
    assert next(read_conllu(file, notes.append)).cluster == "the N V"


def test_newdoc_may_precede_an_empty_line(write, notes):
    documents = list(read_conllu(write(f"# newdoc id = d\n\n{rows('1 a 0')}"), notes.append))
    assert [document.id for document in documents] == ["d"]


def test_byte_order_marks_and_other_line_ends_are_accepted(write, notes):
    text = "\ufeff" + rows("1 a 0", "2 b 1").replace("\n", "\r\n") + "  \n" + rows("1 c 0")
    documents = list(read_conllu(write(text), notes.append))
    assert [sentence_text(d.sentences[0]) for d in documents] == ["a b", "c"]


def test_two_spaces_inside_a_column_do_not_separate(write, notes):
    text = "1 | a | _ | X | _ | _ | 0 | root | _ | Gloss=x  y|SpaceAfter=No\n2 | b | _ | X"
    file = write(text + " | _ | _ | 1 | dep | _ | _\n")
    assert sentence_text(next(read_conllu(file, notes.append)).sentences[0]) == "ab"


def test_two_spaces_separate_columns_without_tabs(write, notes):
    file = write(
        "1  10 000  _  NUM  _  _  0  root  _   SpaceAfter=No\n2  b  _  X  _  _  1  d  _  _\n"
    )
    sentence = next(read_conllu(file, notes.append)).sentences[0]
    assert sentence.words == (Word("10 000", "NUM", None, "root"), Word("b", "X", 0, "d"))
    assert sentence_text(sentence) == "10 000b"


def test_heads_can_be_far_away(write, notes):
    text = rows(*(f"{i} w {1200 if i == 1 else 1}" for i in range(1, 1200)), "1200 end 0")
    words = next(read_conllu(write(text), notes.append)).sentences[0].words
    assert (words[0].head, words[1].head, words[1198].head, words[1199].head) == (1199, 0, 0, None)


def test_declared_columns_are_used(write, notes):
    file = write("# global.columns = ID FORM UPOS HEAD\n1 | a | DET | 2\n2 | b | NOUN | 0\n")
    words = next(read_conllu(file, notes.append)).sentences[0].words
    assert words == (Word("a", "DET", 1), Word("b", "NOUN"))


def test_documents_are_read_one_at_a_time(write, notes):
    good = f"# newdoc\n{rows('1 a 0')}"
    documents = read_conllu(write(good * 3 + "broken"), notes.append)
    assert [next(documents).id for _ in range(2)] == ["set.conllu:1", "set.conllu:4"]
    with pytest.raises(HeadprobeError):
        list(documents)


def test_a_sentence_of_empty_nodes_is_noted(write, notes):
    file = write("1.1 | a | _ | X | _ | _ | _ | _ | _ | _\n\n" + rows("1 b 0"))
    assert len(list(read_conllu(file, notes.append))) == 1
    assert [(note.source, note.what) for note in notes] == [("set.conllu:1", "sentence")]


def test_progress_adds_up_to_the_file(write, notes):
    file = write(rows("1 a 0") * 4000)
    steps: list[int] = []
    assert len(list(read_conllu(file, notes.append, steps.append))) == 4000
    assert sum(steps) == file.size == file.path.stat().st_size
    assert len(steps) > 1


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("# c\n1 | a | _ | X | _ | _ | 0\n", 2, "7 columns instead of 10"),
        (rows("1 a 0", "3 b 0"), 2, "ID 3 instead of 2"),
        (rows("1 a 0", "x b 0"), 2, "'x' is not a valid ID"),
        (rows("1 a 0", "2-1 b 0"), 2, "'2-1' is not a valid ID"),
        (rows("01 a 0"), 1, "'01' is not a valid ID"),
        (rows("1 a 0", "1.0 b 0"), 2, "'1.0' is not a valid ID"),
        (rows("0 a 0"), 1, "ID 0 instead of 1"),
        (rows("_ a 0"), 1, "'_' is not a valid ID"),
        (rows("1 a 0", "2\x1b b 0"), 2, r"'2\x1b' is not a valid ID"),
        (rows("1 a 0", "9" * 5000 + " b 0"), 2, "is not a valid ID"),
        ("\n\n# c\n" + rows("1 a 0") + rows("1 a 2"), 6, "HEAD 2 is out of range"),
        (rows("1 a -1"), 1, "HEAD '-1' is not an integer"),
        (rows("1 a two"), 1, "HEAD 'two' is not an integer"),
        (rows("1 a " + "9" * 5000), 1, "is out of range"),
        (rows("1 a 1"), 1, "HEAD 1 is the word itself"),
        (rows("1-3 ab _", "1 a 0", "2 b 1"), 1, "the range 1-3 does not fit"),
        (rows("1-2 ab _", "2-3 bc _", "1 a 0", "2 b 1", "3 c 1"), 2, "the range 2-3 does not fit"),
        ("1 |  | _ | X | _ | _ | 0 | root | _ | _\n", 1, "an empty FORM"),
        ("just some text\n", 1, "no columns"),
        ("# global.columns = FORM\na\n", 1, "declares no ID"),
        (b"# ok\n1\tcaf\xe9\n", 2, "not UTF-8 (byte 0xe9)"),
        ("1 | a".encode("utf-16"), 1, "not UTF-8"),
    ],
)
def test_errors_name_their_line(write, notes, text, line, what):
    file = write(text)
    with pytest.raises(HeadprobeError) as caught:
        list(read_conllu(file, notes.append))
    assert caught.value.where == f"{file.path}:{line}"
    assert what in caught.value.what
    assert str(caught.value).isprintable()
