"""Conversion of ClearNLP labels to UD: structures by example, and trees stay trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headprobe.probes.annotator import build_sentence, label_scheme
from headprobe.probes.clearnlp import LABELS, MARKERS, RENAMED, ParsedToken, convert
from headprobe.probes.document import Surface
from headprobe.vocabulary import DEPRELS, UPOS


def tokens(text: str) -> list[ParsedToken]:
    """Read ``form/UPOS/label/head`` words; the head is a number from 1, 0 for the root."""
    parsed = []
    for word in text.split():
        form, upos, label, head = word.split("/")
        lemma = "be" if form in ("is", "was", "are", "be") else form.lower()
        parsed.append(ParsedToken(form, lemma, upos, int(head) - 1 if head != "0" else None, label))
    return parsed


def converted(text: str) -> str:
    edges = convert(tokens(text))
    return " ".join(f"{deprel}/{0 if head is None else head + 1}" for head, deprel in edges)


@pytest.mark.parametrize(
    ("clear", "ud"),
    [
        pytest.param(
            "She/PRON/nsubj/2 slept/VERB/ROOT/0 in/ADP/prep/2 the/DET/det/5 house/NOUN/pobj/3"
            " of/ADP/prep/5 Ann/PROPN/pobj/6",
            "nsubj/2 root/0 case/5 det/5 obl/2 case/7 nmod/5",
            id="prepositions become dependents of their objects",
        ),
        pytest.param(
            "She/PRON/nsubj/2 is/AUX/ROOT/0 not/PART/neg/2 a/DET/det/5 doctor/NOUN/attr/2"
            " in/ADP/prep/5 Rome/PROPN/pobj/6 now/ADV/advmod/2",
            "nsubj/5 cop/5 advmod/5 det/5 root/0 case/7 nmod/5 advmod/5",
            id="a nominal predicate",
        ),
        pytest.param(
            "He/PRON/nsubj/3 will/AUX/aux/3 be/AUX/ROOT/0 tired/ADJ/acomp/3 at/ADP/prep/3"
            " night/NOUN/pobj/5",
            "nsubj/4 aux/4 cop/4 root/0 case/6 obl/4",
            id="an adjectival predicate with an auxiliary",
        ),
        pytest.param(
            "He/PRON/nsubj/2 was/AUX/ROOT/0 a/DET/det/4 friend/NOUN/attr/2 on/ADP/prep/2"
            " Monday/PROPN/pobj/5",
            "nsubj/4 cop/4 det/4 root/0 case/6 obl/4",
            id="what modified the copula modifies the clause",
        ),
        pytest.param(
            "It/PRON/nsubj/2 is/AUX/ROOT/0 in/ADP/prep/2 town/NOUN/pobj/3",
            "nsubj/4 cop/4 case/4 root/0",
            id="a prepositional predicate",
        ),
        pytest.param(
            "There/PRON/expl/2 is/VERB/ROOT/0 a/DET/det/4 dog/NOUN/attr/2",
            "expl/2 root/0 det/4 nsubj/2",
            id="existential there",
        ),
        pytest.param(
            "It/PRON/nsubjpass/3 was/AUX/auxpass/3 seen/VERB/ROOT/0 by/ADP/agent/3 us/PRON/pobj/4",
            "nsubj:pass/3 aux:pass/3 root/0 case/5 obl:agent/3",
            id="passive",
        ),
        pytest.param(
            "He/PRON/nsubj/2 gave/VERB/ROOT/0 her/PRON/dative/2 books/NOUN/dobj/2 and/CCONJ/cc/4"
            " pens/NOUN/conj/4 and/CCONJ/cc/6 ink/NOUN/conj/6",
            "nsubj/2 root/0 iobj/2 obj/2 cc/6 conj/4 cc/8 conj/4",
            id="conjuncts attach to the first, conjunctions to the next",
        ),
        pytest.param(
            "He/PRON/nsubj/2 gave/VERB/ROOT/0 it/PRON/dobj/2 to/ADP/dative/2 me/PRON/pobj/4",
            "nsubj/2 root/0 obj/2 case/5 obl/2",
            id="a dative with a preposition",
        ),
        pytest.param(
            "He/PRON/nsubj/2 left/VERB/ROOT/0 without/ADP/prep/2 saying/VERB/pcomp/3"
            " it/PRON/dobj/4",
            "nsubj/2 root/0 mark/4 advcl/2 obj/4",
            id="a clause after a preposition",
        ),
        pytest.param(
            "in/ADP/prep/7 Rome/PROPN/pobj/1 and/CCONJ/cc/1 in/ADP/conj/1 Bonn/PROPN/pobj/4"
            " she/PRON/nsubj/7 slept/VERB/ROOT/0",
            "case/2 obl/7 cc/5 case/5 conj/2 nsubj/7 root/0",
            id="coordinated prepositions",
        ),
        pytest.param(
            "she/PRON/nsubj/2 wants/VERB/ROOT/0 to/PART/aux/4 be/AUX/xcomp/2 happy/ADJ/acomp/4",
            "nsubj/2 root/0 mark/5 cop/5 xcomp/2",
            id="the infinitive's to is a mark",
        ),
        pytest.param(
            "I/PRON/nsubj/2 want/VERB/ROOT/0 you/PRON/nsubj/5 to/PART/aux/5 stay/VERB/ccomp/2",
            "nsubj/2 root/0 obj/2 mark/5 xcomp/2",
            id="the subject of an infinitive is an object",
        ),
        pytest.param(
            "I/PRON/nsubj/2 let/VERB/ROOT/0 you/PRON/nsubj/4 stay/VERB/ccomp/2",
            "nsubj/2 root/0 obj/2 xcomp/2",
            id="an infinitive without to",
        ),
        pytest.param(
            "I/PRON/nsubj/2 think/VERB/ROOT/0 they/PRON/nsubj/4 stay/VERB/ccomp/2",
            "nsubj/2 root/0 nsubj/4 ccomp/2",
            id="the subject of a finite clause stays",
        ),
        pytest.param(
            "It/PRON/nsubj/2 rains/VERB/ccomp/5 ,/PUNCT/punct/5 he/PRON/nsubj/5 said/VERB/ROOT/0",
            "nsubj/2 root/0 punct/5 nsubj/5 parataxis/2",
            id="a verb of saying that follows",
        ),
        pytest.param(
            'It/PRON/nsubj/2 rains/VERB/ccomp/5 "/PUNCT/punct/5 he/PRON/nsubj/5 said/VERB/ROOT/0',
            "nsubj/2 ccomp/5 punct/5 nsubj/5 root/0",
            id="quoted speech stays an object",
        ),
        pytest.param(
            "all/DET/predet/3 her/PRON/poss/3 dogs/NOUN/nsubj/4 ran/VERB/ROOT/0 off/ADP/prt/4"
            " today/NOUN/npadvmod/4 who/PRON/nsubj/8 bark/VERB/relcl/3",
            "det:predet/3 nmod:poss/3 nsubj/4 root/0 compound:prt/4 obl:unmarked/4 nsubj/8"
            " acl:relcl/3",
            id="labels that are renamed",
        ),
    ],
)
def test_structures(clear: str, ud: str) -> None:
    assert converted(clear) == ud


def test_a_persons_name_is_headed_by_its_first_word() -> None:
    name = tokens(
        "Ms./PROPN/compound/3 Ada/PROPN/compound/3 Lovelace/PROPN/nsubj/4 wrote/VERB/ROOT/0"
    )
    name = [token._replace(person=7 if 0 < index < 3 else None) for index, token in enumerate(name)]
    assert convert(name) == [(1, "compound"), (3, "nsubj"), (1, "flat"), (None, "root")]


@st.composite
def trees(draw: st.DrawFn) -> list[ParsedToken]:
    """Any tree with any ClearNLP labels."""
    size = draw(st.integers(1, 9))
    order = draw(st.permutations(range(size)))
    heads: dict[int, int | None] = {order[0]: None}
    for place, word in enumerate(order[1:], start=1):
        heads[word] = order[draw(st.integers(0, place - 1))]
    return [
        ParsedToken(
            draw(st.sampled_from(["is", "there", "to", '"', "x"])),
            draw(st.sampled_from(["be", "x"])),
            draw(st.sampled_from(UPOS)),
            heads[index],
            "ROOT" if heads[index] is None else draw(st.sampled_from(sorted(LABELS - {"ROOT"}))),
            draw(st.sampled_from([None, 1])),
        )
        for index in range(size)
    ]


@given(trees())
def test_every_tree_becomes_a_tree_with_ud_relations(sentence: list[ParsedToken]) -> None:
    edges = convert(sentence)
    assert [deprel for head, deprel in edges if head is None] == ["root"]
    for start in range(len(edges)):
        seen, at = set(), edges[start][0]
        while at is not None:
            assert at not in seen
            seen.add(at)
            at = edges[at][0]
    assert {deprel.partition(":")[0] for _, deprel in edges} <= set(DEPRELS) - {""}


def test_every_label_has_a_ud_relation() -> None:
    for label in LABELS:
        (_, deprel) = convert(
            [ParsedToken("a", "a", "X", 1, label), ParsedToken("b", "b", "X", None, "ROOT")]
        )[0]
        assert deprel.partition(":")[0] in DEPRELS, label
    assert set(RENAMED) - {"ROOT"} <= MARKERS


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        (["ROOT", "nsubj", "dobj", "pobj", "prep"], "ClearNLP"),
        (["root", "nsubj:pass", "obj", "case"], "UD"),
        (["ROOT", "nsubj", "case", ""], "UD"),
        (["ROOT", "sb", "oa"], None),  # German TIGER labels
        (["ROOT", "dobj", "nmod:prep"], None),  # Stanford labels of Chinese
        (["ROOT", "nsubj", "<b>\x1b"], None),
    ],
)
def test_label_schemes_are_recognised(labels: list[str], scheme: str | None) -> None:
    if scheme is None:
        with pytest.raises(ValueError, match=r"oa, sb|dobj|x1b"):
            label_scheme(labels)
    else:
        assert label_scheme(labels) == scheme


def test_ud_labels_stay_and_unknown_parts_of_speech_are_dropped() -> None:
    sentence = [
        ParsedToken("Dogs", "dog", "NOUN", 1, "nsubj:pass"),
        ParsedToken("x", "x", "SPACE", None, "ROOT"),
    ]
    words, _ = build_sentence(sentence, [Surface("Dogs", 0, 0), Surface("x", 1, 1)], "UD")
    assert [(word.upos, word.head, word.deprel, word.lemma) for word in words] == [
        ("NOUN", 1, "nsubj:pass", "dog"),
        ("", None, "root", "x"),
    ]
