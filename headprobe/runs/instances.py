"""The words and links of a run as flat arrays, without the text itself.

They are all that judging needs to know about the probes, so that baselines and profiles are
computed without the model (docs/method.md). The words of all passages are concatenated; a *word
number* is an index into this sequence.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headprobe.arrays import Ints
from headprobe.runs.arrays import Declared, read_arrays
from headprobe.vocabulary import (
    ANAPHORS,
    DEPRELS,
    FOLDS,
    OUTPUT_FOLDS,
    POOLED,
    STRICT_SUFFIX,
    CandidateRule,
    Relation,
    Scope,
    build_value,
    number_upos,
)

Integers = NDArray[np.integer]

Keys = NDArray[np.uint64]

PAIRS = 1 << 18
"""The number of word pairs that are in memory at a time."""

MAX_INSTANCES = 20_000
"""The largest number of instances of a relation that is measured (``smallest_keys``)."""

FOLD_HASH = "blake2b-8 of the UTF-8 text, little endian, modulo 64"
"""The description of ``fold_of`` in the manifest."""


def fold_of(text: str) -> int:
    """The fold of a document id or of a word form, by a stable hash (``FOLD_HASH``)."""
    return hash_text(text) % FOLDS


def hash_text(text: str) -> int:
    """A stable 64-bit hash (blake2b-8 of the UTF-8 text, little endian)."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def mix_keys(keys: Keys, values: Integers | Keys) -> Keys:
    """Combine 64-bit hashes with further values; arrays broadcast.

    The finalizer of splitmix64 (Steele, Lea and Flood 2014, Fast Splittable Pseudorandom Number
    Generators), whose output bits all depend on all input bits.
    """
    mixed = keys + (values.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def smallest_keys(keys: Keys, most: int | None = None) -> NDArray[np.intp]:
    """The places of the ``most`` smallest keys (default ``MAX_INSTANCES``), ascending."""
    most = MAX_INSTANCES if most is None else most
    if len(keys) <= most:
        return np.arange(len(keys))
    return np.sort(np.argsort(keys, kind="stable")[:most])


def split_by_count(counts: Integers, most: int) -> Iterator[slice]:
    """Cut an axis into slices whose ``counts`` [N] add up to about ``most``. The sum of a slice
    exceeds ``most`` by less than one of the counts."""
    number = (np.cumsum(counts, dtype=np.int64) - counts) // most
    edges = [*np.flatnonzero(np.diff(number, prepend=-1)).tolist(), len(number)]
    return itertools.starmap(slice, itertools.pairwise(edges))


@dataclass(frozen=True)
class RelationInstances:
    """The instances of one relation, in passage order.

    The targets of instance i are ``targets[first[i]:stop[i]]``. Instances may share entries of
    ``targets``: where every earlier word of a class is a target, there are many more pairs of an
    instance and a target than words.
    """

    relation: Relation

    query: Integers
    """[I]: the word number of each query."""

    first: Integers
    """[I]: the index into ``targets`` of each instance's first target."""

    stop: Integers
    """[I]: the index into ``targets`` after each instance's last target."""

    targets: Integers
    """[K]: the word numbers of targets, ascending within each instance."""

    def __len__(self) -> int:
        return len(self.query)

    @property
    def nearest(self) -> Integers:
        """[I]: the word number of each instance's last target."""
        return self.targets[self.stop - 1]

    def places(self, words: Integers) -> Integers:
        """[I]: the index into ``targets`` of each instance's first target that is not before its
        word in ``words`` [I]; ``stop`` if there is none."""
        # A binary search in all instances at once: [low, high) holds the answer, or is empty.
        low, high = self.first.copy(), self.stop.copy()
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = low + (high - low) // 2
            before = self.targets[np.minimum(middle, len(self.targets) - 1)] < words
            before &= low < high
            low, high = np.where(before, middle + 1, low), np.where(before, high, middle)
        return low

    def contain(self, words: Integers) -> NDArray[np.bool_]:
        """[I]: whether each instance's word in ``words`` [I] is one of its targets."""
        place = self.places(words)
        is_target = self.targets[np.minimum(place, len(self.targets) - 1)] == words
        return np.asarray(is_target & (place < self.stop))

    def take(self, chosen: Integers) -> "RelationInstances":
        """Return the instances ``chosen`` [I']."""
        query, first, stop = self.query[chosen], self.first[chosen], self.stop[chosen]
        return RelationInstances(self.relation, query, first, stop, self.targets)

    def targets_of(self, chosen: Integers | slice) -> tuple[Integers, Integers]:
        """The targets of the instances ``chosen`` [I'], concatenated: for each [K'] the index of
        its instance within ``chosen``, and its word number."""
        first = self.first[chosen]
        counts = self.stop[chosen] - first
        instance = np.repeat(np.arange(len(counts)), counts)
        starts = np.cumsum(counts, dtype=np.int64) - counts
        place = np.arange(len(instance)) + np.repeat(first - starts, counts)
        return instance, self.targets[place]

    def pairs(self) -> Iterator[tuple[Integers, Integers]]:
        """Pairs of instance [K'] and target word number [K'], about ``PAIRS`` at a time."""
        for some in split_by_count(self.stop - self.first, PAIRS):
            instance, words = self.targets_of(some)
            yield instance + some.start, words


def join_instances(members: Sequence[RelationInstances]) -> RelationInstances:
    """The instances of all members, one relation after another, as those of the first relation."""
    shifts = np.cumsum([0, *(len(links.targets) for links in members)])
    return RelationInstances(
        members[0].relation,
        np.concatenate([links.query for links in members]),
        np.concatenate([links.first + at for links, at in zip(members, shifts, strict=False)]),
        np.concatenate([links.stop + at for links, at in zip(members, shifts, strict=False)]),
        np.concatenate([links.targets for links in members]),
    )


@dataclass(frozen=True)
class Instances:
    """Passages [P], words [W] and links [J] of a run. Links are sorted by passage, and unusable
    words are already removed from them."""

    relations: tuple[Relation, ...]
    """[R]: the relations that are measured."""

    passage_ids: NDArray[np.str_]
    """[P]: the id of each passage."""

    passage_documents: NDArray[np.str_]
    """[P]: the id of each passage's document."""

    passage_domains: NDArray[np.str_]
    """[P]: the domain of each passage."""

    passage_clusters: NDArray[np.str_]
    """[P]: the document or template whose passages always share a fold."""

    passage_original: Integers
    """[P]: for the twin of a passage, the index of that passage; else -1. Twins come last."""

    passage_sentence: Integers
    """[P]: the index of each passage's first sentence in its document."""

    passage_first: Integers
    """[P + 1]: the word number at which each passage starts, and W."""

    sentence: Integers
    """[W]: the index of each word's sentence in its passage."""

    upos: Integers
    """[W]: the part of speech as an index into ``upos_names``."""

    upos_names: NDArray[np.str_]
    """The parts of speech that occur."""

    form: Integers
    """[W]: the form as an index into ``forms``."""

    forms: NDArray[np.str_]
    """The distinct word forms, as written."""

    tokens: Integers
    """[W]: the number of tokens of each word; 0 if it is unusable."""

    usable: NDArray[np.bool_]
    """[W]: whether the word can be a query or a target."""

    space: NDArray[np.bool_]
    """[W]: whether a space precedes the word in the text."""

    word_classes: Integers
    """[W]: bit c is set if the word is of the class of ``relations[every[c]]``."""

    class_queries: Integers
    """[W]: bit c is set if the word is a query of ``relations[every[c]]``."""

    n_all: Integers
    """[R]: the number of instances of each relation before ``MAX_INSTANCES`` were chosen."""

    link_relation: Integers
    """[J]: the relation as an index into ``relations``."""

    link_query: Integers
    """[J]: the word number of the query."""

    link_first: Integers
    """[J + 1]: link j has the targets ``link_targets[link_first[j]:link_first[j + 1]]``."""

    link_targets: Integers
    """The word numbers of targets."""

    deprel: Integers
    """[W]: the dependency relation as an index into ``vocabulary.DEPRELS``."""

    lemma: Integers
    """[W]: a number for the lower-cased lemma, or else form; equal for equal ones."""

    mention_end: Integers
    """[W]: for the head of mentions, the word number of the last word of the mention that ends
    first; for other words -1."""

    example_words: Integers
    """[X]: the word numbers of queries whose attention is shown, ascending."""

    sampled_words: Integers
    """[A]: the word numbers of a seeded sample of the run's rows, ascending."""

    @property
    def text_passages(self) -> int:
        """The number of passages that are not twins."""
        return int((self.passage_original < 0).sum())

    @property
    def in_text(self) -> NDArray[np.bool_]:
        """[W]: whether the word stands in a passage that is no twin."""
        in_text = np.ones(len(self.form), dtype=np.bool_)
        in_text[self.passage_first[self.text_passages] :] = False
        return in_text

    @cached_property
    def passage(self) -> Integers:
        """[W]: the index of each word's passage."""
        return np.repeat(np.arange(len(self.passage_ids)), np.diff(self.passage_first))

    @cached_property
    def place(self) -> Integers:
        """[W]: the index of each word within its passage."""
        return np.arange(len(self.form)) - self.passage_first[self.passage]

    @cached_property
    def sentence_first(self) -> Integers:
        """[W]: the word number of the first word of each word's sentence."""
        starts = np.flatnonzero(
            np.diff(self.passage, prepend=-1).astype(bool)
            | np.diff(self.sentence, prepend=-1).astype(bool)
        )
        return np.repeat(starts, np.diff(starts, append=len(self.form)))

    @cached_property
    def upos_number(self) -> Integers:
        """[W]: the part of speech as an index into ``vocabulary.UPOS``."""
        return number_upos(self.upos_names.tolist())[self.upos] if len(self.upos) else self.upos

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The distinct domains, sorted."""
        return tuple(sorted(set(self.passage_domains.tolist())))

    @cached_property
    def domain(self) -> Integers:
        """[P]: the domain of each passage as an index into ``domains``."""
        order = {name: index for index, name in enumerate(self.domains)}
        return np.array([order[name] for name in self.passage_domains.tolist()], dtype=np.int64)

    @cached_property
    def usable_before(self) -> Integers:
        """[W + 1]: the number of usable words before each word of the run, and in total."""
        return np.concatenate([[0], np.cumsum(self.usable)])

    @cached_property
    def folded_form(self) -> Integers:
        """[W]: a number for each word's lower-cased form, equal for equal forms."""
        _, folded = np.unique([form.lower() for form in self.forms], return_inverse=True)
        return folded[self.form] if len(self.forms) else self.form

    def candidate_keys(self, rule: CandidateRule) -> tuple[Ints, Ints]:
        """Return two numbers of each word, [W] each, that say which candidates a rule admits.

        A candidate's first number equals the query's, and its second number differs from the
        query's.
        """
        if rule == "same-upos":
            upos = self.upos.astype(np.int64)
            return upos, self.lemma * (upos.max(initial=0) + 1) + upos
        every = np.arange(len(self.form))
        return np.zeros_like(every), every if rule == "any" else self.folded_form.astype(np.int64)

    @cached_property
    def usable_by_form(self) -> Integers:
        """The usable words sorted by folded form, then place: ``folded_form * W + word number``."""
        return self._usable_by(self.folded_form)

    @cached_property
    def usable_by_upos(self) -> tuple[Integers, Integers]:
        """The same by part of speech, and by part of speech and lemma (``candidate_keys``)."""
        upos, lemma = self.candidate_keys("same-upos")
        return self._usable_by(upos), self._usable_by(lemma)

    def _usable_by(self, key: Integers) -> Integers:
        words = np.flatnonzero(self.usable)
        return np.sort(key[words].astype(np.int64) * len(self.form) + words)

    @cached_property
    def document_fold(self) -> Integers:
        """[P]: the fold of each passage's document, or of its template if it has one."""
        return np.array(
            [fold_of(str(cluster)) for cluster in self.passage_clusters], dtype=np.int64
        )

    @cached_property
    def form_fold(self) -> Integers:
        """[W]: the fold of each word's lower-cased form."""
        folds = np.array([fold_of(str(form).lower()) for form in self.forms], dtype=np.int64)
        return folds[self.form] if len(self.forms) else self.form.astype(np.int64)

    @cached_property
    def cells(self) -> tuple[tuple[str, int], ...]:
        """The distinct pairs (domain, document fold modulo ``OUTPUT_FOLDS``), sorted."""
        return tuple(sorted(set(self._cell_of_passage)))

    @property
    def _cell_of_passage(self) -> list[tuple[str, int]]:
        folds = (self.document_fold % OUTPUT_FOLDS).tolist()
        return list(zip(self.passage_domains.tolist(), folds, strict=True))

    @cached_property
    def cell(self) -> Integers:
        """[P]: the cell of each passage as an index into ``cells``."""
        order = {pair: index for index, pair in enumerate(self.cells)}
        return np.array([order[pair] for pair in self._cell_of_passage], dtype=np.int64)

    @cached_property
    def every(self) -> tuple[int, ...]:
        """The indices of the relations whose queries are all words (``Relation.every``)."""
        return tuple(i for i, relation in enumerate(self.relations) if relation.every)

    def of(self, relation: int) -> RelationInstances:
        """The instances of one of ``judged_relations``: usable queries with at least one usable
        target."""
        if relation >= len(self.relations):
            members = [self.of(member) for member in self.members(relation)]
            return replace(join_instances(members), relation=self.judged_relations[relation])
        spec = self.relations[relation]
        if spec.every:
            return self._of_class(relation)
        chosen = np.flatnonzero(self.link_relation == relation)
        counts = np.diff(self.link_first)[chosen]
        edges = np.concatenate([[0], np.cumsum(counts)])
        offsets = np.arange(edges[-1]) - np.repeat(edges[:-1], counts)
        targets = self.link_targets[np.repeat(self.link_first[chosen], counts) + offsets]
        return RelationInstances(spec, self.link_query[chosen], edges[:-1], edges[1:], targets)

    def _of_class(self, relation: int) -> RelationInstances:
        """The instances of a relation whose targets are the earlier words of a class in the
        query's passage."""
        bit = self.every.index(relation)
        members = np.flatnonzero(self.usable & ((self.word_classes >> bit) & 1).astype(bool))
        queries = np.flatnonzero(self.usable & ((self.class_queries >> bit) & 1).astype(bool))
        low = np.searchsorted(members, self.passage_first[self.passage[queries]])
        high = np.searchsorted(members, queries)
        # There is almost one instance per word and class, so 32 bits are used where they suffice.
        kind = np.int32 if len(self.form) < 2**31 else np.int64
        has_target = high > low
        query, first, stop = (array[has_target] for array in (queries, low, high))
        return RelationInstances(
            self.relations[relation],
            query.astype(kind, copy=False),
            first.astype(kind, copy=False),
            stop.astype(kind, copy=False),
            members,
        )

    @cached_property
    def pooled(self) -> Mapping[Relation, tuple[int, ...]]:
        """Unions of coreference relations that are judged beside them, and their members.

        ``anaphor`` joins the relations ``ANAPHORS``, and ``anaphor-strict`` their strict forms, if
        there are at least two of them. Pooled relations store nothing of their own.
        """
        unions: dict[Relation, list[int]] = {}
        for number, relation in enumerate(self.relations):
            kind = relation.name.removesuffix(STRICT_SUFFIX)
            if relation.family == "coreference" and kind in ANAPHORS:
                union = replace(relation, name=relation.name.replace(kind, POOLED, 1))
                unions.setdefault(union, []).append(number)
        return {union: tuple(members) for union, members in unions.items() if len(members) > 1}

    @cached_property
    def judged_relations(self) -> tuple[Relation, ...]:
        """The relations that are measured, then the pooled ones."""
        return (*self.relations, *self.pooled)

    def members(self, relation: int) -> tuple[int, ...]:
        """The measured relations that make up one of ``judged_relations``."""
        pooled = relation - len(self.relations)
        return (relation,) if pooled < 0 else tuple(self.pooled.values())[pooled]

    def numbers(self, relation: int) -> Integers:
        """The numbers of the instances of one of ``judged_relations`` (``first_instance``)."""
        edges = [self.first_instance[member : member + 2] for member in self.members(relation)]
        return np.concatenate([np.arange(*edge) for edge in edges])

    @cached_property
    def first_instance(self) -> Integers:
        """[R + 1]: the number of instances of all relations before each one, and in total.

        Instances of a run are numbered in this order: by relation, then as in ``of``.
        """
        counts = [len(self.of(index)) for index in range(len(self.relations))]
        return np.concatenate([[0], np.cumsum(np.array(counts, dtype=np.int64))])

    def word_keys(self, seed: int) -> Keys:
        """[W]: a seeded hash of (document id, sentence, word), the numbers counted in the document
        and in the sentence. It does not depend on the tokenizer or on how passages are cut."""
        names = [f"{seed} {document}" for document in self.passage_documents.tolist()]
        documents = {name: hash_text(name) for name in names}
        keys = np.array([documents[name] for name in names], dtype=np.uint64)
        sentence = self.passage_sentence[self.passage] + self.sentence
        place = np.arange(len(self.form)) - self.sentence_first
        return mix_keys(mix_keys(keys[self.passage], sentence), place)

    def choose_class_queries(self, seed: int) -> "Instances":
        """These instances with ``class_queries`` and ``n_all`` set for the relations with
        ``every``: the usable words that have a target, thinned to ``MAX_INSTANCES``."""
        every_word = replace(self, class_queries=np.full(len(self.form), -1, dtype=np.int64))
        chosen, n_all = np.zeros(len(self.form), dtype=np.int64), self.n_all.copy()
        keys = self.word_keys(seed) if self.every else None
        for bit, relation in enumerate(self.every):
            queries = every_word.of(relation).query
            n_all[relation] = len(queries)
            if keys is not None:
                chosen[queries[smallest_keys(keys[queries])]] |= 1 << bit
        return replace(self, class_queries=chosen, n_all=n_all)

    def save(self, path: Path) -> None:
        """Write all arrays to one ``.npz`` file, without pickles."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "relations"}
        rows = [
            (
                *(r.family, r.name, r.looks_to, r.scope),
                *(str(int(flag)) for flag in (r.strict, r.every, r.same_upos, r.twin)),
            )
            for r in self.relations
        ]
        arrays["relations"] = np.array(rows, dtype=np.str_).reshape(len(rows), 8)
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        ValueError where the arrays are not as declared or contradict each other; any of
        ``files.READ_ERRORS`` if the file is damaged.
        """
        arrays: dict[str, Any] = read_arrays(path, DECLARED, {"r": _RELATION_COLUMNS})
        arrays["relations"] = tuple(map(_relation, arrays["relations"].tolist()))
        instances = cls(**arrays)
        instances.check()
        return instances

    def check(self) -> None:
        """Raise ValueError where arrays contradict each other."""
        words, passages = len(self.form), len(self.passage_ids)
        relations, every = len(self.relations), len(self.every)
        targets = np.diff(self.link_first)
        if not (words and passages and relations) or len(set(self.relations)) < relations:
            raise ValueError("it has no words, or relations that are not distinct")
        _check_starts("passage_first", self.passage_first, passages, words, least=1)
        _check_starts("link_first", self.link_first, len(self.link_query), len(self.link_targets))
        starts_sentence = np.diff(self.sentence, prepend=0)
        if (starts_sentence[self.place > 0] < 0).any():
            raise ValueError("sentence goes back within a passage")
        _check_twins(self)
        if ((self.word_classes | self.class_queries) >> every).any():
            raise ValueError("word_classes or class_queries names classes of no relation")
        queries = np.repeat(self.link_query, targets)
        if (self.link_targets >= queries).any():
            raise ValueError("link_targets names words that are not before the query")
        if (self.passage[self.link_targets] != self.passage[queries]).any():
            raise ValueError("link_targets names words of another passage")
        follows = np.diff(self.link_targets) > 0
        follows[self.link_first[1:-1][targets[1:] > 0] - 1] = True  # another link starts there
        if not follows.all():
            raise ValueError("link_targets is not sorted")
        ends = self.mention_end >= 0
        if (self.mention_end[ends] < np.flatnonzero(ends)).any():
            raise ValueError("mention_end is before the mention's head")


def _check_twins(instances: Instances) -> None:
    """Raise ValueError unless twins and their relations come last, each after its original."""
    originals = instances.passage_original
    first = instances.text_passages
    twins = [relation.twin for relation in instances.relations]
    if (originals[first:] < 0).any() or (originals >= first).any() or twins != sorted(twins):
        raise ValueError("twins of passages do not come after all passages")
    words = np.diff(instances.passage_first)
    if (words[first:] != words[originals[first:]]).any():
        raise ValueError("a twin of a passage has another number of words")


_RELATION_COLUMNS = 8

_FLAGS = MappingProxyType({"0": False, "1": True})


def _relation(row: Sequence[str]) -> Relation:
    family, name, looks_to, scope, *flags = row
    return Relation(
        family, name, looks_to, build_value(Scope, scope), *(_FLAGS[flag] for flag in flags)
    )


def _check_starts(name: str, starts: Integers, count: int, total: int, least: int = 0) -> None:
    """Raise ValueError unless ``starts`` cut ``total`` things into ``count`` parts."""
    sizes = np.diff(starts)
    if len(starts) != count + 1 or starts[0] != 0 or starts[-1] != total or (sizes < least).any():
        raise ValueError(f"{name} does not cut {total} into {count} parts")


DECLARED: Mapping[str, Declared] = MappingProxyType(
    {
        "relations": Declared("text", "Rr"),
        "passage_ids": Declared("text", "P"),
        "passage_documents": Declared("text", "P"),
        "passage_domains": Declared("text", "P"),
        "passage_clusters": Declared("text", "P"),
        "passage_sentence": Declared("count", "P", low=0),
        "passage_original": Declared("count", "P", low=-1, below="P"),
        "passage_first": Declared("count", "p", low=0),
        "upos_names": Declared("text", "U"),
        "forms": Declared("text", "F"),
        "sentence": Declared("count", "W", low=0),
        "upos": Declared("count", "W", low=0, below="U"),
        "form": Declared("count", "W", low=0, below="F"),
        "tokens": Declared("count", "W", low=0),
        "usable": Declared("flag", "W"),
        "space": Declared("flag", "W"),
        "word_classes": Declared("count", "W", low=0),
        "class_queries": Declared("count", "W", low=0),
        "n_all": Declared("count", "R", low=0),
        "deprel": Declared("count", "W", low=0, below=len(DEPRELS)),
        "lemma": Declared("count", "W", low=0),
        "mention_end": Declared("count", "W", low=-1, below="W"),
        "link_relation": Declared("count", "J", low=0, below="R"),
        "link_query": Declared("count", "J", low=0, below="W"),
        "link_first": Declared("count", "j", low=0),
        "link_targets": Declared("count", "T", low=0, below="W"),
        "example_words": Declared("count", "X", low=0, below="W", ascending=True),
        "sampled_words": Declared("count", "A", low=0, below="W", ascending=True),
    }
)
"""Every array of ``instances.npz``. Axes: R relations and r their columns, P passages, U parts of
speech, F forms, W words, J links and T their targets, X examples, A sampled words; p and j are one
longer than P and J."""
