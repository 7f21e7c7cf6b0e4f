"""Alignment of words with tokens (docs/method.md), and the corpus of a run as flat arrays.

``align`` reads passages one at a time, tokenizes them, maps their words to tokens, and keeps flat
arrays only: ``Corpus`` holds what the model needs (token ids), and ``runs.instances.Instances``
what the statistics and the later judging need (words and links). The text itself is not kept.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from headprobe.batching.encoder import Encoder
from headprobe.probes.document import Passage
from headprobe.runs.instances import (
    MAX_INSTANCES,
    Instances,
    hash_text,
    mix_keys,
    smallest_keys,
)
from headprobe.vocabulary import Relation, Skipped, number_deprels

NO_CHARACTERS = "has no characters of its own"
"""Reason for an unusable word: it is part of a contraction ("de" and "le" in French "du")."""

NO_TOKEN = "has no token of its own"
"""Reason for an unusable word: the tokenizer produced no token for its characters."""

SHARES_TOKEN = "shares a token with another word"
"""Reason for an unusable word: a token covers characters of several words."""


@dataclass(frozen=True, slots=True)
class WordTokens:
    """The tokens of each word of a passage (T tokens, W words)."""

    word_of_token: NDArray[np.int32]
    """[T]: the index of the usable word that each token belongs to, or -1."""

    last_token: NDArray[np.int32]
    """[W]: the index of each usable word's last token, which is its query row; -1 for an unusable
    word."""

    tokens: NDArray[np.int32]
    """[W]: the number of tokens of each word."""

    reasons: dict[int, str]
    """The reason why a word is unusable, by the index of each unusable word."""


def locate_words(
    starts: NDArray[np.integer], ends: NDArray[np.integer], offsets: NDArray[np.integer]
) -> WordTokens:
    """Map words to tokens by character overlap.

    ``starts`` and ``ends`` [W] are the characters of the words: ascending and disjoint, except for
    words without characters. ``offsets`` [T, 2] are those of the tokens. A word that shares a token
    with another word, or that has no token, is unusable, and no token belongs to it.
    """
    # Two binary searches give, for each token, the range [low, high) of words that it overlaps
    written = np.flatnonzero(ends > starts)
    token_start, token_end = offsets[:, 0], offsets[:, 1]
    low = np.searchsorted(ends[written], token_start, side="right")
    high = np.searchsorted(starts[written], token_end, side="left")
    n_overlapped = np.where(token_end > token_start, high - low, 0)

    reasons = {int(word): NO_CHARACTERS for word in np.flatnonzero(ends <= starts)}
    shared = np.zeros(len(written), dtype=bool)
    for token in np.flatnonzero(n_overlapped > 1):
        shared[low[token] : high[token]] = True
    reasons.update({int(word): SHARES_TOKEN for word in written[shared]})

    owned = np.flatnonzero(n_overlapped == 1)
    owned = owned[~shared[low[owned]]]
    word_of_token = np.full(len(offsets), -1, dtype=np.int32)
    word_of_token[owned] = written[low[owned]]
    tokens = np.bincount(word_of_token[owned], minlength=len(starts)).astype(np.int32)
    last_token = np.full(len(starts), -1, dtype=np.int32)
    np.maximum.at(last_token, word_of_token[owned], owned.astype(np.int32))
    reasons.update(
        {int(word): NO_TOKEN for word in np.flatnonzero(tokens == 0) if int(word) not in reasons}
    )
    return WordTokens(word_of_token, last_token, tokens, reasons)


Number = TypeVar("Number", bound=np.generic)

EXAMPLES_PER_RELATION = 24
"""Maximum number of instances per relation, chosen with the seed, whose strongest attention is
stored as examples."""

SAMPLED_ROWS = 2048
"""Maximum number of query rows of the run that are sampled to compare pairs of heads, and to record
where each head attends most."""

MAX_SAMPLED_PER_PASSAGE = 32
"""Maximum number of sampled rows of a passage, unless ``SAMPLED_PAIRS`` allows more."""

SAMPLED_PAIRS = 1 << 14
"""A passage may have more than ``MAX_SAMPLED_PER_PASSAGE`` sampled rows as long as its rows times
its words do not exceed this number. Rows are compared across layers, so the sampled rows of all
layers stay in memory until the last layer has attended."""


@dataclass(frozen=True)
class Corpus:
    """The tokens of all passages, concatenated, and the instances that refer to their words.

    P passages, T tokens (start tokens included) and W words of the run.
    """

    instances: Instances
    """The words and links of the run."""

    token_ids: NDArray[np.int32]
    """[T]: the token ids."""

    word_of_token: NDArray[np.int32]
    """[T]: the word that each token belongs to, as its index in the passage; -1 for none."""

    token_first: NDArray[np.int64]
    """[P + 1]: the index of each passage's first token, and T."""

    last_token: NDArray[np.int32]
    """[W]: the query row of each word, as the index of its last token in the passage; -1 for an
    unusable word."""

    characters: NDArray[np.int64]
    """[P]: the length of each text in characters."""

    text_bytes: NDArray[np.int64]
    """[P]: the length of each text in bytes of UTF-8."""

    starts: int
    """The number of start tokens, with which every passage begins."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[P]: the number of tokens of each passage, start tokens included."""
        return np.diff(self.token_first)


