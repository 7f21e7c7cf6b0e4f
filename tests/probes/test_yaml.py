"""Probe sets that people write, and what they get wrong."""

import pytest

from headprobe.errors import HeadprobeError
from headprobe.probes.document import DeclaredLink
from headprobe.probes.passages import sentence_text
from headprobe.probes.yaml import read_probe_set
from headprobe.vocabulary import Relation

PRONOUN = Relation("coreference", "pronoun", "antecedent")


def documents_of(write, notes, text):
    return list(read_probe_set(write(text, "set.yaml"), notes.append))


def test_a_yaml_item_has_a_sentence_a_relation_and_a_link(write, notes):
    (document,) = documents_of(write, notes, """
- text: The animal didn't cross the street because it was too tired.
  relation: pronoun
  link: it -> animal
""")  # fmt: skip
    assert document.declared == (DeclaredLink(PRONOUN, 7, (1,)),)
    assert sentence_text(document.sentences[0]).endswith("it was too tired.")
    assert (document.id, document.cluster, document.domain) == ("set-1", "set-1", "set")
    assert (document.source, document.annotated) == ("set.yaml:2", True)


def test_several_sentences_links_targets_and_occurrences(write, notes):
    (document,) = documents_of(write, notes, """
- sentences:
    - The cat saw a dog, and the dog saw it.
    - It ran.
  document: cats
  domain: fables
  links:
    pronoun: [It -> cat, 'it -> cat, The']
    seen-again: dog#2 -> dog
    after-comma:
      - and -> ","
""")  # fmt: skip
    forms = [word.form for sentence in document.sentences for word in sentence.words]
    assert " ".join(forms) == "The cat saw a dog , and the dog saw it . It ran ."
    assert [(link.relation.name, link.query, link.targets) for link in document.declared] == [
        ("pronoun", 12, (1,)),
        ("pronoun", 10, (0, 1)),
        ("seen-again", 8, (4,)),
        ("after-comma", 6, (5,)),
    ]
    assert (document.cluster, document.domain) == ("cats", "fables")


def test_settings_of_the_header_apply_to_all_items(write, notes):
    documents = documents_of(write, notes, """
name: swaps
about: Who sees whom.
domain: made
family: user
looks_to: seen
scope: sentence
relation: pronoun
items:
  - {text: Ann saw Bob., link: Bob -> Ann}
  - {text: Ann saw Eve., link: Eve -> Ann, looks_to: seer, domain: own}
  - text: Just a sentence.
""")  # fmt: skip
    assert [document.id for document in documents] == ["swaps-1", "swaps-2", "swaps-3"]
    assert [document.domain for document in documents] == ["made", "own", "made"]
    assert documents[0].declared[0].relation == Relation("user", "pronoun", "seen", "sentence")
    assert documents[1].declared[0].relation.looks_to == "seer"
    assert documents[2].declared == ()


@pytest.mark.parametrize(
    ("lines", "relation"),
    [
        ("relation: nominal", Relation("coreference", "nominal", "antecedent")),
        (
            "relation: proper\n  looks_to: antecedent",
            Relation("coreference", "proper", "antecedent"),
        ),
        ("relation: proper\n  looks_to: twin", Relation("user", "proper", "twin")),
        ("relation: my.rel", Relation("user", "my.rel", "target")),
        ("relation: x\n  scope: sentence", Relation("user", "x", "target", "sentence")),
        (
            "relation: obj\n  family: syntax\n  looks_to: head",
            Relation("syntax", "obj", "head", "sentence"),
        ),
    ],
)
def test_settings_of_a_relation_are_given_or_implied(write, notes, lines, relation):
    (document,) = documents_of(write, notes, f"- text: a b\n  link: b -> a\n  {lines}\n")
    assert document.declared == (DeclaredLink(relation, 1, (0,)),)


