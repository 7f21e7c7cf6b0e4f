"""The flat arrays say what the passages said; batches cover every passage once."""

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headprobe.align.batches import Batcher, plan_batches
from headprobe.align.corpus import EXAMPLES_PER_RELATION, Corpus, align
from headprobe.align.encoder import Encoder
from headprobe.probes.catalog import read, resolve
from headprobe.probes.document import Passage
from headprobe.probes.passages import cut
from headprobe.store.categories import DEPRELS, UPOS
from headprobe.store.instances import Instances
from headprobe.store.skipped import Skipped
from tests.checkpoints import SHARED, toy_tokenizer
from tests.tally.test_against_eager import PROBES, passages_of


def aligned(budget: int = 60) -> tuple[Corpus, list[Passage], list[Skipped]]:
    encoder, skipped = Encoder(toy_tokenizer(), "toy"), []
    passages = passages_of(PROBES, encoder, budget)
    return align(passages, encoder, skipped.append, seed=0), passages, skipped


def test_instances_are_the_passages_links() -> None:
    corpus, passages, skipped = aligned()
    found = corpus.instances
    expected: Counter[object] = Counter()
    lost = 0
    for number, passage in enumerate(passages):
        base = int(found.passage_first[number])
        usable = found.usable[base : base + len(passage.words)]
        for link in passage.links:
            targets = tuple(base + t for t in link.targets if usable[t])
            if usable[link.query] and targets:
                expected[link.relation, base + link.query, targets] += 1
            else:
                lost += 1
        for relation, members in passage.classes.items():
            for query in np.flatnonzero(usable):
                targets = tuple(base + m for m in members if m < query and usable[m])
                if targets:
                    expected[relation, base + int(query), targets] += 1
    got: Counter[object] = Counter()
    for number, relation in enumerate(found.relations):
        asked = found.of(number)
        for i, query in enumerate(asked.query.tolist()):
            targets = asked.targets[asked.first[i] : asked.first[i + 1]].tolist()
            got[relation, query, tuple(targets)] += 1
            assert asked.nearest[i] == targets[-1]
    assert got == expected
    assert sum(skip.count for skip in skipped if skip.what == "instance") == lost
    assert sum(skip.count for skip in skipped if skip.what == "word") == (~found.usable).sum()


def test_instances_come_back_from_disk(tmp_path: Path) -> None:
    found = aligned()[0].instances
    found.save(tmp_path / "instances.npz")
    back = Instances.load(tmp_path / "instances.npz")
    assert back.relations == found.relations
    for name in (field.name for field in fields(Instances)):
        assert np.array_equal(getattr(back, name), getattr(found, name)), name
    for name in ("deprel", "mention_end", "sampled_words", "example_words"):
        assert len(set(getattr(back, name).tolist())) > 5, name
    assert back.domains == found.domains == ("news", "story")
    assert [back.domains[d] for d in back.domain] == back.passage_domains.tolist()
    assert [UPOS[n] for n in back.upos_number] == back.upos_names[back.upos].tolist()
    words = [str(back.forms[form]) for form in back.form[:4]]
    assert words == ["The", "tired", "dog", "did"]
    assert back.space[:5].tolist() == [False, True, True, True, False]
    assert back.cells == found.cells


NESTED = """
# newdoc id = d
# global.Entity = eid-etype-head-other
1 The _ DET _ _ 2 det _ Entity=(e1-person-2-
2 girl _ NOUN _ _ 6 nsubj:pass _ Entity=(e2-person-1-)(e3-person-1-
3 of _ ADP _ _ 5 case _ _
4 the _ DET _ _ 5 det:x _ Entity=(e4-place-2-
5 town _ NOUN _ _ 2 nmod _ Entity=e4)e3)
6 left _ VERB _ _ 0 root _ Entity=e1)
7 . _ PUNCT _ _ 6 punct _ _

1 She _ PRON _ _ 2 nsubj _ Entity=(e5-person-3-
2 saw _ VERB _ _ 0 root _ _
3 her _ PRON _ _ 2 obj _ _
4 there _ ADV _ _ 2 strange:sub _ Entity=(e4-place-1-)
5 . _ PUNCT _ _ 2 _ _ Entity=e5)

1 So _ ADV _ _ 3 advmod _ _
2 they _ PRON _ _ 3 nsubj _ Entity=(e6-person-1-
3 met _ VERB _ _ 0 root _ Entity=e6)
""".strip()