def _int64_array() -> "array[int]":
    return array("q")


def _unsigned_numbers() -> "array[int]":
    return array("Q")


@dataclass
class _CorpusBuilder:
    """Collects the corpus while passages are read.

    Values per word or link are collected in arrays, because a list of Python numbers takes five
    times as much memory. The lists have one element per passage.
    """

    ids: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    originals: list[int] = field(default_factory=list)
    first_sentences: list[int] = field(default_factory=list)
    characters: list[int] = field(default_factory=list)
    text_bytes: list[int] = field(default_factory=list)
    word_counts: list[int] = field(default_factory=list)
    token_counts: list[int] = field(default_factory=list)
    token_ids: list[NDArray[np.int32]] = field(default_factory=list)
    word_of_token: list[NDArray[np.int32]] = field(default_factory=list)
    last_token: list[NDArray[np.int32]] = field(default_factory=list)
    tokens: list[NDArray[np.int32]] = field(default_factory=list)
    sentence: list[NDArray[np.int32]] = field(default_factory=list)
    upos: list[NDArray[np.int16]] = field(default_factory=list)
    form: list[NDArray[np.int32]] = field(default_factory=list)
    deprel: list[NDArray[np.int16]] = field(default_factory=list)
    lemma: list[NDArray[np.int32]] = field(default_factory=list)
    mention_end: list[NDArray[np.int32]] = field(default_factory=list)
    space: list[NDArray[np.bool_]] = field(default_factory=list)
    relations: dict[Relation, int] = field(default_factory=dict)
    upos_numbers: dict[str, int] = field(default_factory=dict)
    form_numbers: dict[str, int] = field(default_factory=dict)
    lemma_numbers: dict[str, int] = field(default_factory=dict)
    link_relation: "array[int]" = field(default_factory=_int64_array)
    link_query: "array[int]" = field(default_factory=_int64_array)
    link_counts: "array[int]" = field(default_factory=_int64_array)
    link_targets: "array[int]" = field(default_factory=_int64_array)
    link_entity: "array[int]" = field(default_factory=_unsigned_numbers)
    classes: "dict[int, array[int]]" = field(default_factory=dict)
    words: int = 0


def align(
    passages: Iterable[Passage],
    encoder: Encoder,
    note: Callable[[Skipped], None],
    *,
    seed: int,
) -> Corpus:
    """Align the words of all passages with their tokens, and return the corpus as flat arrays.

    ``note`` is called with the number of unusable words, and of instances dropped because their
    query or all their targets are unusable, by source and reason. ``seed`` determines which rows
    are stored as examples and which are sampled. The twins of passages follow all passages.
    """
    builder = _CorpusBuilder()
    twins: list[tuple[Passage, int]] = []
    for number, passage in enumerate(passages):
        _add(builder, passage, encoder, note)
        if passage.twin is not None:
            twins.append((passage.twin, number))
    for twin, number in twins:
        _add(builder, twin, encoder, _note_twins(note), original=number)
    return _finish(builder, encoder, seed)


def _note_twins(note: Callable[[Skipped], None]) -> Callable[[Skipped], None]:
    """Return what notes the instances that twins lose. Their words are those of the passages."""

    def note_instances(skipped: Skipped) -> None:
        if skipped.what == "instance":
            note(replace(skipped, what="twin"))

    return note_instances


