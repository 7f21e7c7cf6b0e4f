"""Features of words, their tokens, and the selection of documents."""

from pathlib import Path
from random import Random

import pytest

from headprobe.batching.corpus import align
from headprobe.batching.encoder import Encoder
from headprobe.planted.checkpoint import UNKNOWN, build_tokenizer, split_words
from headprobe.planted.words import Lexeme, write_sample
from headprobe.probes.catalog import find_probe_files, read_documents
from headprobe.probes.passages import cut_passages


@pytest.mark.parametrize(
    ("form", "agrees", "pronoun", "cases"),
    [
        ("Anna", {"she", "I", "you"}, None, set()),
        ("doctor", {"she", "he", "I", "you"}, None, set()),
        ("dog", {"it"}, None, set()),
        ("volunteers", {"they"}, None, set()),
        ("Friday", set(), None, set()),
        ("the", set(), None, set()),
        ("saw", set(), None, set()),
        ("him", {"he"}, "he", {"accusative"}),
        ("her", {"she"}, "she", {"accusative", "possessive"}),
        ("My", {"I", "we"}, "I", {"possessive"}),
        ("who", set(), None, set()),
    ],
)
def test_features_of_a_word_are_the_same_everywhere(
    form: str, agrees: set[str], pronoun: str | None, cases: set[str], lexicon: list[Lexeme]
) -> None:
    (word,) = [word for word in lexicon if word.form == form]
    assert (word.agrees, word.pronoun, word.cases) == (agrees, pronoun, cases)


def test_nouns_outside_of_coreference_chains_are_also_candidates(lexicon: list[Lexeme]) -> None:
    """Else a feature would say which words are antecedents."""
    bare = [word.form for word in lexicon if word.upos in ("NOUN", "PROPN") and not word.agrees]
    assert {"week", "Friday", "night"} <= set(bare)
    assert len(bare) < 40


@pytest.mark.parametrize("adds_start", [True, False])
def test_every_bundled_word_has_its_own_tokens(adds_start: bool, lexicon: list[Lexeme]) -> None:
    forms = [word.form for word in lexicon]
    pieces = split_words(forms, 0.9, Random(3))  # noqa: S311
    assert len(pieces) > 100
    tokenizer = build_tokenizer(forms, pieces, adds_start=adds_start)
    encoder = Encoder(tokenizer, "planted")
    assert encoder.prepended is not adds_start
    for form in forms:
        written = tokenizer.convert_ids_to_tokens(
            tokenizer(form, add_special_tokens=False)["input_ids"]
        )
        assert tuple(written) == pieces.get(form, (form,))
    ignore = lambda _: None  # noqa: E731
    documents = read_documents(find_probe_files(()), ignore)
    passages = [
        p for each in documents for p in cut_passages(each, encoder.count, 500, ignore, 500)
    ]
    corpus = align(passages, encoder, ignore, seed=0)
    assert corpus.instances.usable.all()
    assert tokenizer.convert_tokens_to_ids(UNKNOWN) not in corpus.token_ids
    assert corpus.lengths.max() < 150  # distance is told apart up to pi / 2 of the slowest pair


def test_sample_consists_of_whole_documents(tmp_path: Path) -> None:
    files = find_probe_files(())
    write_sample(files, tmp_path / "sample", 0.3)
    for file in files:
        (copy,) = find_probe_files([str(tmp_path / "sample" / file.path.name)])
        everything = {document.id: document for document in read_documents([file], print)}
        taken = list(read_documents([copy], print))
        assert len(taken) == round(0.3 * len(everything))
        for document in taken:
            whole = everything[document.id]
            assert document.mentions == whole.mentions
            assert [s.words for s in document.sentences] == [s.words for s in whole.sentences]
            assert (document.cluster, document.domain) == (whole.cluster, whole.domain)
