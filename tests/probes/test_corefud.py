"""Entity brackets: nested, discontinuous, across sentences, and broken."""

import pytest

from headprobe.probes.conllu import read_conllu
from headprobe.probes.corefud import MentionReader, field_order
from headprobe.probes.document import Mention

GUM = field_order("GRP-etype-infstat-salience-centering-minspan-link-identity")
CORE = field_order("eid-etype-head-other")


def mentions_of(order, notes, *brackets, empty=()):
    """Mentions of a document whose word i has the i-th brackets; ``empty`` places are no words."""
    reader = MentionReader(order, notes.append)
    words = iter(range(len(brackets)))
    reader.add_nodes([None if i in empty else next(words) for i in range(len(brackets))])
    for place, text in enumerate(brackets):
        reader.read(text, place, f"f:{place + 1}")
    return list(reader.finish())


def test_nested_and_several_on_a_word(notes):
    found = mentions_of(
        GUM,
        notes,
        "(1-person-new-nnnnn-cf1-1,2-coref",
        "(2-place-new-nnnnn-cf2-1-sgl)(3-object-new-nnnnn-cf3-1-sgl",
        "",
        "3)1)",
    )
    assert found == [
        Mention("1", (0, 1, 2, 3), 0),
        Mention("2", (1,), 1),
        Mention("3", (1, 2, 3), 1),
    ]
    assert notes == []


def test_head_from_minspan_head_field_or_last_word(notes):
    assert mentions_of(GUM, notes, "(1-a-n-s-c-2,3-coref", "", "1)")[0].head == 1
    assert mentions_of(CORE, notes, "(e1-a-2-x", "", "e1)")[0].head == 1
    assert mentions_of(("eid", "etype"), notes, "(e1-a", "", "e1)")[0].head == 2
    assert mentions_of(CORE, notes, "(e1", "", "e1)")[0].head == 2
    assert notes == []


def test_a_head_outside_the_mention_is_noted(notes):
    assert mentions_of(CORE, notes, "(e1-a-7-", "e1)")[0].head == 1
    assert mentions_of(CORE, notes, "(e1-a-²-", "e1)")[0].head == 1
    assert [note.source for note in notes] == ["f:1", "f:1"]


def test_only_the_last_field_holds_hyphens(notes):
    found = mentions_of(GUM, notes, "(1-person-giv-s-c-2-coref-Jean-Paul-Sartre", "1)")
    assert found == [Mention("1", (0, 1), 1)]


def test_parts_of_a_discontinuous_mention_are_one(notes):
    found = mentions_of(
        CORE, notes, "(e5[1/2]-person-3-)", "(e6-x-1-)", "(e5[2/2]-person-3-", "", "e5[2/2])"
    )
    assert found == [Mention("e6", (1,), 1), Mention("e5", (0, 2, 3, 4), 3)]
    assert notes == []


def test_same_entity_nested_closes_inside_out(notes):
    found = mentions_of(CORE, notes, "(e1-a-1-", "(e1-a-1-", "e1)", "e1)")
    assert found == [Mention("e1", (0, 1, 2, 3), 0), Mention("e1", (1, 2), 1)]


def test_empty_nodes_count_as_places_but_are_no_words(notes):
    found = mentions_of(CORE, notes, "(e1-a-3-", "", "", "e1)(e2-a-1-)", empty=(1,))
    assert found == [Mention("e1", (0, 1, 2), 1), Mention("e2", (2,), 2)]
    assert mentions_of(CORE, notes, "(e3-a-1-)", empty=(0,)) == []
    assert [note.reason for note in notes] == ["it covers empty nodes only"]


@pytest.mark.parametrize(
    "brackets",
    [
        ("(e1-a-1-", ""),
        ("e1)",),
        ("x",),
        ("(e1[1/2]-a-1-)", ""),
        ("(e1[2/2]-a-1-", ""),
        ("(-a-1-)",),
        (")",),
        ("(",),
    ],
)
def test_what_does_not_pair_is_noted_once(notes, brackets):
    found = mentions_of(CORE, notes, *brackets, "(ok-a-1-)")
    assert [mention.entity for mention in found] == ["ok"]
    assert len(notes) == 1
    assert notes[0].what == "mention"
    assert notes[0].source.startswith("f:")


def test_mentions_cross_sentences_and_know_their_lines(write, notes):
    file = write(
        "# newdoc id = d\n# global.Entity = eid-etype-head-other\n"
        "1 | a | _ | X | _ | _ | 0 | root | _ | Entity=(e1-x-1-\n\n"
        "# sent_id = 2\n"
        "1-2 | bc | _ | _ | _ | _ | _ | _ | _ | _\n"
        "1 | b | _ | X | _ | _ | 0 | root | _ | X=(|Entity=e1)(e2-x-1-\n"
        "2 | c | _ | X | _ | _ | 1 | dep | _ | Entity=e3)|SpaceAfter=No\n"
    )
    (document,) = read_conllu(file, notes.append)
    assert document.mentions == (Mention("e1", (0, 1), 0),)
    assert sorted(note.source for note in notes) == ["set.conllu:7", "set.conllu:8"]


def test_brackets_on_empty_nodes_are_read(write, notes):
    file = write(
        "# newdoc id = d\n"
        "1 | a | _ | X | _ | _ | 0 | root | _ | _\n"
        "1.1 | _ | _ | PRON | _ | _ | _ | _ | _ | Entity=(e1-x-2-\n"
        "2 | b | _ | X | _ | _ | 1 | dep | _ | Entity=e1)\n"
    )
    (document,) = read_conllu(file, notes.append)
    assert document.mentions == (Mention("e1", (1,), 1),)
