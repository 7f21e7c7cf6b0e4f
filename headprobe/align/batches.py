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
from headprobe.align.flat import Block, Flat, Rectangle, lay_flat, on_device
from headprobe.align.pairs import WordPairs, pair_words
from headprobe.align.questions import Asker, Questions


@dataclass(frozen=True)
class AlignedBatch:
    """A block of passages: T tokens, of which R are rows; W' earlier words, of which the last W
    are the block's query words (all, where the block is whole passages); padded on the right.

    ``rectangle`` are the tokens' places in the chunk; ``word_of_token`` [B, T], -1 where a token
    belongs to no usable word; ``last_row`` [B, W] the rows of the query words, 0 where they are not
    usable; ``first_word`` is W' - W. ``usable``, ``sentence``, ``marks`` (usable punctuation)
    [B, W'] and ``classes`` [B, W', C], membership in the relations with ``every``,
    tell of the earlier words. ``one_sentence``: no passage holds more. ``sampled`` and ``example``
    [S] are rows (b * W + w) that are looked at one by one, ``sampled_row`` and ``example_row`` [S]
    their places in the run's lists; ``questions`` and ``pairs`` count rows in the same way.
    ``starts`` tokens stand before each text.

    What takes a search (``unusable``: query words (b * W + w) whose rows are none of theirs;
    ``own_rows``: passage, query word and token [K] of the block's words' own tokens) is found on
    the host: a device would have to be waited for.
    """

    rectangle: Rectangle
    word_of_token: Tensor
    last_row: Tensor
    first_word: int
    usable: Tensor
    unusable: Tensor
    own_rows: tuple[Tensor, Tensor, Tensor]
    sentence: Tensor
    classes: Tensor
    marks: Tensor
    one_sentence: bool
    sampled: Tensor
    sampled_row: Tensor
    example: Tensor
    example_row: Tensor
    questions: Questions
    pairs: WordPairs
    starts: int

    @cached_property
    def rows(self) -> Tensor:
        """[B, W] as float: 1 for the rows of usable words."""
        return self.usable[:, self.first_word :].float()

    @cached_property
    def word_columns(self) -> Tensor:
        """[2 B, W', T]: 1 where a token belongs to a word; this times columns of attention is per
        word (for two kinds of them, one after the other)."""
        words = torch.arange(self.usable.shape[1], device=self.usable.device)
        return (self.word_of_token[:, None, :] == words[:, None]).float().repeat(2, 1, 1)

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
            device = self.word_of_token.device
            split.append([(w.to(device), t.to(device)) for w, t in of_rank])
        return split

    @cached_property
    def later_rows(self) -> Tensor:
        """[B, T]: how many rows of usable words come after a token that is not their own."""
        places = torch.arange(self.word_of_token.shape[1], device=self.usable.device)
        last = (self.last_row + self.rectangle.first)[:, :, None]
        after = ((last > places) & (self.rows[:, :, None] > 0)).sum(1)
        passage, word, token = self.own_rows
        own = (last[passage, word, 0] > token).to(after.dtype)
        return after.index_put((passage, token), -own, accumulate=True)

    @cached_property
    def same_sentence(self) -> Tensor:
        """[B, W, 1, W']: 1 where query and key stand in one sentence."""
        query = self.sentence[:, None, self.first_word :]
        alike = (query == self.sentence[:, :, None]).float()
        return alike.transpose(1, 2)[:, :, None, :]


@dataclass(frozen=True)
class Chunk:
    """Passages in one flat run of N tokens, and the blocks that cover their words once.

    ``token_column`` [N] indexes the run's distinct token ids. ``word_token`` [Q] are the places of
    all usable words' last tokens, ``word_passage`` [Q] and ``cell`` [P] their passages and these'
    cells; ``sampled_word`` [S] the sampled among these words, in the order of the batches';
    ``told`` [M] the places of the texts' tokens.
    """

    passages: NDArray[np.int64]
    flat: Flat
    batches: tuple[AlignedBatch, ...]
    token_column: Tensor
    word_token: Tensor
    word_passage: Tensor
    cell: Tensor
    sampled_word: Tensor
    told: Tensor