def _add(
    builder: _CorpusBuilder,
    passage: Passage,
    encoder: Encoder,
    note: Callable[[Skipped], None],
    original: int = -1,
) -> None:
    encoded = encoder.encode([passage.text])[0]
    starts = np.array([word.start for word in passage.words], dtype=np.int32)
    ends = np.array([word.end for word in passage.words], dtype=np.int32)
    located = locate_words(starts, ends, encoded.offsets)
    usable = located.last_token >= 0
    n_start = len(encoder.start)

    builder.ids.append(passage.id)
    builder.documents.append(passage.document)
    builder.domains.append(passage.domain)
    builder.clusters.append(passage.cluster)
    builder.originals.append(original)
    builder.first_sentences.append(passage.first_sentence)
    builder.characters.append(len(passage.text))
    builder.text_bytes.append(len(passage.text.encode("utf-8", "surrogatepass")))
    builder.word_counts.append(len(passage.words))
    builder.token_counts.append(n_start + len(encoded.ids))
    builder.token_ids.append(np.concatenate([np.array(encoder.start, np.int32), encoded.ids]))
    builder.word_of_token.append(
        np.concatenate([np.full(n_start, -1, np.int32), located.word_of_token])
    )
    builder.last_token.append(np.where(usable, located.last_token + n_start, -1).astype(np.int32))
    builder.tokens.append(located.tokens)
    builder.sentence.append(np.array([word.sentence for word in passage.words], dtype=np.int32))
    builder.upos.append(_encode(builder.upos_numbers, [w.upos for w in passage.words], np.int16))
    builder.form.append(_encode(builder.form_numbers, [w.form for w in passage.words], np.int32))
    lemmas = [word.lemma for word in passage.words]
    builder.lemma.append(_encode(builder.lemma_numbers, lemmas, np.int32))
    builder.deprel.append(number_deprels([word.deprel for word in passage.words]))
    builder.mention_end.append(_mention_ends(passage, builder.words))
    previous_end = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    builder.space.append(starts > previous_end)

    for reason, count in Counter(located.reasons.values()).items():
        note(Skipped(passage.source, "word", reason, count))
    _add_links(builder, passage, usable, note)
    builder.words += len(passage.words)


def _add_links(
    builder: _CorpusBuilder,
    passage: Passage,
    usable: NDArray[np.bool_],
    note: Callable[[Skipped], None],
) -> None:
    dropped = Counter({"its targets stand before the passage": passage.cut_off})
    is_usable: list[bool] = usable.tolist()
    for relation, members in passage.classes.items():
        number = builder.relations.setdefault(relation, len(builder.relations))
        class_words = builder.classes.setdefault(number, _int64_array())
        class_words.extend(builder.words + word for word in members)
    for link in passage.links:
        number = builder.relations.setdefault(link.relation, len(builder.relations))
        targets = [target for target in link.targets if is_usable[target]]
        if not is_usable[link.query]:
            dropped["its query word is unusable"] += 1
        elif not targets:
            dropped["its target words are unusable"] += 1
        else:
            builder.link_relation.append(number)
            builder.link_query.append(builder.words + link.query)
            builder.link_counts.append(len(targets))
            builder.link_targets.extend(builder.words + target for target in targets)
            builder.link_entity.append(hash_text(link.entity) if link.entity else 0)
    for reason, count in (+dropped).items():
        note(Skipped(passage.source, "instance", reason, count))


def _mention_ends(passage: Passage, first: int) -> NDArray[np.int32]:
    """``Instances.mention_end`` of a passage whose first word has the word number ``first``."""
    ends = np.full(len(passage.words), -1, dtype=np.int32)
    for head, end in passage.mention_ends.items():
        ends[head] = first + end
    return ends


def _encode(numbers: dict[str, int], names: list[str], dtype: type[Number]) -> NDArray[Number]:
    """Return the number of each name; new names get the next number in ``numbers``."""
    for name in dict.fromkeys(names):
        numbers.setdefault(name, len(numbers))
    return np.array([numbers[name] for name in names], dtype=dtype)


def _finish(builder: _CorpusBuilder, encoder: Encoder, seed: int) -> Corpus:
    # Relations were numbered in the order of occurrence; from here on they are sorted
    order = sorted(builder.relations, key=lambda relation: (relation.twin, relation))
    rank = np.zeros(len(order), dtype=np.int64)
    rank[[builder.relations[relation] for relation in order]] = np.arange(len(order))
    every = [builder.relations[relation] for relation in order if relation.every]
    word_classes = np.zeros(builder.words, dtype=np.int64)
    for bit, number in enumerate(every):
        word_classes[np.array(builder.classes.get(number, ()), dtype=np.int64)] |= 1 << bit
    last_token = _concatenate(builder.last_token, np.int32)
    instances = Instances(
        relations=tuple(order),
        passage_ids=np.array(builder.ids, dtype=np.str_),
        passage_documents=np.array(builder.documents, dtype=np.str_),
        passage_domains=np.array(builder.domains, dtype=np.str_),
        passage_clusters=np.array(builder.clusters, dtype=np.str_),
        passage_original=np.array(builder.originals, dtype=np.int64),
        passage_sentence=np.array(builder.first_sentences, dtype=np.int64),
        passage_first=_edges(builder.word_counts),
        sentence=_concatenate(builder.sentence, np.int32),
        upos=_concatenate(builder.upos, np.int16),
        upos_names=np.array(list(builder.upos_numbers), dtype=np.str_),
        form=_concatenate(builder.form, np.int32),
        forms=np.array(list(builder.form_numbers), dtype=np.str_),
        tokens=_concatenate(builder.tokens, np.int32),
        usable=last_token >= 0,
        space=_concatenate(builder.space, np.bool_),
        word_classes=word_classes,
        class_queries=np.zeros(builder.words, dtype=np.int64),
        n_all=np.zeros(len(order), dtype=np.int64),
        link_relation=rank[np.array(builder.link_relation, dtype=np.int64)],
        link_query=np.array(builder.link_query, dtype=np.int64),
        link_first=_edges(builder.link_counts),
        link_targets=np.array(builder.link_targets, dtype=np.int64),
        deprel=_concatenate(builder.deprel, np.int16),
        lemma=_concatenate(builder.lemma, np.int32),
        mention_end=_concatenate(builder.mention_end, np.int32),
        example_words=np.zeros(0, dtype=np.int64),
        sampled_words=np.zeros(0, dtype=np.int64),
    )
    entity = np.array(builder.link_entity, dtype=np.uint64)
    instances = _thin_links(instances, entity, seed).choose_class_queries(seed)
    return Corpus(
        instances=with_sample(with_examples(instances, seed), seed),
        token_ids=_concatenate(builder.token_ids, np.int32),
        word_of_token=_concatenate(builder.word_of_token, np.int32),
        token_first=_edges(builder.token_counts),
        last_token=last_token,
        characters=np.array(builder.characters, dtype=np.int64),
        text_bytes=np.array(builder.text_bytes, dtype=np.int64),
        starts=len(encoder.start),
    )


