"""The bundled probe sets and pairs: well-formed, balanced, and the same bytes from the seed."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from headprobe.demo.grammar.build import PASSAGES, all_files
from headprobe.demo.grammar.reading import MARK_CLASSES, Document
from headprobe.demo.grammar.report import PERSONAL, Row, cues, entity_pronouns, load, rows, table
from headprobe.demo.grammar.wordlists import words

CONFIGS = Path(__file__).parents[2] / "configs"
GENERATED = [CONFIGS / "probes" / f"{domain}.conllu" for domain in PASSAGES]
NATURAL = CONFIGS / "probes" / "natural.conllu"
UPOS = words("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X")
DEPRELS = words(
    "acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det discourse "
    "dislocated expl fixed flat goeswith iobj list mark nmod nsubj nummod obj obl orphan "
    "parataxis punct reparandum root vocative xcomp"
)
SUBTYPES = words(
    "acl:relcl aux:pass cc:preconj compound:prt det:predet nmod:desc nmod:poss nsubj:pass "
    "obl:unmarked"
)
DEPENDENT_UPOS = {
    "det": {"DET"}, "case": {"ADP", "PART", "VERB", "ADV"}, "aux": {"AUX"}, "cop": {"AUX"},
    "amod": {"ADJ"}, "advmod": {"ADV", "PART", "ADP"}, "mark": {"SCONJ", "PART"}, "cc": {"CCONJ"},
    "punct": {"PUNCT"}, "nummod": {"NUM"},
}  # fmt: skip
HEAD_UPOS = {
    "det": {"NOUN", "PROPN", "PRON", "NUM", "ADV", "DET"},
    "amod": {"NOUN", "PROPN", "PRON", "NUM"}, "acl": {"NOUN", "PROPN", "PRON"},
    "nmod": {"NOUN", "PROPN", "PRON", "NUM"}, "aux": {"VERB", "ADJ", "NOUN", "ADV"},
    "cop": {"ADJ", "NOUN", "ADV", "PROPN", "PRON"}, "iobj": {"VERB"}, "obj": {"VERB"},
}  # fmt: skip
BALANCED = {
    ("nsubj", "dependent"), ("obj", "head"), ("iobj", "head"), ("det", "dependent"),
    ("amod", "dependent"), ("case", "dependent"), ("aux", "dependent"), ("cop", "dependent"),
    ("advmod", "dependent"), ("obl", "head"), ("nmod", "head"), ("conj", "head"),
    ("mark", "dependent"), ("acl", "head"), ("pronoun", "antecedent"),
    ("pronoun-strict", "antecedent"), ("nominal", "antecedent"), ("nominal-strict", "antecedent"),
    ("proper", "antecedent"), ("proper-strict", "antecedent"), ("any", "mark"),
    ("stop", "mark"), ("comma", "mark"), ("quote", "mark"), ("bracket", "mark"),
    ("other", "mark"),
}  # fmt: skip
NEIGHBOURS = {"nsubj", "det", "obj", "iobj", "aux", "cop", "advmod"}
"""Relations whose words stand next to each other more often than not, as in any English text."""
CLOSED = {"det", "case", "aux", "cop", "mark", "any", "stop", "comma", "quote", "bracket", "other"}


@pytest.fixture(scope="module")
def generated() -> list[Document]:
    return load(GENERATED)


@pytest.fixture(scope="module")
def natural() -> list[Document]:
    return load([NATURAL])


@pytest.fixture(scope="module")
def table_rows(generated: list[Document], natural: list[Document]) -> dict[tuple[str, str], Row]:
    found = rows(generated + natural)
    print("\n" + table(found))
    return {(row.relation, row.looks_to): row for row in found}


def test_committed_files_equal_those_generated_from_the_seed() -> None:
    for name, text in all_files().items():
        assert (CONFIGS / name).read_text("utf-8") == text, name


def test_bundled_files_are_small() -> None:
    assert sum(p.stat().st_size for p in CONFIGS.rglob("*") if p.is_file()) < 3_000_000


def test_there_are_enough_sentences_and_templates(
    generated: list[Document], natural: list[Document]
) -> None:
    domains = Counter(d.comments["meta::genre"] for d in generated)
    templates = Counter(d.comments["template"] for d in generated)
    assert len(generated) >= 370 and sum(len(d.texts) for d in generated) >= 1200
    assert set(domains) == set(PASSAGES) and max(domains.values()) == min(domains.values())
    assert len(templates) >= 60 and max(templates.values()) == min(templates.values())
    assert len(natural) >= 40 and sum(len(d.texts) for d in natural) >= 150


def test_sentences_and_document_names_are_unique(
    generated: list[Document], natural: list[Document]
) -> None:
    texts = Counter(text for d in generated for text, _ in d.texts)
    assert [t for t, n in texts.items() if n > 1] == []
    names = Counter(d.name for d in generated + natural)
    assert max(names.values()) == 1


def test_words_rebuild_the_text(generated: list[Document], natural: list[Document]) -> None:
    for document in generated + natural:
        for text, rebuilt in document.texts:
            assert text == rebuilt, document.name
            assert "  " not in text and text == text.strip()
            assert text[-1] in '.?!"”’)', text


def test_trees_are_projective_and_use_known_relations(
    generated: list[Document], natural: list[Document]
) -> None:
    for document in generated + natural:
        assert set(document.roots) == {1}, document.name
        for word in document.words:
            place = (document.name, word.form, word.deprel)
            assert word.upos in UPOS and word.lemma, place
            assert word.deprel in DEPRELS or word.deprel in SUBTYPES, place
            assert (word.deprel == "root") == (word.head < 0), place
            if word.head < 0:
                continue
            head = document.words[word.head]
            assert head.sentence_start == word.sentence_start, place
            assert _reaches_root(document, word.at), place
            low, high = sorted((word.at, word.head))
            for between in document.words[low + 1 : high]:
                assert _dominated(document, between.at, word.head), ("not projective", place)


def test_dependents_and_heads_have_plausible_parts_of_speech(
    generated: list[Document], natural: list[Document]
) -> None:
    for document in generated + natural:
        for word in document.words:
            relation = word.deprel.split(":")[0]
            place = (document.name, word.form, word.deprel, document.words[word.head].form)
            if relation in DEPENDENT_UPOS:
                assert word.upos in DEPENDENT_UPOS[relation], place
            if relation in HEAD_UPOS:
                assert document.words[word.head].upos in HEAD_UPOS[relation], place
            if word.deprel == "cc" and document.words[word.head].deprel != "conj":
                assert word.at - word.sentence_start <= 2, place
            if relation in ("punct", "det", "aux", "cop", "mark"):
                assert not any(w.head == word.at and w.upos != "PUNCT" for w in document.words)


def test_mentions_have_a_head_inside_that_governs_them(
    generated: list[Document], natural: list[Document]
) -> None:
    for document in generated + natural:
        for mention in document.mentions:
            place = (document.name, document.words[mention.head].form)
            assert mention.start <= mention.head <= mention.end, place
            assert document.words[mention.head].upos in ("NOUN", "PROPN", "PRON", "NUM"), place
            for at in range(mention.start, mention.end + 1):
                assert _dominated(document, at, mention.head), place
            assert document.words[mention.start].upos != "ADP", place


def test_pronouns_agree_with_their_entity(
    generated: list[Document], natural: list[Document]
) -> None:
    for document in generated + natural:
        taken = entity_pronouns(document)
        entities = {m.entity for m in document.mentions}
        assert set(taken) == entities, document.name
        for mention in document.mentions:
            form = document.words[mention.head].form.lower()
            if form in PERSONAL:
                assert PERSONAL[form] == taken[mention.entity], (document.name, form)
        kinds = {(m.entity, m.etype) for m in document.mentions}
        assert len(kinds) == len(entities), document.name


def test_every_generated_third_person_pronoun_has_an_antecedent(generated: list[Document]) -> None:
    for document in generated:
        for mention in document.mentions:
            if document.words[mention.head].form.lower() in PERSONAL:
                earlier = [
                    m
                    for m in document.mentions
                    if m.entity == mention.entity and m.start < mention.start
                ]
                assert earlier, (document.name, document.words[mention.head].form)


@pytest.mark.parametrize("key", sorted(BALANCED))
def test_position_alone_does_not_predict_targets(
    key: tuple[str, str], table_rows: dict[tuple[str, str], Row]
) -> None:
    row = table_rows[key]
    assert row.n >= 200, row
    assert row.forms >= (1 if key[0] in CLOSED else 40), row
    assert row.offset < (0.7 if key[0] in NEIGHBOURS else 0.5) and row.start < 0.5, row


def test_the_pronoun_itself_decides_between_most_but_not_all_rivals(
    generated: list[Document],
) -> None:
    count = cues(generated)
    assert 0.7 < count["before"] / sum(count.values()) < 0.85, count


def test_winograd_pairs_occur_with_both_endings(natural: list[Document]) -> None:
    found = {}
    for document in natural:
        for wording in ("tired", "wide"):
            sentence = f"The animal didn't cross the street because it was too {wording}."
            if document.texts[0][0] == sentence:
                pronoun = next(m for m in document.mentions if document.words[m.head].form == "it")
                first = next(m for m in document.mentions if m.entity == pronoun.entity)
                found[wording] = document.words[first.head].form
    assert found == {"tired": "animal", "wide": "street"}


def test_every_class_of_marks_occurs_in_its_natural_forms(generated: list[Document]) -> None:
    marks = {w.form for d in generated for w in d.words if w.upos == "PUNCT"}
    assert {".", "!", "?", ",", '"', "“", "”", "‘", "’", "(", ")", ";", ":", "–"} <= marks
    assert all(any(m in characters for m in marks) for characters in MARK_CLASSES.values())


@pytest.mark.parametrize("phenomenon", ["agreement", "reflexive", "pronoun"])
def test_pairs_differ_in_one_word_and_are_balanced(phenomenon: str) -> None:
    lines = (CONFIGS / "pairs" / f"{phenomenon}.jsonl").read_text("utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    assert len(pairs) == 200 and len({p["good"] for p in pairs}) == 200
    for pair in pairs:
        good, bad = pair["good"].split(), pair["bad"].split()
        different = [(g, b) for g, b in zip(good, bad, strict=True) if g != b]
        assert [tuple(w.strip(".,?") for w in d) for d in different] == [
            (pair["critical"], pair["rival"])
        ], pair
        assert pair["cue"].lower() in pair["good"].lower()
        assert pair["distractor"].lower() in pair["good"].lower()
    critical = Counter(p["critical"] for p in pairs)
    templates = Counter(p["template"] for p in pairs)
    assert max(critical.values()) <= 1.2 * min(critical.values()) or phenomenon == "pronoun"
    assert max(templates.values()) <= 1.2 * min(templates.values())
    assert len(templates) >= 20


def test_pronoun_pairs_are_balanced_by_template() -> None:
    """A bias for one gender, or for the person named first or last, is worth nothing."""
    lines = (CONFIGS / "pairs" / "pronoun.jsonl").read_text("utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    genders = Counter((p["template"], p["critical"] in ("he", "him", "his")) for p in pairs)
    assert len(genders) == 100 and set(genders.values()) == {2}
    cue_first = Counter(p["good"].index(p["cue"]) < p["good"].index(p["distractor"]) for p in pairs)
    assert cue_first == {True: 100, False: 100}
    for pair in pairs:
        before = re.split(rf"\b{pair['critical']}\b", pair["good"])[0]
        assert pair["cue"] in before and pair["distractor"] in before, pair


def _reaches_root(document: Document, at: int) -> bool:
    for _ in range(len(document.words)):
        at = document.words[at].head
        if at < 0:
            return True
    return False


def _dominated(document: Document, at: int, by: int) -> bool:
    while at >= 0:
        if at == by:
            return True
        at = document.words[at].head
    return False