class Batcher:
    """Builds chunks of a corpus on a device."""

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        self._corpus, self._device = corpus, device
        found = corpus.instances
        self.starts = corpus.starts
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

    def build(self, blocks: Sequence[Block]) -> Chunk:
        """The chunk of these blocks (passage numbers of the run)."""
        corpus, found = self._corpus, self._corpus.instances
        numbers = np.concatenate([block.passages for block in blocks])
        numbers = numbers[np.sort(np.unique(numbers, return_index=True)[1])]
        tokens = {p: self._tokens(p) for p in numbers.tolist()}
        flat = lay_flat(
            {p: corpus.token_ids[rows] for p, rows in tokens.items()}, blocks, self._device
        )
        starts = np.cumsum([0, *(rows.stop - rows.start for rows in tokens.values())])
        words = [np.arange(*found.passage_first[p : p + 2]) for p in numbers]
        words = [inside[found.usable[inside]] for inside in words]
        word, passage = np.concatenate(words), np.repeat(np.arange(len(words)), _lengths(words))
        sampled = [
            found.sampled_words[low:high]
            for block in blocks
            for low, high in (
                np.searchsorted(found.sampled_words, [span.start, span.stop])
                for span in self._query_words(block)
            )
        ]
        order = np.argsort(word)
        place = order[np.searchsorted(word[order], np.concatenate(sampled))]
        return Chunk(
            passages=numbers,
            flat=flat,
            batches=tuple(
                self._batch(block, rectangle)
                for block, rectangle in zip(blocks, flat.rectangles, strict=True)
            ),
            token_column=self._tensor(
                np.concatenate([self._token_column[rows] for rows in tokens.values()])
            ),
            word_token=self._tensor(corpus.last_token[word] + starts[passage]),
            word_passage=self._tensor(passage),
            cell=self._tensor(found.cell[numbers]),
            sampled_word=self._tensor(place),
            told=self._tensor(_text_places(starts, self.starts)),
        )

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return on_device(array, self._device)

    def _tokens(self, passage: int, stop: int | None = None) -> slice:
        first, end = self._corpus.token_first[passage : passage + 2].tolist()
        return slice(first, end if stop is None else min(end, first + stop))

    def _query_words(self, block: Block) -> list[slice]:
        """The words (of the run) of each passage whose last tokens are rows of the block."""
        corpus, spans = self._corpus, []
        for passage in block.passages:
            start, stop = corpus.instances.passage_first[passage : passage + 2].tolist()
            # unusable words go with the word before them
            last = np.maximum.accumulate(corpus.last_token[start:stop])
            low, high = np.searchsorted(last, [block.first, block.stop])
            spans.append(slice(start + int(low) * (block.first > 0), start + int(high)))
        return spans

    def _batch(self, block: Block, rectangle: Rectangle) -> AlignedBatch:
        corpus, found = self._corpus, self._corpus.instances
        queries = self._query_words(block)
        base = found.passage_first[block.passages]
        first_word = queries[0].start - int(base[0])
        earlier = [slice(int(b), span.stop) for b, span in zip(base, queries, strict=True)]
        last = stack([corpus.last_token[span] for span in queries], -1)
        usable = stack([found.usable[span] for span in earlier], False)
        classes = self._classes(earlier, usable)
        tokens = [corpus.word_of_token[self._tokens(p, block.stop)] for p in block.passages]
        word_of_token = stack(tokens, -1)
        word_of_token[word_of_token >= usable.shape[1]] = -1
        sampled, sampled_row = _within(found.sampled_words, queries)
        example, example_row = _within(found.example_words, queries)
        sentence = stack([found.sentence[span] for span in earlier], 0)
        arrays = {
            "word_of_token": word_of_token,
            "last_row": np.maximum(last - block.first, 0),
            "usable": usable,
            "unusable": np.flatnonzero(~usable[:, first_word:]),
            "sentence": sentence,
            "classes": classes,
            "marks": stack([self._marks[span] for span in earlier], 0),
            "sampled": sampled,
            "sampled_row": sampled_row,
            "example": example,
            "example_row": example_row,
        }
        passage, token = np.nonzero(word_of_token >= first_word)
        own_word = word_of_token[passage, token] - first_word
        form = stack([found.folded_form[span] for span in earlier], -1)
        questions = self._asker.ask(block.passages, earlier, first_word, classes, usable, form)
        pairs = pair_words(
            usable,
            stack([found.upos_number[span] for span in earlier], 0),
            stack([found.deprel[span] for span in earlier], 0),
            stack([found.form_fold[span] for span in earlier], 0),
            found.document_fold[block.passages],
            first_word,
        )
        return AlignedBatch(
            rectangle=rectangle,
            first_word=first_word,
            own_rows=(self._tensor(passage), self._tensor(own_word), self._tensor(token)),
            one_sentence=not sentence.any(),
            questions=Questions(**{k: self._tensor(v) for k, v in questions.items()}),
            pairs=WordPairs(**{k: self._tensor(v) for k, v in pairs.items()}),
            starts=corpus.starts,
            **{name: self._tensor(array) for name, array in arrays.items()},
        )

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
    """[S]: the rows (b * W + w) of the ``words`` in a batch, ascending word numbers of the run; and
    [S] their places in ``words``."""
    places = [np.arange(*np.searchsorted(words, [s.start, s.stop])) for s in word_rows]
    place = np.concatenate(places).astype(np.int64)
    passage = np.repeat(np.arange(len(word_rows)), _lengths(places))
    base = np.array([span.start for span in word_rows])
    length = max(span.stop - span.start for span in word_rows)
    return passage * length + words[place] - base[passage], place


def _text_places(edges: NDArray[np.integer], starts: int) -> NDArray[np.int64]:
    """[M]: the places of a flat run but the first ``starts`` of each passage."""
    place = np.arange(edges[-1])
    return place[place - np.repeat(edges[:-1], np.diff(edges)) >= starts]


def _lengths(rows: Sequence[NDArray[Any]]) -> list[int]:
    return [len(row) for row in rows]


def stack(rows: Sequence[NDArray[Any]], fill: object) -> NDArray[Any]:
    """Rows of different length as one array, the rest filled."""
    length = max((len(row) for row in rows), default=0)
    full = np.full((len(rows), length), fill, dtype=rows[0].dtype)
    for place, row in enumerate(rows):
        full[place, : len(row)] = row
    return full
