"""Semantic relations: word pairs, the links that follow from them, and twins."""

from dataclasses import replace
from pathlib import Path

import pytest

from headprobe.errors import HeadprobeError
from headprobe.probes.conllu import read_conllu
from headprobe.probes.document import Document, Word
from headprobe.probes.file import ProbeFile
from headprobe.probes.passages import cut_passages, sentence_text
from headprobe.probes.semantic import WordPairs, read_pairs, semantic_relation, twin_document
from headprobe.probes.yaml import read_probe_set
from headprobe.vocabulary import Skipped

PAIRS = """\
# relation, part of speech, word, related word
synonym\tNOUN\tsofa\tcouch
antonym\tADJ\trich\tpoor
hypernym\tNOUN\trose\tflower
"""

ROWS = """\
# newdoc id = d
# global.Pairs = pairs.tsv
# sent_id = 1
# text = A sofa, a flower and a sofa.
1\tA\ta\tDET\t_\t_\t2\tdet\t_\t_
2\tsofa\tsofa\tNOUN\t_\t_\t0\troot\t_\tTwin=kettle|SpaceAfter=No
3\t,\t,\tPUNCT\t_\t_\t2\tpunct\t_\t_
4\ta\ta\tDET\t_\t_\t5\tdet\t_\t_
5\tflower\tflower\tNOUN\t_\t_\t2\tconj\t_\t_
6\tand\tand\tCCONJ\t_\t_\t8\tcc\t_\t_
7\ta\ta\tDET\t_\t_\t8\tdet\t_\t_
8\tSofas\tsofa\tNOUN\t_\t_\t2\tconj\t_\tTwin=Kettles|SpaceAfter=No
9\t.\t.\tPUNCT\t_\t_\t2\tpunct\t_\t_

# sent_id = 2
# text = Roses, couches.
1\tRoses\trose\tNOUN\t_\t_\t0\troot\t_\tSpaceAfter=No
2\t,\t,\tPUNCT\t_\t_\t3\tpunct\t_\t_
3\tcouches\tcouch\tNOUN\t_\t_\t1\tconj\t_\tSpaceAfter=No
4\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\t_

"""

SYNONYM, HYPERNYM = semantic_relation("synonym"), semantic_relation("hypernym")


def fail_on_skip(skipped: Skipped) -> None:
    raise AssertionError(skipped)


def write(folder: Path, rows: str = ROWS, pairs: str = PAIRS) -> ProbeFile:
    (folder / "pairs.tsv").write_text(pairs, "utf-8")
    (folder / "probe.conllu").write_text(rows, "utf-8")
    return ProbeFile(folder / "probe.conllu", "probe.conllu")


def read(folder: Path, rows: str = ROWS, pairs: str = PAIRS) -> Document:
    (document,) = read_conllu(write(folder, rows, pairs), fail_on_skip)
    return document


def read_yaml(folder: Path, text: str) -> Document:
    (folder / "probe.yaml").write_text(text, "utf-8")
    (document,) = read_probe_set(ProbeFile(folder / "probe.yaml", "probe.yaml"), fail_on_skip)
    return document


def test_pairs_link_later_words_to_all_earlier_related_words(tmp_path: Path) -> None:
    document = read(tmp_path)
    links = {(link.relation, link.query): link.targets for link in document.declared}
    assert links == {(HYPERNYM, 9): (4,), (SYNONYM, 11): (1, 7)}


def test_a_hypernym_looks_only_to_the_more_general_word() -> None:
    pairs = WordPairs()
    pairs.add("hypernym", "NOUN", "rose", "flower")
    flower, rose = Word("flower", "NOUN"), Word("rose", "NOUN")
    assert [link.query for link in pairs.links([flower, rose])] == [1]
    assert list(pairs.links([rose, flower])) == []


def test_synonyms_hold_in_both_orders_and_for_one_part_of_speech() -> None:
    pairs = WordPairs()
    pairs.add("synonym", "NOUN", "Sofa", "couch")
    sofa, couch = Word("SOFA", "NOUN"), Word("couches", "NOUN", lemma="Couch")
    assert [link.targets for link in pairs.links([sofa, couch])] == [(0,)]
    assert [link.targets for link in pairs.links([couch, sofa])] == [(0,)]
    assert list(pairs.links([sofa, couch._replace(upos="VERB")])) == []


def test_the_twin_replaces_the_words_and_nothing_else(tmp_path: Path) -> None:
    document = read(tmp_path)
    twin = twin_document(document)
    texts = [sentence_text(sentence) for sentence in twin.sentences]
    assert texts == ["A kettle, a flower and a Kettles.", "Roses, couches."]
    assert twin.mentions == () and twin.twins == {}
    assert [(link.relation, link.targets) for link in twin.declared] == [(SYNONYM, (1, 7))]


