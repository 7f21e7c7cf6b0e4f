"""The semantic set as the package's own reader sees it: links, rivals, places and twins."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

from headprobe.demo.grammar.build import SEED
from headprobe.demo.grammar.semantic import (
    PAIRS_FILE,
    Sense,
    load_senses,
    load_swaps,
    read_frames,
    write_semantic,
)
from headprobe.demo.grammar.tree import sounds_like_vowel
from headprobe.probes.conllu import read_conllu
from headprobe.probes.document import Passage
from headprobe.probes.file import ProbeFile
from headprobe.probes.passages import cut_passages
from headprobe.runs.instances import fold_of
from headprobe.vocabulary import Skipped

PROBES = Path(__file__).parents[2] / "configs" / "probes"
LEAST = {"synonym": 300, "hypernym": 300, "antonym": 50}


def fail_on_skip(skipped: Skipped) -> None:
    raise AssertionError(skipped)


@cache
def passages() -> tuple[Passage, ...]:
    file = ProbeFile(PROBES / "semantic.conllu", "semantic")
    return tuple(
        passage
        for document in read_conllu(file, fail_on_skip)
        for passage in cut_passages(document, lambda texts: [1] * len(texts), 512, fail_on_skip)
    )


@cache
def instances() -> dict[str, list[tuple[Passage, int, int]]]:
    found = defaultdict(list)
    for passage in passages():
        for link in passage.links:
            if link.relation.family == "semantic":
                (target,) = link.targets
                found[link.relation.name].append((passage, link.query, target))
    return dict(found)


def senses() -> dict[tuple[str, str], list[Sense]]:
    """The senses by kind and word; a word may have a synonym and an antonym."""
    found = defaultdict(list)
    for kind, listed in load_senses().items():
        for sense in listed:
            for word in sense.words:
                found[kind, word].append(sense)
    return dict(found)


def test_the_reader_finds_the_instances_that_were_written_and_no_others() -> None:
    written = Counter(
        (passage.name, instance.relation, instance.query, instance.target, instance.swap)
        for passage in write_semantic(SEED)
        for instance in passage.instances
    )
    read = Counter(
        (
            passage.document,
            relation,
            passage.words[query].lemma,
            passage.words[target].lemma,
            passage.twin.words[target].form if passage.twin else "",
        )
        for relation, found in instances().items()
        for passage, query, target in found
    )
    assert read == written


def test_there_are_enough_instances_words_and_frames() -> None:
    for relation, least in LEAST.items():
        found = instances()[relation]
        lemmas = {passage.words[word].lemma for passage, *words in found for word in words}
        assert len(found) >= least
        assert len(lemmas) >= (60 if least >= 300 else 40)
        frames = Counter(passage.cluster for passage, _, _ in found)
        folds = Counter(fold_of(passage.cluster) for passage, _, _ in found)
        if least >= 300:
            assert len(frames) >= 60
            assert _effective(folds) > 25
            forms = Counter(fold_of(passage.words[t].form.lower()) for passage, _, t in found)
            assert _effective(forms) > 20


def _effective(counts: Counter[int]) -> float:
    total = sum(counts.values())
    return 1 / sum((count / total) ** 2 for count in counts.values())


def test_no_place_gives_a_target_away() -> None:
    for relation, least in LEAST.items():
        found = instances()[relation]
        offsets = Counter(query - target for _, query, target in found)
        starts = Counter(target for _, _, target in found)
        ranks: dict[str, Counter[int]] = {"from the end": Counter(), "from the start": Counter()}
        for passage, query, target in found:
            rivals = _candidates(passage, query)
            ranks["from the end"][len(rivals) - rivals.index(target)] += 1
            ranks["from the start"][rivals.index(target)] += 1
        # the n-th noun before the query, or the n-th of the passage
        most = 0.25 if least >= 300 else 0.35
        for counts in (offsets, starts, *ranks.values()):
            assert max(counts.values()) / len(found) < most, relation


def _candidates(passage: Passage, query: int) -> list[int]:
    word = passage.words[query]
    return [
        place
        for place, other in enumerate(passage.words[:query])
        if other.upos == word.upos and other.lemma != word.lemma
    ]


def test_every_target_has_a_rival_of_its_own_field_and_none_is_related_otherwise() -> None:
    known = senses()
    for relation, found in instances().items():
        for passage, query, target in found:
            kind = passage.cluster.partition("-")[0]
            words = [passage.words[place].lemma for place in _candidates(passage, query)]
            listed = [word for word in words if (kind, word) in known]
            (own,) = {
                sense
                for sense in known[kind, passage.words[target].lemma]
                if sense.relation == relation and passage.words[query].lemma in sense.words
            }
            rivals = [
                sense
                for word in listed
                if word != passage.words[target].lemma
                for sense in known[kind, word]
            ]
            assert any(sense.field == own.field for sense in rivals), passage.text
            assert not any(sense.topics & own.topics for sense in rivals), passage.text


def test_twins_hold_unrelated_words_that_fit() -> None:
    known = senses()
    for relation, found in instances().items():
        for passage, query, target in found:
            kind = passage.cluster.partition("-")[0]
            assert passage.twin is not None
            word, swap = passage.words[target], passage.twin.words[target]
            assert abs(len(word.form) - len(swap.form)) <= 2
            assert sounds_like_vowel(word.form) == sounds_like_vowel(swap.form)
            assert swap.form in load_swaps()[word.lemma]
            assert swap.form not in [other.lemma for other in passage.words], passage.text
            related = {topic for s in known[kind, passage.words[query].lemma] for topic in s.topics}
            assert not any(s.topics & related for s in known[kind, swap.form]), passage.text
            others = [place for place, w in enumerate(passage.words) if w != word]
            changed = [
                place
                for place in others
                if passage.words[place].form != passage.twin.words[place].form
            ]
            assert len(changed) <= 1, (relation, passage.twin.text)


def test_words_are_listed_once_and_pairs_share_no_stem() -> None:
    for kind, listed in load_senses().items():
        for sense in listed:
            for later, earlier in sense.pairs():
                assert later[:3] != earlier[:3], (kind, later, earlier)
                assert later not in earlier and earlier not in later
        words = [w for s in listed if s.relation == "synonym" for w in s.words]
        assert len(words) == len(set(words)), kind


def test_frames_have_names_of_their_own_and_two_queries() -> None:
    frames = list(read_frames())
    assert len({name for _, name, _ in frames}) == len(frames)
    for _, name, lines in frames:
        text = " ".join(lines)
        assert all(text.count(slot) == 1 for slot in ("$1", "$2", "$3", "$4", "$p", "$q")), name


def test_the_file_of_pairs_is_named_and_lies_beside_the_set() -> None:
    assert (PROBES / PAIRS_FILE).is_file()
    assert f"# global.Pairs = {PAIRS_FILE}" in (PROBES / "semantic.conllu").read_text("utf-8")