def _thin_links(instances: Instances, entity: NDArray[np.uint64], seed: int) -> Instances:
    """Choose at most ``MAX_INSTANCES`` links of each relation: those with the smallest hash of
    (document id, sentence, query word, entity). ``entity`` [J] are hashes of names.

    Every document stays, because precision is bounded by the number of documents, and neither the
    order of passages nor shards and ranks matter.
    """
    n_all = np.bincount(instances.link_relation, minlength=len(instances.relations))
    kept = np.ones(len(entity), dtype=np.bool_)
    if n_all.max(initial=0) > MAX_INSTANCES:
        keys = mix_keys(instances.word_keys(seed)[instances.link_query], entity)
        for relation in np.flatnonzero(n_all > MAX_INSTANCES):
            links = np.flatnonzero(instances.link_relation == relation)
            kept[links] = False
            kept[links[smallest_keys(keys[links])]] = True
    counts = np.diff(instances.link_first)
    return replace(
        instances,
        n_all=n_all,
        link_relation=instances.link_relation[kept],
        link_query=instances.link_query[kept],
        link_first=_edges(counts[kept]),
        link_targets=instances.link_targets[np.repeat(kept, counts)],
    )


def with_examples(instances: Instances, seed: int) -> Instances:
    """Return the instances with ``example_words``: up to ``EXAMPLES_PER_RELATION`` query words of
    every relation, chosen with ``seed``."""
    chosen: set[int] = set()
    for number, relation in enumerate(instances.relations):
        if relation.twin:
            continue
        queries = instances.of(number).query
        size = min(EXAMPLES_PER_RELATION, len(queries))
        words = np.random.default_rng([seed, number]).choice(queries, size, replace=False)
        chosen.update(words.tolist())
    return replace(instances, example_words=np.array(sorted(chosen), dtype=np.int64))


def with_sample(instances: Instances, seed: int) -> Instances:
    """Return the instances with ``sampled_words``: up to ``SAMPLED_ROWS`` usable words, chosen with
    ``seed``, without the first word of a passage, which has no earlier word."""
    rows = np.flatnonzero(instances.usable & (instances.place > 0) & instances.in_text)
    size = min(SAMPLED_ROWS, len(rows))
    chosen = np.random.default_rng(seed).choice(rows, size, replace=False)
    # The rank of each row among the chosen rows of its passage, in the order of choice, so that
    # dropping the rows of high rank leaves a random sample
    passage = instances.passage[chosen]
    order = np.argsort(passage, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(size) - np.searchsorted(passage[order], passage[order])
    words = np.diff(instances.passage_first)
    most = np.maximum(MAX_SAMPLED_PER_PASSAGE, SAMPLED_PAIRS // np.maximum(words, 1))
    chosen = chosen[rank < most[passage]]
    return replace(instances, sampled_words=np.sort(chosen).astype(np.int64))


def _edges(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """[N + 1]: the index at which each of N consecutive groups starts, and the total."""
    return np.concatenate([[0], np.cumsum(np.array(counts, dtype=np.int64))]).astype(np.int64)


def _concatenate(parts: Sequence[NDArray[Any]], dtype: type[Number]) -> NDArray[Number]:
    return np.concatenate([*parts, np.zeros(0, dtype=dtype)]).astype(dtype, copy=False)