def test_passages_carry_their_twins(tmp_path: Path) -> None:
    passages = list(cut_passages(read(tmp_path), lambda texts: [4] * len(texts), 4, fail_on_skip))
    assert [p.twin.text if p.twin else None for p in passages] == [
        "A kettle, a flower and a Kettles.",
        None,
    ]
    twin = passages[0].twin
    assert twin is not None and twin.links == () and twin.classes == {}
    assert twin.document == passages[0].document and twin.id != passages[0].id
    (passage,) = cut_passages(read(tmp_path), lambda texts: [4] * len(texts), 8, fail_on_skip)
    assert passage.twin is not None
    assert [(link.query, link.targets) for link in passage.twin.links] == [(11, (1, 7))]
    assert [link.relation for link in passage.twin.links] == [replace(SYNONYM, twin=True)]
    kettle = passage.twin.words[1]
    assert passage.twin.text[kettle.start : kettle.end] == "kettle" == kettle.lemma
    assert kettle.upos == "NOUN"


def test_a_twin_that_does_not_fit_is_left_out_and_noted(tmp_path: Path) -> None:
    noted: list[Skipped] = []
    count = lambda texts: [9 if "kettle" in text else 4 for text in texts]  # noqa: E731
    passages = list(cut_passages(read(tmp_path), count, 4, noted.append))
    assert [passage.twin for passage in passages] == [None, None]
    assert [(skip.what, skip.reason) for skip in noted] == [
        ("twin", "longer than the 4 tokens that fit")
    ]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("synonym\tNOUN\tsofa\n", "is not a word pair. Write four columns"),
        (
            "synonim\tNOUN\tsofa\tcouch\n",
            "'synonim' is not a semantic relation. Did you mean synonym",
        ),
        ("synonym\tNOUNS\tsofa\tcouch\n", "'NOUNS' is not a part of speech. Did you mean NOUN"),
        ("synonym\tNOUN\tsofa\tSofa\n", "'sofa' is paired with itself"),
    ],
)
def test_malformed_pairs_are_named_by_line(tmp_path: Path, pairs: str, message: str) -> None:
    (tmp_path / "pairs.tsv").write_text("# pairs\n\n" + pairs, "utf-8")
    with pytest.raises(HeadprobeError) as caught:
        read_pairs(ProbeFile(tmp_path / "pairs.tsv", "pairs.tsv"))
    assert "pairs.tsv:3" in str(caught.value) and message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pairs.tsv", "other.tsv", "of word pairs. Name a file of word pairs"),
        ("pairs.tsv", "", "global.Pairs names no file"),
        ("Twin=kettle", "Twin=old kettle", "Twin=old kettle is not one word"),
        ("Twin=kettle", "Twin=", "is not one word"),
        ("conj\t_\t_", "conj\t_\tTwin=x", None),
        ("det\t_\t_", "det\t_\tTwin=x", "on a word to which no semantic relation looks"),
    ],
)
def test_malformed_twins_are_named_by_line(
    tmp_path: Path, old: str, new: str, message: str | None
) -> None:
    file = write(tmp_path, ROWS.replace(old, new, 1))
    if message is None:
        (document,) = read_conllu(file, fail_on_skip)
        assert document.twins[4] == "x"
        return
    with pytest.raises(HeadprobeError) as caught:
        list(read_conllu(file, fail_on_skip))
    assert message in str(caught.value) and "probe.conllu:" in str(caught.value)


YAML = """\
relation: synonym
upos:
  NOUN: sofa couch doctor
items:
- text: A sofa stood beside a doctor, who wanted a couch.
  link: couch -> sofa
  twin: sofa -> kettle
"""


def test_a_yaml_probe_declares_links_rivals_and_twins(tmp_path: Path) -> None:
    document = read_yaml(tmp_path, YAML)
    assert [(link.relation, link.query, link.targets) for link in document.declared] == [
        (SYNONYM, 10, (1,))
    ]
    words = document.sentences[0].words
    assert [word.form for word in words if word.upos == "NOUN"] == ["sofa", "doctor", "couch"]
    assert document.twins == {1: "kettle"}
    text = sentence_text(twin_document(document).sentences[0])
    assert text == "A kettle stood beside a doctor, who wanted a couch."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NOUN: sofa couch doctor", "NOUN: doctor", "have not been given one part of speech"),
        ("NOUN:", "NOUNS:", "'NOUNS' is not a part of speech. Did you mean NOUN"),
        ("sofa -> kettle", "sofa -> old kettle", "does not replace a word by one word"),
        ("sofa -> kettle", "doctor -> kettle", "no semantic relation looks to 'doctor'"),
        ("sofa -> kettle", "sofas -> kettle", "the word 'sofas' is not in the text"),
        ("relation: synonym", "relation: synonym\nscope: sentence", "not a valid scope of a"),
        ("relation: synonym", "relation: meronym\nfamily: semantic", "not a valid semantic"),
    ],
)
def test_mistakes_in_a_yaml_probe_are_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(HeadprobeError) as caught:
        read_yaml(tmp_path, YAML.replace(old, new, 1))
    assert message in str(caught.value)
