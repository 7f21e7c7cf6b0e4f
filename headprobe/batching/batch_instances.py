"""The instances of a batch as flat indices, from which statistics gather attention and count hits.

Letters in shapes: B passages, W' words of each, of which the last W are query words; I instances,
of which the first J are explicit links; K targets of these links; C classes of words
(``batching.batches``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headprobe.runs.instances import Instances
from headprobe.vocabulary import FOLDS, CandidateRule


@dataclass(frozen=True)
class BatchInstances:
    """The instances of a batch. Explicit links come first, then instances of classes, in which
    every word is a query and all earlier words of the class are its targets."""

    row: Tensor
    """[I]: the row b * W + w of each query word."""

    number: Tensor
    """[I]: the number of each instance in the run (``Instances.first_instance``)."""

    relation: Tensor
    """[I]: the index of each relation."""

    bins: Tensor
    """[2, I]: relation * FOLDS + document fold, and relation * FOLDS + form fold."""

    sentence_scope: Tensor
    """[J]: whether only words of the query's sentence are candidates, by link."""

    strict: Tensor
    """[J']: the indices of the links whose candidates are not all words of the scope."""

    other_form: Tensor
    """[J', W']: 1 for words that the candidate rule of each such link admits; else 0."""

    instance_of_target: Tensor
    """[K]: the index of the link that each target belongs to, ascending."""

    target: Tensor
    """[K]: the index of each target word in its passage."""

    target_pair: Tensor
    """[K]: the pair (b * W' + target) * W + w of each target and its query."""

    class_column: Tensor
    """[I - J]: the class of each further instance, as a column of ``AlignedBatch.classes``."""

    @property
    def n_links(self) -> int:
        """J, the number of explicit links."""
        return len(self.sentence_scope)


class CandidateKeys(NamedTuple):
    """Numbers [B, W'] of the words of a batch (``Instances.candidate_keys``)."""

    required: NDArray[np.integer]
    """A candidate's number equals the query's."""

    excluded: NDArray[np.integer]
    """A candidate's number differs from the query's."""

    def admitted(
        self, passage: NDArray[np.integer], query: NDArray[np.integer]
    ) -> NDArray[np.bool_]:
        """Return which words of its passage each query admits, [J', W']."""
        admitted = self.required[passage] == self.required[passage, query][:, None]
        admitted &= self.excluded[passage] != self.excluded[passage, query][:, None]
        return np.asarray(admitted)


class InstanceIndexer:
    """Selects the instances of a batch from those of the run. One object serves the whole run."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        relations, every = instances.relations, instances.every
        self._sentence_scope = np.array([r.scope == "sentence" for r in relations], dtype=bool)
        self._rule = np.array([r.candidates for r in relations], dtype=np.str_)
        self._link_passage = instances.passage[instances.link_query]
        # What does not depend on the batch is computed once: relation [I] and bins [2, I] by
        # instance number, and the instance numbers of links [J] and of each word as a query of
        # each class [C, W] (-1 if it is none).
        edges = instances.first_instance
        self._relation = np.repeat(np.arange(len(relations)), np.diff(edges))
        self._bins = np.empty((2, edges[-1]), dtype=np.int64)
        self._link_number = np.empty(len(instances.link_query), dtype=np.int64)
        self._class_number = np.full((len(every), len(instances.form)), -1)
        for index, first in enumerate(edges[:-1]):
            links = instances.of(index)
            numbers = first + np.arange(len(links))
            if index in every:
                self._class_number[every.index(index), links.query] = numbers
            else:
                self._link_number[instances.link_relation == index] = numbers
            self._bins[0, numbers] = instances.document_fold[instances.passage[links.query]]
            self._bins[1, numbers] = instances.form_fold[links.nearest]
        self._bins += self._relation * FOLDS

    def index(
        self,
        passages: NDArray[np.int64],
        word_rows: Sequence[slice],
        first_word: int,
        words: int,
        keys: Mapping[CandidateRule, CandidateKeys],
    ) -> dict[str, NDArray[Any]]:
        """Return the fields of ``BatchInstances`` for the passages of a batch.

        ``passages`` [B] are passage numbers, and ``word_rows`` their words up to the block's end,
        as slices of the run's words. Query words are those from ``first_word`` on. ``words`` is W',
        and ``keys`` are the numbers by which each candidate rule admits words.
        """
        instances = self._instances
        queries = words - first_word
        # The links whose query word is a query word of the batch (links are sorted by passage), and
        # the instances of classes with such a query word
        links, rows = [], []
        class_numbers, class_rows, class_columns = [], [], []
        for place, (number, span) in enumerate(zip(passages, word_rows, strict=True)):
            low, high = np.searchsorted(self._link_passage, [number, number + 1])
            query = instances.link_query[low:high]
            inside = (query >= span.start + first_word) & (query < span.stop)
            links.append(low + np.flatnonzero(inside))
            rows.append(np.full(len(links[-1]), place))
            of_words = self._class_number[:, span.start + first_word : span.stop]
            column, query_index = np.nonzero(of_words >= 0)
            class_numbers.append(of_words[column, query_index])
            class_rows.append(place * queries + query_index)
            class_columns.append(column)
        link, link_passage = np.concatenate(links), np.concatenate(rows).astype(np.int64)
        first_of_passage = np.array([span.start for span in word_rows])
        # The targets of these links, concatenated
        counts = instances.link_first[link + 1] - instances.link_first[link]
        link_of_target = np.repeat(np.arange(len(link)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        target = instances.link_targets[np.repeat(instances.link_first[link], counts) + offsets]
        target_word = target - first_of_passage[link_passage[link_of_target]]

        link_query = instances.link_query[link] - first_of_passage[link_passage]
        query_index = link_query - first_word
        target_base = (link_passage[link_of_target] * words + target_word) * queries
        rule = self._rule[instances.link_relation[link]]
        strict = np.flatnonzero(rule != "any")
        other_form = np.ones((len(strict), words), dtype=np.float32)
        for name, candidate_keys in keys.items():
            rows_of_rule = np.flatnonzero(rule[strict] == name)
            chosen = strict[rows_of_rule]
            admitted = candidate_keys.admitted(link_passage[chosen], link_query[chosen])
            other_form[rows_of_rule] = admitted
        numbers = np.concatenate([self._link_number[link], *class_numbers])
        return {
            "row": np.concatenate([link_passage * queries + query_index, *class_rows]),
            "number": numbers,
            "relation": self._relation[numbers],
            "bins": self._bins[:, numbers],
            "sentence_scope": self._sentence_scope[instances.link_relation[link]],
            "strict": strict,
            "other_form": other_form,
            "instance_of_target": link_of_target,
            "target": target_word,
            "target_pair": target_base + query_index[link_of_target],
            "class_column": np.concatenate(class_columns),
        }