@pytest.mark.parametrize(
    ("text", "line", "what", "remedy"),
    [
        ("- text: a b\n  relation: x\n  link: a -> b", 3, "looks forward: 'b'", "later word"),
        ("- text: a b\n  relation: x\n  link: a -> a", 3, "looks forward", "later word"),
        ("- text: a b a\n  relation: x\n  link: a -> b", 3, "looks forward", "Write a#2"),
        ("- text: the cat\n  relation: x\n  link: cat -> teh", 3, "'teh' is not in",
         "Did you mean the?"),
        ('- text: "\\e[b"\n  relation: x\n  link: b -> x', 3, "'x' is not in", r"'\x1b', [, b"),
        ("- text: a b\n  relation: x\n  link: b -> a#2", 3, "no 'a#2'", "has 1 of 'a'"),
        ("- text: a b\n  relation: x\n  link: b a", 3, "'b a' is not a link", "->"),
        ("- text: a b\n  relation: x\n  link: b -> ", 3, "is not a link", "->"),
        ("- text: a b\n  relation: x\n  link: b -> a -> a", 3, "is not a link", "->"),
        ("- text: a b\n\n  relatoin: x", 3, "'relatoin' is unknown",
         "Did you mean relation or twin or link?"),
        ("nam: x\nitems: []", 1, "'nam' is unknown", "Did you mean name?"),
        ("- text: a b\n  relation: 1x\n  link: b -> a", 2, "'1x' is not a valid name", "letters"),
        ("- text: a b\n  relation: '=x'\n  link: b -> a", 2, "'=x' is not a valid name", "letters"),
        ("- text: a b\n  family: usr\n  relation: x\n  link: b -> a", 2, "valid family", "user"),
        ("- text: a b\n  scope: all\n  relation: x\n  link: b -> a", 2, "valid scope", "passage"),
        ("- text: a b\n  family: syntax\n  relation: x\n  link: b -> a", 3, "looks_to", "head"),
        ("- text: a b\n  family: coreference\n  relation: pronuon\n  link: b -> a", 3, "valid core",
         "Did you mean pronoun?"),
        ("- sentences: [a, b]\n  scope: sentence\n  relation: x\n  link: b -> a", 4, "different",
         "scope"),
        ("- text: a b\n  link: b -> a", 1, "without a relation", "relation: pronoun"),
        ("- text: a b\n  relation: x", 1, "without a link", "link: later"),
        ("- text: a\n  sentences: [a]", 1, "both", "Write one"),
        ("- link: b -> a", 1, "without 'text'", "Write one"),
        ("- sentences: a", 1, "not a list", "after '- '"),
        ("- sentences: []", 1, "not a list", "after '- '"),
        ("- text: [a]", 1, "'text' is not text", "on one line"),
        ("- text: ''", 1, "'text' is not text", "on one line"),
        ("- text: a\n  relation: x\n  links: a -> b", 3, "'links' is not a list", "link"),
        ("- a", 1, "not a probe", "- text"),
        ("text: a", 1, "a probe outside a list", "- text"),
        ("name: a", 1, "without 'items'", "items"),
        ("hello", 1, "not a list of probes", "- text"),
        ("", 1, "not a list of probes", "- text"),
        ("- text: a\n  text: b", 2, "is repeated", "Keep one"),
        ("- text: a: b", 1, "not valid YAML", "quotes"),
        ("- text: a\n  ? [x]\n  : y", 2, "not text", "key"),
        ("- &a text\n- *a", 2, "a YAML alias", "Write the value out"),
        ("- text: a\n---\n- text: b", 2, "second YAML document", "one document per file"),
        ("- text: a\n- text: 'b\x00'", 2, "YAML forbids", "Remove it"),
        ("[" * 100_000, 1, "nested too deeply", "20 levels"),
        ("- !!python/object/apply:os.system ['x']", 1, "not a probe", "- text"),
        (b"- text: \xff", 1, "not UTF-8", "UTF-8"),
    ],
)  # fmt: skip
def test_errors_name_their_line(write, text, line, what, remedy):
    file = write(text, "set.yaml")
    with pytest.raises(HeadprobeError) as caught:
        list(read_probe_set(file, [].append))
    assert caught.value.where == f"{file.path}:{line}"
    assert what in caught.value.what
    assert remedy in caught.value.remedy
    assert str(caught.value).isprintable()
