"""Passages: exact text, exact characters, every sentence once and in order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from headprobe.probes.document import (
    DeclaredLink,
    Document,
    Link,
    Mention,
    Sentence,
    Surface,
    Word,
)
from headprobe.probes.passages import cut_passages, sentence_text
from headprobe.probes.relations import WORD_CLASSES
from headprobe.vocabulary import WORD_CLASS, Relation

FORMS = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=6
) | st.sampled_from(["it", "n't", ".", "<s>", "=1+1"])
TAGS = st.sampled_from(["", "NOUN", "PRON", "PROPN", "PUNCT", "DET"])


@st.composite
def sentences(draw) -> Sentence:
    words: list[Word] = []
    surfaces: list[Surface] = []
    size = draw(st.integers(1, 6))
    while len(words) < size:
        first = len(words)
        parts = draw(st.lists(FORMS, min_size=1, max_size=3))
        form = "".join(parts)
        if len(parts) > 1 and draw(st.booleans()):
            form = draw(FORMS)
        words += [Word(part, draw(TAGS)) for part in parts]
        surfaces.append(Surface(form, first, len(words) - 1, draw(st.booleans())))
    heads = draw(
        st.lists(
            st.none() | st.integers(0, len(words) - 1), min_size=len(words), max_size=len(words)
        )
    )
    tree = (
        Word(word.form, word.upos, None if head == i else head, "dep:x")
        for i, (word, head) in enumerate(zip(words, heads, strict=True))
    )
    return Sentence(tuple(tree), tuple(surfaces), f"f:{draw(st.integers(1, 10**6))}")


@st.composite
def documents(draw) -> Document:
    found = draw(st.lists(sentences(), min_size=1, max_size=6))
    length = sum(len(sentence.words) for sentence in found)
    mentions = []
    for _ in range(draw(st.integers(0, 6))):
        words = sorted(draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=4)))
        head = draw(st.sampled_from(words))
        mentions.append(Mention(draw(st.sampled_from("ab")), tuple(words), head))
    declared = []
    if length > 1:
        query = draw(st.integers(1, length - 1))
        targets = draw(st.sets(st.integers(0, query - 1), min_size=1, max_size=3))
        declared.append(DeclaredLink(Relation("user", "r", "t"), query, tuple(sorted(targets))))
    return Document("d", "g", tuple(found), "f:1", tuple(mentions), tuple(declared), "d")


def count_characters(texts):
    return [len(text) for text in texts]


def count_joins_dearly(texts):
    """Two tokens a word, three where a space comes before it: the whole is more than its parts."""
    return [2 * len(text.split(" ")) + text.count(" ") for text in texts]


@settings(deadline=None)
@given(documents(), st.integers(1, 60), st.sampled_from([count_characters, count_joins_dearly]))
def test_passages_have_every_sentence_in_order_within_the_budget(document, budget, count):
    notes = []
    passages = list(cut_passages(document, count, budget, notes.append))
    texts = [sentence_text(sentence) for sentence in document.sentences]
    fitting = [text for text in texts if count([text])[0] <= budget]
    assert " ".join(passage.text for passage in passages) == " ".join(fitting)
    assert sum(note.what == "sentence" for note in notes) == len(texts) - len(fitting)
    assert all(count([passage.text])[0] <= budget for passage in passages)
    assert len({passage.id for passage in passages}) == len(passages)
    kept = [word.form for s, t in zip(document.sentences, texts, strict=True) if t in fitting
            for word in s.words]  # fmt: skip
    assert [word.form for passage in passages for word in passage.words] == kept


@settings(deadline=None)
@given(documents(), st.integers(1, 60))
def test_characters_spell_their_words(document, budget):
    for passage in cut_passages(document, count_characters, budget, lambda note: None):
        end = 0
        for word in passage.words:
            assert end <= word.start <= word.end <= len(passage.text)
            assert passage.text[word.start : word.end] in {word.form, ""}
            end = word.end
        numbers = [word.sentence for word in passage.words]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(numbers[-1] + 1))


@settings(deadline=None)
@given(documents(), st.integers(1, 60))
def test_every_target_precedes_its_query(document, budget):
    for passage in cut_passages(document, count_characters, budget, lambda note: None):
        for link in passage.links:
            assert link.targets == tuple(sorted(set(link.targets)))
            assert 0 <= link.targets[0] <= link.targets[-1] < link.query < len(passage.words)
            places = [*link.targets, link.query]
            if link.relation.scope == "sentence":
                assert len({passage.words[place].sentence for place in places}) == 1
            if link.relation.strict:
                form = passage.words[link.query].form.lower()
                assert form not in {passage.words[t].form.lower() for t in link.targets}
        for relation, places in passage.classes.items():
            tags = {"punctuation": {"PUNCT"}, WORD_CLASS: WORD_CLASSES.get(relation.name, set())}
            if relation.family not in tags:
                continue
            assert all(passage.words[place].upos in tags[relation.family] for place in places)


def plain(*texts: str, **more) -> Document:
    found = tuple(
        Sentence(
            tuple(Word(form, "PUNCT" if form == "." else "X") for form in text.split()),
            tuple(Surface(form, i, i) for i, form in enumerate(text.split())),
            f"f:{number}",
        )
        for number, text in enumerate(texts, start=1)
    )
    return Document("d", "g", found, "f:1", **more)


def count_words(texts):
    return [len(text.split()) for text in texts]


def test_no_passage_spans_a_skipped_sentence():
    notes = []
    passages = list(cut_passages(plain("a b", "c d e f g", "h", "i"), count_words, 4, notes.append))
    assert [(passage.id, passage.text) for passage in passages] == [("d-1", "a b"), ("d-2", "h i")]
    assert [(note.source, note.what, note.reason) for note in notes] == [
        ("f:2", "sentence", "longer than the 4 tokens that fit")
    ]
    assert passages[1].source == "f:3"


def test_a_sentence_over_the_budget_is_a_passage_if_it_fits_the_context():
    notes = []
    document = plain("a b", "c d e f g", "h", "i j k l m n")
    passages = list(cut_passages(document, count_words, 4, notes.append, 5))
    assert [passage.text for passage in passages] == ["a b", "c d e f g", "h"]
    assert [(note.source, note.reason) for note in notes] == [
        ("f:4", "longer than the 5 tokens that fit")
    ]


def test_links_across_passages_are_omitted():
    relation = Relation("user", "r", "t")
    document = plain(
        "a b", "c d", declared=(DeclaredLink(relation, 3, (0, 2)), DeclaredLink(relation, 2, (1,)))
    )
    both = [passage.links for passage in cut_passages(document, count_words, 4, lambda note: None)]
    assert [[(link.query, link.targets) for link in links] for links in both] == [
        [(2, (1,)), (3, (0, 2))]
    ]
    apart = list(cut_passages(document, count_words, 2, lambda note: None))
    found = [[(link.query, link.targets) for link in passage.links] for passage in apart]
    assert found == [[], [(1, (0,))]]
    assert [passage.cut_off for passage in apart] == [0, 1]


def test_anaphors_with_antecedents_before_the_passage_are_counted():
    places = (("e", 0), ("f", 2), ("e", 3), ("e", 5))
    mentions = tuple(Mention(entity, (word,), word) for entity, word in places)
    document = plain("it a", "b it", "c it", mentions=mentions)
    whole = list(cut_passages(document, count_words, 6, lambda note: None))
    assert [link.query for link in whole[0].links if not link.relation.strict] == [3, 5]
    for size, lost in ((6, 0), (4, 1), (2, 2)):
        passages = cut_passages(document, count_words, size, lambda note: None)
        assert sum(passage.cut_off for passage in passages) == lost


def test_plain_text_files_have_marks_and_copies():
    document = plain("The dog . the cat", "THE end .", annotated=False, from_text=True)
    (passage,) = cut_passages(document, count_words, 9, lambda note: None)
    same_word = Relation("repetition", "same-word", "copy")
    assert passage.links == (Link(same_word, 3, (0,)), Link(same_word, 5, (0, 3)))
    assert {r.name: words for r, words in passage.classes.items()} == {
        "any": (2, 7),
        "stop": (2, 7),
    }


def test_parsed_text_has_copies_beside_the_annotated_relations():
    document = plain("a a", from_text=True)
    (passage,) = cut_passages(document, count_words, 9, lambda note: None)
    assert [link.relation.name for link in passage.links] == ["same-word"]


def test_text_without_annotation_has_no_relations():
    passages = list(cut_passages(plain("a .", annotated=False), count_words, 9, lambda note: None))
    assert (passages[0].links, dict(passages[0].classes)) == ((), {})
    assert passages[0].cluster == "d"
