"""Corpora, chunks and batches contain every word, link and row of their passages once."""

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headprobe.batching.batches import Batcher
from headprobe.batching.corpus import EXAMPLES_PER_RELATION, Corpus, align
from headprobe.batching.encoder import Encoder
from headprobe.batching.layout import EMPTY, Block, plan_chunks
from headprobe.probes.catalog import find_probe_files, read_documents
from headprobe.probes.document import Passage
from headprobe.probes.passages import cut_passages
from headprobe.runs.instances import Instances
from headprobe.vocabulary import DEPRELS, UPOS, Skipped
from tests.helpers.checkpoints import SHARED, toy_tokenizer
from tests.helpers.passes import passages_of
from tests.helpers.probes import PROBES


def aligned(budget: int = 60) -> tuple[Corpus, list[Passage], list[Skipped]]:
    encoder, skipped = Encoder(toy_tokenizer(), "toy"), []
    passages = passages_of(PROBES, encoder, budget)
    return align(passages, encoder, skipped.append, seed=0), passages, skipped


def test_instances_equal_the_links_of_the_passages() -> None:
    corpus, passages, skipped = aligned()
    instances = corpus.instances
    expected: Counter[object] = Counter()
    lost = sum(passage.cut_off for passage in passages)
    for number, passage in enumerate(passages):
        base = int(instances.passage_first[number])
        usable = instances.usable[base : base + len(passage.words)]
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
    for number, relation in enumerate(instances.relations):
        links = instances.of(number)
        for i, query in enumerate(links.query.tolist()):
            targets = links.targets[links.first[i] : links.stop[i]].tolist()
            got[relation, query, tuple(targets)] += 1
            assert links.nearest[i] == targets[-1]
    assert got == expected
    assert sum(skip.count for skip in skipped if skip.what == "instance") == lost
    assert sum(skip.count for skip in skipped if skip.what == "word") == (~instances.usable).sum()


def test_saved_instances_load_unchanged(tmp_path: Path) -> None:
    instances = aligned()[0].instances
    instances.save(tmp_path / "instances.npz")
    back = Instances.load(tmp_path / "instances.npz")
    assert back.relations == instances.relations
    for name in (field.name for field in fields(Instances)):
        assert np.array_equal(getattr(back, name), getattr(instances, name)), name
    for name in ("deprel", "mention_end", "sampled_words", "example_words"):
        assert len(set(getattr(back, name).tolist())) > 5, name
    assert back.domains == instances.domains == ("news", "story")
    assert [back.domains[d] for d in back.domain] == back.passage_domains.tolist()
    assert [UPOS[n] for n in back.upos_number] == back.upos_names[back.upos].tolist()
    words = [str(back.forms[form]) for form in back.form[:4]]
    assert words == ["The", "tired", "dog", "did"]
    assert back.space[:5].tolist() == [False, True, True, True, False]
    assert back.cells == instances.cells


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
def test_deprels_and_mention_ends_equal_those_of_the_file(tmp_path: Path, budget: int) -> None:
    """With nested mentions, several mentions of one head, and several passages."""
    lines = [
        line if line.startswith("#") else "\t".join(line.split()) for line in NESTED.split("\n")
    ]
    path = tmp_path / "nested.conllu"
    path.write_text("\n".join(lines) + "\n\n")
    encoder = Encoder(toy_tokenizer(), "toy")
    documents = read_documents(find_probe_files([str(path)]), lambda note: pytest.fail(str(note)))
    count = lambda texts: [len(text.split()) for text in texts]  # noqa: E731
    passages = [p for d in documents for p in cut_passages(d, count, budget, lambda _: None)]
    assert len(passages) == {7: 3, 12: 2, 100: 1}[budget]
    instances = align(passages, encoder, lambda _: None, seed=0).instances
    words = " ".join(str(instances.forms[form]) for form in instances.form)
    assert words == "The girl of the town left . She saw her there . So they met"
    labels = " ".join(DEPRELS[number] for number in instances.deprel)
    assert labels == "det nsubj case det nmod root punct nsubj root obj   advmod nsubj root"
    ends = {1: 1, 4: 4, 9: 11, 10: 10, 13: 14}
    assert instances.mention_end.tolist() == [ends.get(word, -1) for word in range(15)]


def test_sampled_rows_are_a_reproducible_subset_of_usable_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instances = aligned()[0].instances
    every = [
        w for w in range(len(instances.form)) if instances.usable[w] and instances.place[w] > 0
    ]
    assert instances.sampled_words.tolist() == every
    monkeypatch.setattr("headprobe.batching.corpus.SAMPLED_ROWS", 9)
    few, again = (aligned()[0].instances.sampled_words.tolist() for _ in range(2))
    assert few == again == sorted(set(few))
    assert len(few) == 9
    assert set(few) < set(every)


