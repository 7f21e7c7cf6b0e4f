"""Accuracy of an annotator, on sentences where it can be counted by hand."""

import pytest

from headprobe.probes import parse_accuracy as module
from headprobe.probes.document import Sentence, Surface, Word
from headprobe.probes.parse_accuracy import parse_accuracy, sample_sentences

GOLD = Sentence(
    (
        Word("Dogs", "NOUN", 2, "nsubj"),
        Word("do", "AUX", 2, "aux"),
        Word("run", "VERB", None, "root"),
        Word("n't", "PART", 2, "advmod:neg"),
        Word(".", "PUNCT", 2, "punct"),
    ),
    (
        Surface("Dogs", 0, 0),
        Surface("do", 1, 1),
        Surface("run", 2, 2, False),
        Surface("n't", 3, 3, False),
        Surface(".", 4, 4),
    ),
    "a:1",
)


def parsed(*changes: tuple[int, Word]):
    words = list(GOLD.words)
    for index, word in changes:
        words[index] = word
    return lambda texts: [[(words, GOLD.surfaces)] for _ in texts]


def test_the_gold_itself_is_right_and_punctuation_does_not_count() -> None:
    accuracy = parse_accuracy([GOLD], parsed((4, Word(".", "SYM", 0, "dep"))))
    assert (accuracy.sentences, accuracy.words) == (1, 4)
    assert (accuracy.aligned, accuracy.upos, accuracy.uas, accuracy.las) == (1, 1, 1, 1)


def test_heads_labels_and_parts_of_speech_are_counted_apart() -> None:
    accuracy = parse_accuracy(
        [GOLD], parsed((0, Word("Dogs", "PROPN", 2, "obj")), (1, Word("do", "AUX", 0, "aux")))
    )
    assert (accuracy.upos, accuracy.uas, accuracy.las) == (0.75, 0.75, 0.5)


def test_subtypes_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_WORDS", 1)
    accuracy = parse_accuracy([GOLD], parsed((3, Word("n't", "PART", 2, "advmod"))))
    assert accuracy.las == 1
    assert accuracy.relations["advmod"] == 1


def test_words_align_by_their_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_WORDS", 1)
    # "runn't" as one word; the sentence is divided before it
    first = ((Word("Dogs", "NOUN", 1, "nsubj"), Word("do", "AUX", None, "root")), GOLD.surfaces[:2])
    second = (
        (Word("runn't", "VERB", None, "root"), Word(".", "PUNCT", 0, "punct")),
        (Surface("runn't", 0, 0, False), Surface(".", 1, 1)),
    )
    accuracy = parse_accuracy([GOLD], lambda texts: [[first, second]])
    assert (accuracy.words, accuracy.aligned, accuracy.upos) == (4, 0.5, 1)
    assert accuracy.uas == accuracy.las == 0
    # of nsubj one gold and one parsed word, none right; root: one and two
    assert accuracy.relations == {"advmod": 0, "aux": 0, "nsubj": 0, "root": 0}


def test_multiword_tokens_align_where_their_words_have_characters() -> None:
    surfaces = (*GOLD.surfaces[:2], Surface("runn't", 2, 3, False), GOLD.surfaces[4])
    joined = Sentence(GOLD.words, surfaces, "a:1")
    assert parse_accuracy([joined], parsed()).aligned == 1


def test_samples_are_seeded_and_take_from_all_groups() -> None:
    groups = [
        [Sentence(GOLD.words, GOLD.surfaces, f"{name}:{n}") for n in range(20)] for name in "ab"
    ]
    without_tree = Sentence((Word("x"),), (Surface("x", 0, 0),), "a:99")
    one = sample_sentences([[*groups[0], without_tree], groups[1]], 10)
    assert one == sample_sentences(groups, 10)
    assert [sum(s.source.startswith(name) for s in one) for name in "ab"] == [5, 5]
    assert one != sample_sentences(groups, 10, seed="other")
