"""Real treebanks against plain counts that share no code with the readers."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from headprobe.probes.catalog import read_documents
from headprobe.probes.document import Document, Passage
from headprobe.probes.passages import cut_passages, sentence_text

Row = list[str]


def words_of(path: Path) -> Iterator[tuple[list[str], list[Row]]]:
    """(comments, rows of plain words) of each sentence."""
    for block in path.read_text(encoding="utf-8").strip().split("\n\n"):
        lines = block.split("\n")
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
        yield [line for line in lines if line.startswith("#")], [r for r in rows if r[0].isdigit()]


def whole(document: Document) -> Passage:
    """The document as one passage."""
    (passage,) = cut_passages(document, lambda texts: [0] * len(texts), 1, lambda note: None)
    return passage


@pytest.fixture(scope="module")
def documents(treebank) -> list[Document]:
    notes = []
    found = list(read_documents([treebank], notes.append))
    assert notes == [], "nothing of these treebanks is left out"
    return found


def test_the_text_equals_that_of_the_treebank(treebank, documents):
    expected = [
        comment.removeprefix("# text = ")
        for comments, _ in words_of(treebank.path)
        for comment in comments
        if comment.startswith("# text = ")
    ]
    found = [sentence_text(sentence) for document in documents for sentence in document.sentences]
    assert found == expected


def test_words_and_their_characters(treebank, documents):
    expected = [row[1] for _, rows in words_of(treebank.path) for row in rows]
    passages = [whole(document) for document in documents]
    assert [word.form for passage in passages for word in passage.words] == expected
    for passage in passages:
        for word in passage.words:
            assert passage.text[word.start : word.end] in {word.form, ""}
    without = sum(word.start == word.end for passage in passages for word in passage.words)
    assert (without > 0) == ("fr_gsd" in treebank.name)


def test_syntax_counts(treebank, documents):
    edges, instances = Counter(), set()
    for number, (_, rows) in enumerate(words_of(treebank.path)):
        for row in rows:
            word, head, name = int(row[0]), int(row[6]), row[7].split(":")[0]
            if head == 0 or name in {"punct", "root"}:
                continue
            direction = "head" if head < word else "dependent"
            edges[name, direction] += 1
            instances.add((number, name, direction, max(head, word)))
    counted = Counter((name, direction) for _, name, direction, _ in instances)
    links = [link for d in documents for link in whole(d).links if link.relation.family == "syntax"]
    assert Counter((link.relation.name, link.relation.looks_to) for link in links) == counted
    targets = Counter()
    for link in links:
        targets[link.relation.name, link.relation.looks_to] += len(link.targets)
    assert targets == edges


def test_mark_counts(treebank, documents):
    expected = sum(row[3] == "PUNCT" for _, rows in words_of(treebank.path) for row in rows)
    found = Counter()
    for document in documents:
        for relation, places in whole(document).classes.items():
            found[relation.name] += len(places) if relation.family == "punctuation" else 0
    assert found.pop("any") == expected
    assert sum(found.values()) == expected


def test_mentions_of_gum(gum, notes):
    expected = sum(
        brackets.count("(")
        for _, rows in words_of(gum.path)
        for row in rows
        for brackets in re.findall(r"(?:^|\|)Entity=([^|]*)", row[9])
    )
    documents = list(read_documents([gum], notes.append))
    assert sum(len(document.mentions) for document in documents) == expected
    assert notes == []
    assert len({document.domain for document in documents}) == 15


def plain_mentions(path: Path) -> Iterator[tuple[list[Row], list[tuple[str, int, int, int]]]]:
    """(rows, [(entity, first, last, head)]) of each document of GUM."""
    documents: list[list[Row]] = []
    for comments, rows in words_of(path):
        if any(comment.startswith("# newdoc") for comment in comments):
            documents.append([])
        documents[-1].extend(rows)
    for rows in documents:
        waiting, found = [], []
        for place, row in enumerate(rows):
            value = next((v[7:] for v in row[9].split("|") if v.startswith("Entity=")), "")
            for piece in re.split(r"(?=\()|(?<=\))", value):
                name = piece.strip("()").split("-")[0]
                if piece.startswith("("):
                    minspan = piece.strip("()").split("-")[5]
                    waiting.append((name, place, place + int(minspan.split(",")[0]) - 1))
                if piece.endswith(")"):
                    index = max(i for i, opened in enumerate(waiting) if opened[0] == name)
                    _, first, head = waiting.pop(index)
                    found.append((name, first, place, head))
        yield rows, found


def test_coreference_counts_of_gum(gum, notes):
    kinds = defaultdict(lambda: "nominal", PRON="pronoun", DET="pronoun", PROPN="proper")
    expected, targets = Counter(), Counter()
    for rows, mentions in plain_mentions(gum.path):
        for head, entity in {(head, entity) for entity, _, _, head in mentions}:
            form = rows[head][1].lower()
            earlier = [m for m in mentions if m[0] == entity and m[2] < head]
            others = [m for m in earlier if rows[m[3]][1].lower() != form]
            words = {w for _, a, b, _ in earlier for w in range(a, b + 1)}
            strict = {w for _, a, b, _ in others for w in range(a, b + 1)
                      if rows[w][1].lower() != form}  # fmt: skip
            for suffix, found in (("", words), ("-strict", strict)):
                expected[kinds[rows[head][3]] + suffix] += bool(found)
                targets[kinds[rows[head][3]] + suffix] += len(found)
    links = [
        link
        for document in read_documents([gum], notes.append)
        for link in whole(document).links
        if link.relation.family == "coreference"
    ]
    assert Counter(link.relation.name for link in links) == expected
    found = Counter()
    for link in links:
        found[link.relation.name] += len(link.targets)
    assert found == targets
    assert all(link.relation.strict == link.relation.name.endswith("-strict") for link in links)


def test_offset_baselines_of_gum_have_known_values(gum, notes):
    """Share of edges that one word offset explains, in the direction a decoder sees."""
    offsets = defaultdict(Counter)
    for document in read_documents([gum], notes.append):
        for link in whole(document).links:
            if link.relation.family == "syntax":
                name = link.relation.name, link.relation.looks_to
                offsets[name].update(link.query - target for target in link.targets)
    best = {
        name: round(100 * counts.most_common(1)[0][1] / counts.total())
        for name, counts in offsets.items()
    }
    known = {
        ("det", "dependent"): 63,
        ("amod", "dependent"): 81,
        ("nsubj", "dependent"): 38,
        ("obj", "head"): 38,
        ("obl", "head"): 26,
        ("conj", "head"): 28,
        ("xcomp", "head"): 52,
        ("advcl", "head"): 14,
    }
    assert {name: best[name] for name in known} == pytest.approx(known, abs=2)


def test_small_passages_have_every_sentence(treebank, documents):
    def count(texts):
        return [len(text.split()) for text in texts]

    notes = []
    for document in documents:
        passages = list(cut_passages(document, count, 40, notes.append))
        sentences = [sentence_text(sentence) for sentence in document.sentences]
        expected = [text for text in sentences if len(text.split()) <= 40]
        assert " ".join(passage.text for passage in passages) == " ".join(expected)
        for passage in passages:
            assert len(passage.text.split()) <= 40
            assert all(link.targets[-1] < link.query for link in passage.links)
    assert {(note.what, note.reason) for note in notes if note.what != "sentence"} <= {
        ("instance", "its targets stand before the passage")
    }
