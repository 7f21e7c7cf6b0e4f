"""The compact list of instances: what was asked, word by word, without any text of its own.

Everything the judging wing needs of the probes stands here, in flat arrays, so that baselines and
profiles are worked out without the model (METHOD section 4). Words of all passages lie one after
another; a *word number* counts them through the run.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from headprobe.runs.files import open_arrays
from headprobe.vocabulary import FOLDS, OUTPUT_FOLDS, Relation, number_upos

Integers = NDArray[np.integer]

PAIRS = 1 << 18
"""Pairs of words that are laid out at a time."""

FOLD_HASH = "blake2b-8 of the UTF-8 text, little endian, modulo 64"


def fold_of(text: str) -> int:
    """The fold of a document id or of a word form: a stable hash, named in the manifest."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % FOLDS


def split_by_count(counts: Integers, most: int) -> Iterator[slice]:
    """Cuts an axis into pieces whose ``counts`` sum up to about ``most``, by less than one of them
    more."""
    number = (np.cumsum(counts, dtype=np.int64) - counts) // most
    edges = [*np.flatnonzero(np.diff(number, prepend=-1)).tolist(), len(number)]
    return itertools.starmap(slice, itertools.pairwise(edges))


@dataclass(frozen=True)
class RelationInstances:
    """The instances of one relation, in passage order.

    ``query`` [I] and ``targets`` [K] are word numbers; those of instance i are
    ``targets[first[i]:stop[i]]``, ascending. ``nearest`` [I] is the last of them. Words that look
    to every earlier one of a class have these in common: pairs of an instance and a target are many
    times the words.
    """

    relation: Relation
    query: Integers
    first: Integers
    stop: Integers
    targets: Integers

    def __len__(self) -> int:
        return len(self.query)

    @property
    def nearest(self) -> Integers:
        return self.targets[self.stop - 1]

    def places(self, words: Integers) -> Integers:
        """[I]: where in ``targets`` the first of each instance's own stands that is not before its
        one of ``words`` [I]; ``stop`` where there is none."""
        low, high = self.first.copy(), self.stop.copy()
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = low + (high - low) // 2
            before = self.targets[np.minimum(middle, len(self.targets) - 1)] < words
            before &= low < high
            low, high = np.where(before, middle + 1, low), np.where(before, high, middle)
        return low

    def contain(self, words: Integers) -> NDArray[np.bool_]:
        """[I]: whether each instance's one of ``words`` [I] is a target."""
        place = self.places(words)
        is_target = self.targets[np.minimum(place, len(self.targets) - 1)] == words
        return np.asarray(is_target & (place < self.stop))

    def targets_of(self, chosen: Integers | slice) -> tuple[Integers, Integers]:
        """All targets of the instances ``chosen`` [I'], one after another: whose each is, as an
        index into these, and the word."""
        first = self.first[chosen]
        counts = self.stop[chosen] - first
        of = np.repeat(np.arange(len(counts)), counts)
        ends = np.cumsum(counts, dtype=np.int64)
        return of, self.targets[np.arange(len(of)) + np.repeat(first - (ends - counts), counts)]

    def pairs(self) -> Iterator[tuple[Integers, Integers]]:
        """Every instance [K'] with every target [K'], about ``PAIRS`` at a time."""
        for some in split_by_count(self.stop - self.first, PAIRS):
            of, words = self.targets_of(some)
            yield of + some.start, words


