"""The instances of a batch as indices into it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from headprobe.axes import FOLDS
from headprobe.store.instances import Instances


@dataclass(frozen=True)
class Questions:
    """The instances of a batch as indices; one row of each per instance [I] or target [K].

    ``row`` [I] is the query word (b * W + w); ``relation`` [I]; ``bins`` [3 I] number first the
    document folds of all relations, for each instance, then the form folds, then the domains.
    Explicit links come first: their targets are words ``target`` [K] of instance ``of`` [K], with
    its ``target_relation`` and ``target_pair`` ((b * W' + target) * W + w); those
    numbered ``strict`` leave out all words but those of ``other_form`` [J, W']. The others ask for
    a class: ``class_start`` [I'] is its place, and its passage's, among ``AlignedBatch.classes``;
    ``of_class`` [C] are the classes' relations.
    """

    row: Tensor
    relation: Tensor
    bins: Tensor
    sentence_scope: Tensor
    strict: Tensor
    other_form: Tensor
    of: Tensor
    target: Tensor
    target_pair: Tensor
    target_relation: Tensor
    class_start: Tensor
    of_class: Tensor

    @property
    def links(self) -> int:
        """How many instances are explicit links."""
        return len(self.row) - len(self.class_start)


class Asker:
    """Finds the instances of passages; made once for a run."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        relations = instances.relations
        self._sentence_scope = np.array([r.scope == "sentence" for r in relations], dtype=bool)
        self._strict = np.array([r.strict for r in relations], dtype=bool)
        nearest = instances.link_targets[instances.link_first[1:] - 1]
        self._link_form_fold = instances.form_fold[nearest]
        self._link_passage = instances.passage[instances.link_query]

    def ask(
        self,
        passages: NDArray[np.int64],
        word_rows: Sequence[slice],
        first_word: int,
        classes: NDArray[np.float32],
        usable: NDArray[np.bool_],
        form: NDArray[np.integer],
    ) -> dict[str, NDArray[Any]]:
        """The fields of ``Questions``, for passages (by number) whose words are ``word_rows``, the
        query words those from ``first_word`` on, with their ``classes`` [B, W', C], ``usable``
        words and folded forms [B, W']."""
        found = self._instances
        links, rows = [], []
        for place, (number, span) in enumerate(zip(passages, word_rows, strict=True)):
            low, high = np.searchsorted(self._link_passage, [number, number + 1])
            query = found.link_query[low:high]
            inside = (query >= span.start + first_word) & (query < span.stop)
            links.append(low + np.flatnonzero(inside))
            rows.append(np.full(len(links[-1]), place))
        link, row = np.concatenate(links), np.concatenate(rows).astype(np.int64)
        base = np.array([span.start for span in word_rows])
        counts = found.link_first[link + 1] - found.link_first[link]
        of = np.repeat(np.arange(len(link)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        target = found.link_targets[np.repeat(found.link_first[link], counts) + offsets]

        asked = self._ask_of_classes(base, first_word, classes, usable)
        relation = np.concatenate([found.link_relation[link], asked["relation"]])
        passage = np.concatenate([row, asked["passage"]])
        form_fold = np.concatenate([self._link_form_fold[link], asked["form_fold"]])
        of_run = passages[passage]
        words = usable.shape[1]
        query = np.concatenate([found.link_query[link] - base[row], asked["query"]])
        own_word = query - first_word
        target_word = target - base[row[of]]
        strict = np.flatnonzero(self._strict[found.link_relation[link]])
        own_form = form[passage[strict], query[strict]]
        every_fold = len(found.relations) * FOLDS
        bins = [
            relation * FOLDS + found.document_fold[of_run],
            every_fold + relation * FOLDS + form_fold,
            2 * every_fold + relation * len(found.domains) + found.domain[of_run],
        ]
        class_passage = passage[len(link) :]
        return {
            "row": passage * (words - first_word) + own_word,
            "relation": relation,
            "bins": np.concatenate(bins),
            "sentence_scope": self._sentence_scope[found.link_relation[link]],
            "strict": strict,
            "other_form": (form[passage[strict]] != own_form[:, None]).astype(np.float32),
            "of": of,
            "target": target_word,
            "target_pair": (row[of] * words + target_word) * (words - first_word) + own_word[of],
            "target_relation": relation[of],
            "class_start": class_passage * words * classes.shape[2] + asked["column"],
            "of_class": np.array(found.every, dtype=np.int64),
        }

    def _ask_of_classes(
        self,
        base: NDArray[np.int64],
        first_word: int,
        classes: NDArray[np.float32],
        usable: NDArray[np.bool_],
    ) -> dict[str, NDArray[np.integer]]:
        """Every usable word that stands after a word of the class, for each class."""
        found = self._instances
        member = classes > 0
        # the last member before each word: a running maximum of member places, moved by one
        places = np.where(member, np.arange(classes.shape[1])[None, :, None], -1)
        nearest = np.full_like(places, -1)
        nearest[:, 1:] = np.maximum.accumulate(places, axis=1)[:, :-1]
        passage, query, column = np.nonzero(((nearest >= 0) & usable[:, :, None])[:, first_word:])
        query += first_word
        return {
            "passage": passage,
            "query": query,
            "column": column,
            "relation": np.array(found.every, dtype=np.int64)[column],
            "form_fold": found.form_fold[base[passage] + nearest[passage, query, column]],
        }