def test_every_relation_has_examples_and_they_are_reproducible() -> None:
    corpus, passages, _ = aligned()
    instances = corpus.instances
    shown = set(instances.example_words.tolist())
    for number in range(len(instances.relations)):
        queries = set(instances.of(number).query.tolist())
        assert len(queries & shown) >= min(len(queries), EXAMPLES_PER_RELATION)
    again = align(passages, Encoder(toy_tokenizer(), "toy"), lambda _: None, seed=0)
    assert np.array_equal(again.instances.example_words, instances.example_words)


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=60),
    st.integers(1, 8),
    st.integers(1, 1000),
    st.integers(1, 200_000),
)
def test_planned_blocks_cover_every_row_once_within_the_limits(
    lengths: list[int], heads: int, tokens: int, scores: int
) -> None:
    passages = np.arange(len(lengths)) + 7
    plan = plan_chunks(passages, np.array(lengths), heads, tokens=tokens, scores=scores)
    rows: Counter[tuple[int, int]] = Counter()
    for chunk in plan:
        inside = {p for block in chunk for p in block.passages.tolist()}
        assert len(inside) == 1 or sum(lengths[p - 7] for p in inside) <= tokens
        for block in chunk:
            here = [lengths[p - 7] for p in block.passages]
            assert here[0] == max(here)
            assert len(here) == 1 or (block.first, block.stop) == (0, max(here))
            weights = len(here) * heads * (block.stop - block.first) * block.stop
            assert weights <= scores or (len(here) == 1 and block.stop - block.first == 1)
            for p in block.passages.tolist():
                rows.update((p, row) for row in range(block.first, block.stop))
    for p, length in zip(passages.tolist(), lengths, strict=True):
        assert all(rows[p, row] == 1 for row in range(length))


def test_chunk_concatenates_its_passages_and_covers_their_words_once() -> None:
    corpus = aligned()[0]
    sampled = np.arange(3, 30)
    instances = replace(corpus.instances, sampled_words=sampled[corpus.instances.usable[sampled]])
    corpus = replace(corpus, instances=instances)
    blocks = [
        Block(np.array([1]), 0, 9),
        Block(np.array([1]), 9, corpus.lengths[1]),
        Block(np.array([2, 0]), 0, corpus.lengths[2]),
    ]
    assert corpus.lengths[0] < corpus.lengths[2]
    chunk = Batcher(corpus, torch.device("cpu")).build(blocks)
    assert chunk.passages.tolist() == [1, 2, 0]
    spans = [slice(*corpus.token_first[p : p + 2]) for p in (1, 2, 0)]
    expected = np.concatenate([corpus.token_ids[span] for span in spans])
    assert chunk.flat.token_ids[0].tolist() == expected.tolist()
    assert chunk.flat.positions[0].tolist() == [
        t for p in (1, 2, 0) for t in range(corpus.lengths[p])
    ]
    words = {
        w
        for p in (1, 2, 0)
        for w in range(*instances.passage_first[p : p + 2])
        if instances.usable[w]
    }
    seen, sampled_words, places = [], [], []
    for block, batch in zip(blocks, chunk.batches, strict=True):
        for b, p in enumerate(block.passages):
            first = int(instances.passage_first[p]) + batch.first_word
            for w, row in enumerate(batch.tile.rows[b, : batch.queries].tolist()):
                if row != EMPTY:
                    seen.append(first + w)
                    assert block.first <= row < block.stop
                    assert row == corpus.last_token[first + w]
        for row in batch.sampled.tolist():
            b, w = divmod(row, batch.queries)
            sampled_words.append(
                int(instances.passage_first[block.passages[b]]) + batch.first_word + w
            )
        places += batch.sampled_row.tolist()
    assert sorted(seen) == sorted(words)
    assert sorted(sampled_words) == [w for w in instances.sampled_words if w in words]
    assert instances.sampled_words[places].tolist() == sampled_words
    starts = dict(zip((1, 2, 0), (0, spans[0].stop - spans[0].start, 0), strict=True))
    starts[0] = starts[2] + int(corpus.lengths[2])
    last = [starts[int(instances.passage[w])] + int(corpus.last_token[w]) for w in sampled_words]
    assert chunk.word_token[chunk.sampled_word].tolist() == last


@pytest.mark.parametrize(
    ("name", "least"), [("french_gsd/fr_gsd", 0.92), ("chinese_gsdsimp/zh_gsdsimp", 0.99)]
)
def test_most_words_align_in_french_and_chinese(name: str, least: float) -> None:
    """French has contracted words, and Chinese has no spaces."""
    path = SHARED / "treebanks" / f"ud_{name}-ud-dev.conllu"
    if not path.is_file():
        pytest.skip(f"../shared has no {path.name}")
    encoder, skipped = Encoder(toy_tokenizer(), "toy"), []
    documents = read_documents(find_probe_files([str(path)]), skipped.append)
    passages = (
        passage
        for document, _ in zip(documents, range(300), strict=False)
        for passage in cut_passages(document, encoder.count, 10**6, skipped.append)
    )
    corpus = align(passages, encoder, skipped.append, seed=0)
    assert corpus.instances.usable.mean() > least
    reasons = {skip.reason for skip in skipped if skip.what == "word"}
    assert reasons <= {"has no characters of its own", "shares a token with another word"}