@dataclass(frozen=True)
class Instances:
    """Passages, words and links of a run.

    ``passage_first`` [P+1] gives the word numbers at which passages start. Per word [W]:
    ``sentence`` within its passage, ``upos`` (index into ``upos_names``), ``form`` (index into
    ``forms``, as written), ``tokens`` (how many; 0 where unusable), ``usable``, ``space`` (whether
    a space precedes it in the text). Links: ``link_relation``, ``link_query`` [J] and their targets
    ``link_targets[link_first[j]:link_first[j + 1]]``, unusable ones already left out; sorted by
    passage. ``word_classes`` [W] holds bit c where a word is of the class of ``relations[e]``, e
    the c-th relation with ``every``. ``deprel`` [W] indexes ``vocabulary.DEPRELS``;
    ``mention_end`` [W] is, for a word that heads mentions, the word number at which the one that
    ends first ends, else -1. ``example_words`` [X] are queries whose attention is shown,
    ``sampled_words`` [A] a seeded sample of the run's rows, both ascending.
    """

    relations: tuple[Relation, ...]
    passage_ids: NDArray[np.str_]
    passage_documents: NDArray[np.str_]
    passage_domains: NDArray[np.str_]
    passage_clusters: NDArray[np.str_]
    passage_first: Integers
    sentence: Integers
    upos: Integers
    upos_names: NDArray[np.str_]
    form: Integers
    forms: NDArray[np.str_]
    tokens: Integers
    usable: NDArray[np.bool_]
    space: NDArray[np.bool_]
    word_classes: Integers
    link_relation: Integers
    link_query: Integers
    link_first: Integers
    link_targets: Integers
    deprel: Integers
    mention_end: Integers
    example_words: Integers
    sampled_words: Integers

    @cached_property
    def passage(self) -> Integers:
        """[W]: the passage each word stands in."""
        return np.repeat(np.arange(len(self.passage_ids)), np.diff(self.passage_first))

    @cached_property
    def place(self) -> Integers:
        """[W]: the index of each word in its passage."""
        return np.arange(len(self.form)) - self.passage_first[self.passage]

    @cached_property
    def sentence_first(self) -> Integers:
        """[W]: the word number at which the sentence of each word starts."""
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
        """The domains that occur, sorted."""
        return tuple(sorted(set(self.passage_domains.tolist())))

    @cached_property
    def domain(self) -> Integers:
        """[P]: the index into ``domains`` of each passage."""
        order = {name: index for index, name in enumerate(self.domains)}
        return np.array([order[name] for name in self.passage_domains.tolist()], dtype=np.int64)

    @cached_property
    def usable_before(self) -> Integers:
        """[W + 1]: how many usable words stand before each word of the run, and in all of it."""
        return np.concatenate([[0], np.cumsum(self.usable)])

    @cached_property
    def folded_form(self) -> Integers:
        """[W]: a number for each word's lower-cased form; equal forms have equal numbers."""
        _, folded = np.unique([form.lower() for form in self.forms], return_inverse=True)
        return folded[self.form] if len(self.forms) else self.form

    @cached_property
    def usable_by_form(self) -> Integers:
        """The usable words sorted by folded form, as form times W plus word number."""
        words = np.flatnonzero(self.usable)
        return np.sort(self.folded_form[words] * len(self.form) + words)

    @cached_property
    def document_fold(self) -> Integers:
        """[P]: the fold of each passage's document (of its template, where one is named)."""
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
        """(domain, document fold modulo ``OUTPUT_FOLDS``) pairs that occur, sorted."""
        return tuple(sorted(set(self._cell_of_passage)))

    @property
    def _cell_of_passage(self) -> list[tuple[str, int]]:
        folds = (self.document_fold % OUTPUT_FOLDS).tolist()
        return list(zip(self.passage_domains.tolist(), folds, strict=True))

    @cached_property
    def cell(self) -> Integers:
        """[P]: the index into ``cells`` of each passage."""
        order = {pair: index for index, pair in enumerate(self.cells)}
        return np.array([order[pair] for pair in self._cell_of_passage], dtype=np.int64)

    @cached_property
    def every(self) -> tuple[int, ...]:
        """The relations whose queries are all words; bit c of ``word_classes`` is the c-th."""
        return tuple(i for i, relation in enumerate(self.relations) if relation.every)

    def of(self, relation: int) -> RelationInstances:
        """All instances of ``relations[relation]``: usable query, at least one usable target."""
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
        bit = self.every.index(relation)
        members = np.flatnonzero(self.usable & ((self.word_classes >> bit) & 1).astype(bool))
        queries = np.flatnonzero(self.usable)
        low = np.searchsorted(members, self.passage_first[self.passage[queries]])
        high = np.searchsorted(members, queries)
        # every word is asked about every class: small numbers where they suffice
        small = np.int32 if len(self.form) < 2**31 else np.int64
        asks = high > low

        def asking(array: Integers) -> Integers:
            return np.asarray(array[asks], dtype=small)

        return RelationInstances(
            self.relations[relation], asking(queries), asking(low), asking(high), members
        )

    def save(self, path: Path) -> None:
        """Write everything to one ``.npz`` file (no pickles)."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "relations"}
        rows = [
            (r.family, r.name, r.looks_to, r.scope, str(int(r.strict)), str(int(r.every)))
            for r in self.relations
        ]
        arrays["relations"] = np.array(rows, dtype=np.str_).reshape(len(rows), 6)
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        with open_arrays(path) as archive:
            arrays: dict[str, Any] = {f.name: archive[f.name] for f in fields(cls)}
        arrays["relations"] = tuple(
            Relation(family, name, looks_to, scope, strict == "1", every == "1")
            for family, name, looks_to, scope, strict, every in arrays["relations"].tolist()
        )
        return cls(**arrays)
