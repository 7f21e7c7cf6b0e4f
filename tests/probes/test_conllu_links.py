"""Links of a user's own in the MISC column."""

import pytest

from headprobe.errors import HeadprobeError
from headprobe.probes.conllu import read_conllu
from headprobe.probes.document import DeclaredLink
from headprobe.probes.passages import cut_passages
from headprobe.probes.yaml import read_probe_set
from headprobe.vocabulary import Relation

NEGATION = Relation("user", "negation", "target")


def sentence(*misc: str, comment: str = "") -> str:
    """A sentence of one-letter words with these MISC columns; its first word stands in line 2."""
    rows = (f"{i} | {'abcdefgh'[i - 1]} | " + "_ | " * 7 + m for i, m in enumerate(misc, start=1))
    return f"# {comment or 'text = x'}\n" + "\n".join(rows) + "\n\n"


def test_links_in_misc_become_declared_relations(write, notes):
    text = (
        "# newdoc id = d\n"
        + sentence("_", "_", "Link=negation:1")
        + sentence(
            "_", "SpaceAfter=No|Link=negation:1", "Link=scope:2,negation:2, negation:1|Gloss=Link=x"
        )
    )
    (document,) = read_conllu(write(text), notes.append)
    assert document.declared == (
        DeclaredLink(NEGATION, 2, (0,)),
        DeclaredLink(NEGATION, 4, (3,)),
        DeclaredLink(Relation("user", "scope", "target"), 5, (4,)),
        DeclaredLink(NEGATION, 5, (3, 4)),
    )
    assert notes == []


def test_a_comment_sets_looks_to_and_scope(write, notes):
    comment = "global.Link = negation looks_to:cue scope:sentence; pronoun scope:sentence"
    text = sentence("_", "Link=negation:1", comment=comment) + sentence("_", "Link=pronoun:1")
    first, second = read_conllu(write(text), notes.append)
    assert first.declared[0].relation == Relation("user", "negation", "cue", "sentence")
    assert second.declared[0].relation == Relation("user", "pronoun", "target", "sentence")


def test_multiword_tokens_and_empty_nodes_do_not_shift_the_words(write, notes):
    text = (
        "1-2 | didn't" + " | _" * 8 + "\n1 | did" + " | _" * 8 + "\n2 | n't" + " | _" * 8 + "\n"
        "2.1 | so" + " | _" * 8 + "\n3 | see" + " | _" * 7 + " | Link=negation:2\n\n"
    )
    (document,) = read_conllu(write(text), notes.append)
    assert document.declared == (DeclaredLink(NEGATION, 2, (1,)),)


def test_both_formats_give_the_same_links(write, notes):
    columns = " | _" * 7
    rows = [("The", "_"), ("dog", "_"), ("did", "_"), ("not", "_"), ("see", "Link=negation:4")]
    conllu = "".join(f"{i} | {f}{columns} | {m}\n" for i, (f, m) in enumerate(rows, start=1))
    yaml = "- text: The dog did not see\n  relation: negation\n  link: see -> not\n"
    (one,) = read_conllu(write(conllu + "\n"), notes.append)
    (two,) = read_probe_set(write(yaml, "set.yaml"), notes.append)
    passages = [
        passage
        for document in (one, two)
        for passage in cut_passages(
            document, lambda texts: [len(text) for text in texts], 100, notes.append
        )
    ]
    links = [[link for link in each.links if link.relation.family == "user"] for each in passages]
    assert links[0] == links[1]
    assert [(link.query, link.targets) for link in links[0]] == [(4, (3,))]


@pytest.mark.parametrize(
    ("misc", "line", "what"),
    [
        ("Link=negation", 3, "'negation' is not a link. Write Link=relation:ID"),
        ("Link=", 3, "'' is not a link"),
        ("Link=negation:1,", 3, "'' is not a link"),
        ("Link=negation:one", 3, "'negation:one' is not a link"),
        ("Link=negation:1.1", 3, "'negation:1.1' is not a link"),
        ("Link=negation:4", 3, "there is no word 4 to link to. The words of the sentence have IDs"),
        ("Link=negation:0", 3, "there is no word 0"),
        ("Link=negation:99999999999999", 3, "there is no word 99999999999999"),
        ("Link=negation:3", 3, "looks forward: 'c' (3) does not come before 'b' (2)"),
        ("Link=negation:2", 3, "looks forward: 'b' (2) does not come before 'b' (2)"),
        ("Link=3:1", 3, "'3' is not a valid name"),
    ],
)
def test_an_invalid_link_is_an_error_with_its_line(write, notes, misc, line, what):
    with pytest.raises(HeadprobeError) as error:
        list(read_conllu(write(sentence("_", misc, "_")), notes.append))
    assert f"set.conllu:{line}: " in str(error.value)
    assert what in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("comment", "what"),
    [
        ("global.Link = negation scop:sentence", "'scop' is unknown. Did you mean scope?"),
        ("global.Link = negation scope:document", "'document' is not a valid scope"),
        ("global.Link = negation looks_to:", "'' is not a valid name"),
        ("global.Link = negation;", "'' is not a valid name"),
    ],
)
def test_an_invalid_comment_is_an_error_with_its_line(write, notes, comment, what):
    with pytest.raises(HeadprobeError) as error:
        list(read_conllu(write("# text = y\n" + sentence("_", comment=comment)), notes.append))
    assert "set.conllu:2: " in str(error.value)
    assert what in str(error.value)


def test_an_undeclared_relation_is_an_error_if_others_are_declared(write, notes):
    comment = "global.Link = negation looks_to:cue; pronoun"
    text = sentence("_", "Link=pronoun:1", comment=comment) + sentence("_", "Link=negaton:1")
    documents = read_conllu(write(text), notes.append)
    assert next(documents).declared[0].relation == Relation("user", "pronoun", "target")
    with pytest.raises(HeadprobeError) as error:
        next(documents)
    assert str(error.value).endswith(
        "set.conllu:7: the relation 'negaton' is not declared. "
        "Declare it in # global.Link. Did you mean negation?"
    )


def test_a_link_on_a_multiword_token_is_refused(write, notes):
    text = "1 | a" + " | _" * 8 + "\n2-3 | bc" + " | _" * 7 + " | Link=r:1\n"
    text += "2 | b" + " | _" * 8 + "\n3 | c" + " | _" * 8 + "\n\n"
    with pytest.raises(
        HeadprobeError, match=r"set.conllu:2: a Link on a token that is not a single word"
    ):
        list(read_conllu(write(text), notes.append))
