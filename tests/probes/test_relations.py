"""Links and classes, as docs/method.md defines them."""

import pytest

from headprobe.probes.document import DeclaredLink, Link, Mention, Sentence, Surface, Word
from headprobe.probes.relations import (
    MAKERS,
    Excerpt,
    coreference,
    declared,
    make_relations,
    punctuation,
    syntax,
    word_classes,
)
from headprobe.vocabulary import Relation

PRONOUN = Relation("coreference", "pronoun", "antecedent")
PRONOUN_STRICT = Relation("coreference", "pronoun-strict", "antecedent", strict=True)


def sentence(*words: Word) -> Sentence:
    surfaces = tuple(Surface(word.form, i, i) for i, word in enumerate(words))
    return Sentence(words, surfaces, "f:1")


def upos(text: str) -> Sentence:
    """A sentence without a tree from ``form/UPOS`` pairs."""
    return sentence(*(Word(*pair.rsplit("/", 1)) for pair in text.split()))


def edge(name: str, looks_to: str, query: int, *targets: int) -> Link:
    return Link(Relation("syntax", name, looks_to, "sentence"), query, targets)


def test_the_query_of_an_edge_is_its_later_word():
    first = sentence(
        Word("old", "ADJ", 2, "amod"),
        Word("grey", "ADJ", 2, "amod:x"),
        Word("cats", "NOUN", 3, "nsubj:pass"),
        Word("sleep", "VERB", None, "root"),
        Word("here", "ADV", 3, "advmod"),
        Word("now", "ADV", 3, "advmod"),
        Word(".", "PUNCT", 3, "punct"),
    )
    second = sentence(Word("the", "DET", 1, "det"), Word("end", "NOUN", None, "root"))
    assert set(syntax(Excerpt((first, second))).links) == {
        edge("amod", "dependent", 2, 0, 1),
        edge("nsubj", "dependent", 3, 2),
        edge("advmod", "head", 4, 3),
        edge("advmod", "head", 5, 3),
        edge("det", "dependent", 8, 7),
    }


def test_sentences_without_a_tree_have_no_syntax():
    assert syntax(Excerpt((upos("a/X b/X"),))).links == ()


def test_every_word_of_every_earlier_mention_is_a_target():
    words = upos("the/DET cat/NOUN saw/VERB itself/PRON and/CCONJ it/PRON purred/VERB")
    mentions = (Mention("c", (0, 1), 1), Mention("c", (3,), 3), Mention("c", (5,), 5))
    assert coreference(Excerpt((words,), mentions)).links == (
        Link(PRONOUN, 3, (0, 1), "c"),
        Link(PRONOUN_STRICT, 3, (0, 1), "c"),
        Link(PRONOUN, 5, (0, 1, 3), "c"),
        Link(PRONOUN_STRICT, 5, (0, 1, 3), "c"),
    )


def test_strict_relations_omit_words_of_the_same_form():
    words = upos("It/PRON saw/VERB it/PRON or/CCONJ thing/NOUN of/ADP it/PRON as/ADP it/PRON")
    mentions = (
        Mention("x", (0,), 0),
        Mention("x", (1, 2), 2),
        Mention("x", (4, 5, 6), 4),
        Mention("x", (8,), 8),
    )
    links = {link for link in coreference(Excerpt((words,), mentions)).links if link.query == 8}
    assert links == {
        Link(PRONOUN, 8, (0, 1, 2, 4, 5, 6), "x"),
        Link(PRONOUN_STRICT, 8, (4, 5), "x"),
    }
    only_it = coreference(Excerpt((words,), (mentions[0], mentions[3]))).links
    assert only_it == (Link(PRONOUN, 8, (0,), "x"),)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("PRON", "pronoun"),
        ("DET", "pronoun"),
        ("PROPN", "proper"),
        ("NOUN", "nominal"),
        ("", "nominal"),
    ],
)
def test_the_anaphor_names_the_relation(tag, name):
    words = sentence(Word("a"), Word("b", tag))
    links = coreference(Excerpt((words,), (Mention("e", (0,), 0), Mention("e", (1,), 1)))).links
    assert [link.relation.name for link in links] == [name, f"{name}-strict"]


def test_an_antecedent_ends_before_the_anaphor_inside_the_passage():
    words = upos("a/X b/X c/X d/X")
    around = Mention("e", (0, 1, 2), 0)
    before = Mention("e", (-2, -1, 0), 0)
    assert coreference(Excerpt((words,), (around, Mention("e", (1,), 1)))).links == ()
    assert coreference(Excerpt((words,), (before, Mention("e", (3,), 3)))).links == ()
    outer = (Mention("e", (0,), 0), Mention("e", (2, 3, 4, 5), 2))
    assert coreference(Excerpt((words,), outer)).links[0].query == 2


def test_mentions_of_one_entity_with_one_head_are_one_instance():
    words = upos("a/X b/X c/X d/X")
    mentions = (Mention("e", (0,), 0), Mention("e", (2,), 2), Mention("e", (2, 3), 2))
    other = (Mention("f", (1,), 1), Mention("f", (2,), 2))
    plain = [
        link
        for link in coreference(Excerpt((words,), mentions + other)).links
        if not link.relation.strict
    ]
    assert [(link.query, link.targets) for link in plain] == [(2, (0,)), (2, (1,))]


def test_marks_by_class():
    words = upos("“/PUNCT Yes/INTJ ,/PUNCT sir/NOUN ./PUNCT ”/PUNCT $/SYM ♥/PUNCT ./SYM")
    classes = punctuation(Excerpt((words,))).classes
    assert {relation.name: places for relation, places in classes.items()} == {
        "any": (0, 2, 4, 5, 7),
        "quote": (0, 5),
        "comma": (2,),
        "stop": (4,),
        "other": (7,),
    }
    assert all(relation.every and relation.scope == "passage" for relation in classes)


def test_words_by_class():
    words = upos("Ann/PROPN saw/VERB a/DET small/ADJ dog/NOUN and/CCONJ was/AUX happy/ADJ ./PUNCT")
    classes = word_classes(Excerpt((words,))).classes
    assert {relation.name: places for relation, places in classes.items()} == {
        "noun": (0, 4),
        "verb": (1,),
        "adjective": (3, 7),
    }
    assert {(each.family, each.looks_to, each.every, each.scope) for each in classes} == {
        ("word-class", "word", True, "passage")
    }
    assert not word_classes(Excerpt((upos("Yes/INTJ"),))).classes


def test_declared_coreference_gets_its_strict_version():
    words = upos("It/X saw/X dog/X and/X it/X")
    user = Relation("user", "sees", "target", "sentence")
    links = declared(
        Excerpt((words,), (), (DeclaredLink(user, 2, (1,)), DeclaredLink(PRONOUN, 4, (0, 2))))
    ).links
    assert links == (
        Link(user, 2, (1,)),
        Link(PRONOUN, 4, (0, 2)),
        Link(PRONOUN_STRICT, 4, (2,)),
    )


def test_every_maker_is_called(monkeypatch):
    relation = Relation("user", "echo", "copy")
    monkeypatch.setitem(MAKERS, "echo", declared)
    excerpt = Excerpt((upos("a/X a/X"),), (), (DeclaredLink(relation, 1, (0,)),))
    links = [link for link in make_relations(excerpt).links if link.relation.family == "user"]
    assert links == [Link(relation, 1, (0,))] * 2
