"""The instances of a batch as flat indices, from which statistics gather attention and count hits.

Letters in shapes: B passages, W' words of each, of which the last W are query words; I instances,
of which the first J are explicit links; K targets of these links; C classes of words
(``batching.batches``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headprobe.runs.instances import Instances
from headprobe.vocabulary import FOLDS


@dataclass(frozen=True)
class BatchInstances:
    """The instances of a batch. Explicit links come first, then instances of classes, in which
    every word is a query and all earlier words of the class are its targets."""

    row: Tensor
    """[I]: the row b * W + w of each query word."""

    relation: Tensor
    """[I]: the index of each relation."""

    bins: Tensor
    """[3 I]: the bins in which the hits of each instance are counted. Bins of relation and document
    fold are numbered first, then those of relation and form fold, then those of relation and
    domain; so are the thirds of this vector."""

    sentence_scope: Tensor
    """[J]: whether only words of the query's sentence are candidates, by link."""

    strict: Tensor
    """[J']: the indices of the links whose candidates do not include words of the query's form."""

    other_form: Tensor
    """[J', W']: 1 for words whose form is not that of the query, by strict link; else 0."""

    instance_of_target: Tensor
    """[K]: the index of the link that each target belongs to."""

    target: Tensor
    """[K]: the index of each target word in its passage."""

    target_pair: Tensor
    """[K]: the pair (b * W' + target) * W + w of each target and its query."""

    target_relation: Tensor
    """[K]: the index of the relation of each target's link."""

    class_start: Tensor
    """[I - J]: the index, in the flattened ``AlignedBatch.classes``, at which the instance's
    passage and class start; the membership of word w' is w' * C further."""

    class_relation: Tensor
    """[C]: the index of the relation of each class."""

    @property
    def n_links(self) -> int:
        """J, the number of explicit links."""
        return len(self.row) - len(self.class_start)


class InstanceIndexer:
    """Selects the instances of a batch from those of the run. One object serves the whole run."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        relations = instances.relations
        self._sentence_scope = np.array([r.scope == "sentence" for r in relations], dtype=bool)
        self._strict = np.array([r.strict for r in relations], dtype=bool)
        nearest = instances.link_targets[instances.link_first[1:] - 1]
        self._link_form_fold = instances.form_fold[nearest]
        self._link_passage = instances.passage[instances.link_query]

    def index(
        self,
        passages: NDArray[np.int64],
        word_rows: Sequence[slice],
        first_word: int,
        classes: NDArray[np.float32],
        usable: NDArray[np.bool_],
        form: NDArray[np.integer],
    ) -> dict[str, NDArray[Any]]:
        """Return the fields of ``BatchInstances`` for the passages of a batch.

        ``passages`` [B] are passage numbers, and ``word_rows`` their words up to the block's end,
        as slices of the run's words. Query words are those from ``first_word`` on. ``classes``
        [B, W', C] is the membership of words in classes, ``usable`` [B, W'] whether they can be
        queries or targets, and ``form`` [B, W'] a number for each lower-cased form.
        """
        instances = self._instances
        # The links whose query word is a query word of the batch; links are sorted by passage
        links, rows = [], []
        for place, (number, span) in enumerate(zip(passages, word_rows, strict=True)):
            low, high = np.searchsorted(self._link_passage, [number, number + 1])
            query = instances.link_query[low:high]
            inside = (query >= span.start + first_word) & (query < span.stop)
            links.append(low + np.flatnonzero(inside))
            rows.append(np.full(len(links[-1]), place))
        link, link_passage = np.concatenate(links), np.concatenate(rows).astype(np.int64)
        first_of_passage = np.array([span.start for span in word_rows])
        # The targets of these links, concatenated
        counts = instances.link_first[link + 1] - instances.link_first[link]
        link_of_target = np.repeat(np.arange(len(link)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        target = instances.link_targets[np.repeat(instances.link_first[link], counts) + offsets]
        target_word = target - first_of_passage[link_passage[link_of_target]]

        # Append the instances of classes
        by_class = self._index_classes(first_of_passage, first_word, classes, usable)
        relation = np.concatenate([instances.link_relation[link], by_class["relation"]])
        passage = np.concatenate([link_passage, by_class["passage"]])
        form_fold = np.concatenate([self._link_form_fold[link], by_class["form_fold"]])
        link_query = instances.link_query[link] - first_of_passage[link_passage]
        query = np.concatenate([link_query, by_class["query"]])

        number = passages[passage]  # of each instance's passage in the run
        n_fold_bins = len(instances.relations) * FOLDS
        bins = [
            relation * FOLDS + instances.document_fold[number],
            n_fold_bins + relation * FOLDS + form_fold,
            2 * n_fold_bins + relation * len(instances.domains) + instances.domain[number],
        ]
        words, queries = usable.shape[1], usable.shape[1] - first_word
        query_index = query - first_word
        target_base = (link_passage[link_of_target] * words + target_word) * queries
        strict = np.flatnonzero(self._strict[instances.link_relation[link]])
        own_form = form[passage[strict], query[strict]]
        return {
            "row": passage * queries + query_index,
            "relation": relation,
            "bins": np.concatenate(bins),
            "sentence_scope": self._sentence_scope[instances.link_relation[link]],
            "strict": strict,
            "other_form": (form[passage[strict]] != own_form[:, None]).astype(np.float32),
            "instance_of_target": link_of_target,
            "target": target_word,
            "target_pair": target_base + query_index[link_of_target],
            "target_relation": relation[link_of_target],
            "class_start": by_class["passage"] * words * classes.shape[2] + by_class["column"],
            "class_relation": np.array(instances.every, dtype=np.int64),
        }

    def _index_classes(
        self,
        first_of_passage: NDArray[np.int64],
        first_word: int,
        classes: NDArray[np.float32],
        usable: NDArray[np.bool_],
    ) -> dict[str, NDArray[np.integer]]:
        """Return the instances of classes: for each class every usable query word that has an
        earlier word of the class in its passage."""
        instances = self._instances
        member = classes > 0
        # The last member before each word is a running maximum of members' indices, moved by one
        places = np.where(member, np.arange(classes.shape[1])[None, :, None], -1)
        nearest = np.full_like(places, -1)
        nearest[:, 1:] = np.maximum.accumulate(places, axis=1)[:, :-1]
        passage, query, column = np.nonzero(((nearest >= 0) & usable[:, :, None])[:, first_word:])
        query += first_word
        return {
            "passage": passage,
            "query": query,
            "column": column,
            "relation": np.array(instances.every, dtype=np.int64)[column],
            "form_fold": instances.form_fold[
                first_of_passage[passage] + nearest[passage, query, column]
            ],
        }