@pytest.mark.parametrize("budget", [7, 12, 100])
def test_labels_and_mention_ends_are_those_of_the_file(tmp_path: Path, budget: int) -> None:
    """Mentions in mentions and of one head (the first to end counts), cut passages, subtypes."""
    lines = [
        line if line.startswith("#") else "\t".join(line.split()) for line in NESTED.split("\n")
    ]
    path = tmp_path / "nested.conllu"
    path.write_text("\n".join(lines) + "\n\n")
    encoder = Encoder(toy_tokenizer(), "toy")
    documents = read(resolve([str(path)]), lambda note: pytest.fail(str(note)))
    count = lambda texts: [len(text.split()) for text in texts]  # noqa: E731
    passages = [p for d in documents for p in cut(d, count, budget, lambda _: None)]
    assert len(passages) == {7: 3, 12: 2, 100: 1}[budget]
    found = align(passages, encoder, lambda _: None, seed=0).instances
    words = " ".join(str(found.forms[form]) for form in found.form)
    assert words == "The girl of the town left . She saw her there . So they met"
    labels = " ".join(DEPRELS[number] for number in found.deprel)
    assert labels == "det nsubj case det nmod root punct nsubj root obj   advmod nsubj root"
    ends = {1: 1, 4: 4, 9: 11, 10: 10, 13: 14}
    assert found.mention_end.tolist() == [ends.get(word, -1) for word in range(15)]


def test_sampled_rows_are_a_seeded_few_of_the_usable_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = aligned()[0].instances
    every = [w for w in range(len(found.form)) if found.usable[w] and found.place[w] > 0]
    assert found.sampled_words.tolist() == every
    monkeypatch.setattr("headprobe.align.corpus.SAMPLED_ROWS", 9)
    few, again = (aligned()[0].instances.sampled_words.tolist() for _ in range(2))
    assert few == again == sorted(set(few))
    assert len(few) == 9
    assert set(few) < set(every)


def test_examples_are_a_seeded_few_of_every_relation() -> None:
    corpus, passages, _ = aligned()
    found = corpus.instances
    shown = set(found.example_words.tolist())
    for number in range(len(found.relations)):
        queries = set(found.of(number).query.tolist())
        assert len(queries & shown) >= min(len(queries), EXAMPLES_PER_RELATION)
    again = align(passages, Encoder(toy_tokenizer(), "toy"), lambda _: None, seed=0)
    assert np.array_equal(again.instances.example_words, found.example_words)


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=60),
    st.integers(1, 8),
    st.integers(1, 1000),
    st.integers(1, 200_000),
)
def test_every_passage_is_in_one_batch_within_the_limits(
    lengths: list[int], heads: int, tokens: int, scores: int
) -> None:
    plan = plan_batches(np.array(lengths), heads, tokens=tokens, scores=scores)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    for batch in plan:
        longest = max(lengths[passage] for passage in batch)
        assert len(batch) == 1 or len(batch) * longest <= tokens
        assert len(batch) == 1 or len(batch) * heads * longest**2 <= scores
    assert [max(lengths[p] for p in batch) for batch in plan] == sorted(
        (max(lengths[p] for p in batch) for batch in plan), reverse=True
    )


def test_a_batch_is_its_passages_padded() -> None:
    corpus, passages, _ = aligned()
    found = replace(corpus.instances, sampled_words=np.arange(3, 20))
    corpus = replace(corpus, instances=found)
    batcher = Batcher(corpus, torch.device("cpu"))
    batch = batcher.build(np.array([1, 0]))
    for row, number in enumerate((1, 0)):
        start, stop = corpus.token_first[number], corpus.token_first[number + 1]
        assert (
            batch.token_ids[row, : stop - start].tolist() == corpus.token_ids[start:stop].tolist()
        )
        assert batch.real[row].sum() == stop - start
        assert (
            batch.usable[row].sum()
            == corpus.instances.usable[
                corpus.instances.passage_first[number] : corpus.instances.passage_first[number + 1]
            ].sum()
        )
        assert not batch.usable[row, len(passages[number].words) :].any()
    words = [int(corpus.instances.passage_first[(1, 0)[b]]) + int(w) for b, w in batch.sampled]
    assert sorted(words) == [w for w in range(3, 20) if corpus.instances.passage[w] in (0, 1)]
    assert found.sampled_words[batch.sampled_row].tolist() == words


@pytest.mark.parametrize(
    ("name", "least"), [("french_gsd/fr_gsd", 0.92), ("chinese_gsdsimp/zh_gsdsimp", 0.99)]
)
def test_other_scripts_align(name: str, least: float) -> None:
    """Fused words have no characters of their own; text without spaces is no hindrance."""
    path = SHARED / "treebanks" / f"ud_{name}-ud-dev.conllu"
    if not path.is_file():
        pytest.skip(f"../shared has no {path.name}")
    encoder, skipped = Encoder(toy_tokenizer(), "toy"), []
    documents = read(resolve([str(path)]), skipped.append)
    passages = (
        passage
        for document, _ in zip(documents, range(300), strict=False)
        for passage in cut(document, encoder.count, 10**6, skipped.append)
    )
    corpus = align(passages, encoder, skipped.append, seed=0)
    assert corpus.instances.usable.mean() > least
    reasons = {skip.reason for skip in skipped if skip.what == "word"}
    assert reasons <= {"has no characters of its own", "shares a token with another word"}
