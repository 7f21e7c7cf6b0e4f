"""Rectangles of passages, as the measuring wing sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.align.corpus import Corpus
from headprobe.align.pairs import WordPairs, pair_words
from headprobe.align.questions import Asker, Questions


@dataclass(frozen=True)
class AlignedBatch:
    """Passages of similar length, padded on the right to T tokens and W words.

    ``token_ids``, ``real`` [B, T]; ``word_of_token`` [B, T], -1 where a token belongs to no usable
    word; ``last_token`` [B, W] the query rows, 0 where ``usable`` [B, W] is false; ``sentence`` and
    ``form`` [B, W]; ``classes`` [B, W, C] membership in the relations with ``every``; ``marks``
    [B, W] usable punctuation; ``cell`` [B]; ``token_column`` [B, T] indexes the run's distinct
    token ids; ``sampled`` and ``example`` [S, 2] (passage, word) rows that are looked at one by
    one, ``sampled_row`` and ``example_row`` [S] their places in the run's lists. ``starts`` tokens
    stand before each text.
    """

    passages: NDArray[np.int64]
    token_ids: Tensor
    real: Tensor
    word_of_token: Tensor
    last_token: Tensor
    usable: Tensor
    sentence: Tensor
    form: Tensor
    classes: Tensor
    marks: Tensor
    cell: Tensor
    sampled: Tensor
    sampled_row: Tensor
    example: Tensor
    example_row: Tensor
    token_column: Tensor
    questions: Questions
    pairs: WordPairs
    starts: int

    @cached_property
    def word_columns(self) -> Tensor:
        """[B, T, W]: 1 where a token belongs to a word; attention rows times this are per word."""
        words = torch.arange(self.usable.shape[1], device=self.token_ids.device)
        return (self.word_of_token[:, :, None] == words).float()

    @cached_property
    def pieces(self) -> list[list[tuple[Tensor, Tensor]]]:
        """For each passage its words that have a k-th token, and that token, for k = 1, 2, ..."""
        split: list[list[tuple[Tensor, Tensor]]] = []
        for row in self.word_of_token.cpu():
            token = torch.nonzero(row >= 0).flatten()
            word = row[token]
            starts = torch.searchsorted(word, word)
            rank = torch.arange(len(word)) - starts
            ranks = range(int(rank.max()) + 1) if len(rank) else range(0)
            of_rank = [(word[rank == k], token[rank == k]) for k in ranks]
            split.append([(w.to(row.device), t.to(row.device)) for w, t in of_rank])
        return split

    @cached_property
    def earlier(self) -> Tensor:
        """[B, W, 1, W]: 1 where the key is a usable word before a usable query word."""
        pairs = self.usable[:, :, None] & self.usable[:, None, :]
        return pairs.tril(-1).float()[:, :, None, :]

    @cached_property
    def later_rows(self) -> Tensor:
        """[B, W, T]: 1 where a usable word's row comes after a token that is not the word's own."""
        places = torch.arange(self.token_ids.shape[1], device=self.token_ids.device)
        words = torch.arange(self.usable.shape[1], device=self.token_ids.device)
        after = self.last_token[:, :, None] > places
        own = self.word_of_token[:, None, :] == words[:, None]
        return (after & ~own & self.usable[:, :, None]).float()

    @cached_property
    def same_sentence(self) -> Tensor:
        """[B, W, 1, W]: 1 where query and key stand in one sentence."""
        return (self.sentence[:, :, None] == self.sentence[:, None, :]).float()[:, :, None, :]

    @cached_property
    def rows(self) -> Tensor:
        """[B, W] as float: 1 for the rows of usable words."""
        return self.usable.float()


def plan_batches(
    lengths: NDArray[np.integer], heads: int, *, tokens: int, scores: int
) -> list[NDArray[np.int64]]:
    """Passage numbers by length, longest first, cut into rectangles.

    A rectangle holds at most ``tokens`` padded tokens and ``scores`` attention weights of one layer
    (passages * heads * T * T), but always at least one passage.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches: list[NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        size = max(1, min(tokens // longest, scores // (heads * longest * longest)))
        batches.append(order[start : start + size])
        start += size
    return batches


class Batcher:
    """Builds batches of a corpus on a device."""

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        self._corpus, self._device = corpus, device
        found = corpus.instances
        self._asker = Asker(found)
        self._token_numbers, self._token_column = np.unique(corpus.token_ids, return_inverse=True)
        punctuation = found.upos_names[found.upos] == "PUNCT" if len(found.upos) else found.usable
        self._marks = (punctuation & found.usable).astype(np.float32)

    @property
    def token_numbers(self) -> NDArray[np.int32]:
        """[K]: the different token ids of the corpus, ascending."""
        return self._token_numbers

    def token_columns(self) -> list[NDArray[np.int64]]:
        """For each passage its tokens as places in ``token_numbers``."""
        return np.split(self._token_column, self._corpus.token_first[1:-1])

    def build(self, passages: NDArray[np.int64]) -> AlignedBatch:
        """The batch of these passages (passage numbers of the run)."""
        corpus, found = self._corpus, self._corpus.instances
        token_rows = [slice(*corpus.token_first[p : p + 2]) for p in passages]
        word_rows = [slice(*found.passage_first[p : p + 2]) for p in passages]
        last = stack([corpus.last_token[rows] for rows in word_rows], -1)
        usable, classes = last >= 0, self._classes(word_rows, last >= 0)
        sampled, sampled_row = _within(found.sampled_words, word_rows)
        example, example_row = _within(found.example_words, word_rows)
        arrays = {
            "token_ids": stack([corpus.token_ids[rows] for rows in token_rows], 0),
            "real": stack([np.ones(r.stop - r.start, dtype=np.int64) for r in token_rows], 0),
            "word_of_token": stack([corpus.word_of_token[rows] for rows in token_rows], -1),
            "token_column": stack([self._token_column[rows] for rows in token_rows], 0),
            "last_token": np.maximum(last, 0),
            "usable": usable,
            "sentence": stack([found.sentence[rows] for rows in word_rows], -1),
            "form": stack([found.folded_form[rows] for rows in word_rows], -1),
            "classes": classes,
            "marks": stack([self._marks[rows] for rows in word_rows], 0),
            "cell": found.cell[passages],
            "sampled": sampled,
            "sampled_row": sampled_row,
            "example": example,
            "example_row": example_row,
        }
        questions = self._asker.ask(passages, word_rows, classes, usable)
        pairs = pair_words(
            usable,
            stack([found.upos_number[rows] for rows in word_rows], 0),
            stack([found.deprel[rows] for rows in word_rows], 0),
            stack([found.form_fold[rows] for rows in word_rows], 0),
            found.document_fold[passages],
        )
        return AlignedBatch(
            passages=passages,
            questions=Questions(**{k: self._tensor(v) for k, v in questions.items()}),
            pairs=WordPairs(**{k: self._tensor(v) for k, v in pairs.items()}),
            starts=corpus.starts,
            **{name: self._tensor(array) for name, array in arrays.items()},
        )

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        wide = array.astype(np.int64) if array.dtype.kind in "iu" else array
        return torch.from_numpy(np.ascontiguousarray(wide)).to(self._device, non_blocking=True)

    def _classes(
        self, word_rows: Sequence[slice], usable: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        found = self._corpus.instances
        bits = stack([found.word_classes[rows] for rows in word_rows], 0)
        columns = np.arange(len(found.every))
        member = ((bits[:, :, None] >> columns) & 1).astype(bool) & usable[:, :, None]
        return member.astype(np.float32)


def _within(
    words: NDArray[np.integer], word_rows: Sequence[slice]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[S, 2]: (passage of the batch, word of the passage) of the ``words`` in it, ascending word
    numbers of the run; and [S] their places in ``words``."""
    places = [np.arange(*np.searchsorted(words, [s.start, s.stop])) for s in word_rows]
    place = np.concatenate(places).astype(np.int64)
    passage = np.repeat(np.arange(len(word_rows)), [len(inside) for inside in places])
    base = np.array([span.start for span in word_rows])
    return np.stack([passage, words[place] - base[passage]], axis=1), place


def stack(rows: Sequence[NDArray[Any]], fill: object) -> NDArray[Any]:
    """Rows of different length as one array, the rest filled."""
    length = max((len(row) for row in rows), default=0)
    full = np.full((len(rows), length), fill, dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        full[place, : len(row)] = row
    return full
