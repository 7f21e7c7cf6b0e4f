"""Chunks and batches: what is known about the words of a forward pass, as indices.

A ``Chunk`` is one forward pass: passages in a packed sequence and its blocks (``batching.layout``).
For each block there is an ``AlignedBatch``. It says which rows and keys of the block's attention
tile belong to which words, and which pairs of words the statistics are about. All of this is
computed with numpy before the pass, so that the statistics only gather and add.

Statistics in tensor operations read the indices as tensors; the compiled kernels for CPUs read the
same memory as arrays (``KernelInputs``).

Letters in shapes: B passages of a batch; T keys of its tile; W' words of each passage up to the
block's end, of which the last W are the block's query words (equal unless a long passage is
divided); I instances, of which the first J are explicit links; K targets of these links; C classes
of words; G key/value heads. PackedSequence indices are a row b * W + w, and a pair
(b * W' + earlier) * W + w, where w counts query words and ``earlier`` counts words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.arrays import Ints
from headprobe.batching.batch_instances import BatchInstances, CandidateKeys, InstanceIndexer
from headprobe.batching.corpus import Corpus
from headprobe.batching.layout import (
    EMPTY,
    AttentionTile,
    Block,
    PackedSequence,
    TokenOrder,
    batch_rows,
    on_device,
    order_tokens,
    pack_passages,
    pair_kinds,
    pair_with_earlier,
    pair_with_nearest,
    sort_pairs_by_kind,
)
from headprobe.runs.sketch import sketched_words
from headprobe.vocabulary import SKETCH_WORDS, CandidateRule


class KernelInputs(NamedTuple):
    """A batch as arrays, for the compiled kernels. A named tuple, because numba takes it as one
    argument.

    Lists are ascending by passage, so that a kernel that works on one passage reads one slice of
    each (``passage_edges``).
    """

    starts: int
    """The number of start tokens."""

    first_word: int
    """W' - W, the index of the first query word."""

    rows: Ints
    """[B, R]: ``AttentionTile.rows``."""

    extra: Ints
    """[3, X]: ``AlignedBatch.extra``."""

    kinds: NDArray[np.int16]
    """[2, B, W', W]: ``AlignedBatch.kinds``."""

    passage_edges: Ints
    """[6, B + 1]: the index at which each passage starts in ``extra``, ``link_row``,
    ``sampled_pair``, ``class_row``, ``example`` and ``sketch_pair``, in this order."""

    target_edges: Ints
    """[J + 1]: the index at which each link starts in ``target`` and ``target_pair``."""

    target: Ints
    """[K]: ``BatchInstances.target``."""

    target_pair: Ints
    """[K]: ``BatchInstances.target_pair``."""

    sampled_pair: Ints
    """[P]: ``AlignedBatch.sampled_pair``."""

    link_row: Ints
    """[J]: the row b * W + w of each link's query word."""

    classes: NDArray[np.float32]
    """[B, W', C]: ``AlignedBatch.classes``."""

    class_row: Ints
    """[I - J]: the row b * W + w of each further instance's query word."""

    class_column: Ints
    """[I - J]: ``BatchInstances.class_column``."""

    sentence_scope: NDArray[np.bool_]
    """[J]: whether only words of the query's sentence are candidates. False for all links if no
    passage has more than one sentence, because then the scope makes no difference."""

    strict_row: Ints
    """[J]: the row of ``other_form`` that applies to the link, or -1."""

    other_form: NDArray[np.float32]
    """[J', W']: ``BatchInstances.other_form``."""

    sentence: Ints
    """[B, W']: ``AlignedBatch.sentence``."""

    example: Ints
    """[S']: ``AlignedBatch.example``."""

    sketch_pair: Ints
    """[P']: ``AlignedBatch.sketch_pair``."""


def build_kernel_inputs(batch: "AlignedBatch") -> KernelInputs:
    """Return the arrays of a batch that is on the host and has query words; they share its
    memory."""
    instances, links = batch.instances, batch.instances.n_links
    strict_row = np.full(links, -1)
    strict_row[instances.strict.numpy()] = np.arange(len(instances.strict))
    passages, pairs = np.arange(len(batch.usable) + 1), batch.words * batch.queries
    lists = {
        "extra": batch.extra.numpy(),
        "sampled_pair": batch.sampled_pair.numpy(),
        "link_row": instances.row[:links].numpy(),
        "class_row": instances.row[links:].numpy(),
        "example": batch.example.numpy(),
        "sketch_pair": batch.sketch_pair.numpy(),
    }
    passage_of_items = (
        lists["extra"][0],
        lists["link_row"] // batch.queries,
        lists["sampled_pair"] // pairs,
        lists["class_row"] // batch.queries,
        lists["example"] // batch.queries,
        lists["sketch_pair"] // pairs,
    )
    return KernelInputs(
        starts=batch.starts,
        first_word=batch.first_word,
        rows=batch.tile.rows.numpy(),
        kinds=batch.kinds,
        passage_edges=np.stack([np.searchsorted(each, passages) for each in passage_of_items]),
        target_edges=np.searchsorted(instances.instance_of_target.numpy(), np.arange(links + 1)),
        target=instances.target.numpy(),
        target_pair=instances.target_pair.numpy(),
        classes=batch.classes.numpy(),
        class_column=instances.class_column.numpy(),
        sentence_scope=instances.sentence_scope.numpy() & (not batch.one_sentence),
        strict_row=strict_row,
        other_form=instances.other_form.numpy(),
        sentence=batch.sentence.numpy(),
        **lists,
    )


@dataclass(frozen=True)
class AlignedBatch:
    """A block of passages: its attention tile, and the words behind the tile's rows and keys.

    The first W rows of the tile are the last tokens of the query words. The first W' keys are the
    last tokens of all words, followed by the start tokens and by the extra tokens, which are the
    other tokens of usable words. Passages with fewer words are padded on the right; padding and
    unusable words are ``EMPTY`` in the tile, and their attention is zero.
    """

    tile: AttentionTile
    """The rows and keys of the block."""

    first_word: int
    """W' - W, the index of the first query word."""

    starts: int
    """The number of start tokens."""

    extra: Tensor
    """[3, X]: the passage b, the key t and the word w' of each extra token, ascending by b."""

    extra_key: Tensor
    """[X * G]: the keys of the extra tokens for each key/value head, (b * G + g) * T + t."""

    extra_word: Tensor
    """[X * G]: the words of the extra tokens for each key/value head, (b * G + g) * W' + w'."""

    own_extra: Tensor
    """[3, X']: the passage b, the key t and the row w of the extra tokens of query words."""

    usable: Tensor
    """[B, W']: whether the word can be a query or a target."""

    sentence: Tensor
    """[B, W']: the index of the word's sentence in its passage."""

    classes: Tensor
    """[B, W', C]: 1 if the word is a usable member of the class, else 0. Classes belong to the
    relations with ``every``."""

    punctuation: Tensor
    """[B, W']: 1 if the word is usable punctuation, else 0."""

    one_sentence: bool
    """Whether no passage has words of more than one sentence."""

    sampled: Tensor
    """[S]: the rows b * W + w that are sampled (``Instances.sampled_words``)."""

    sampled_row: Tensor
    """[S]: the index of each sampled row in ``Instances.sampled_words``."""

    sampled_pair: Tensor
    """[P]: the pairs of the sampled rows with all their earlier words, row by row."""

    example: Tensor
    """[S']: the rows b * W + w whose strongest attention is stored
    (``Instances.example_words``)."""

    example_row: Tensor
    """[S']: the index of each of these rows in ``Instances.example_words``."""

    sketch_pair: Tensor
    """[P']: the pairs of the sketched rows with their nearest earlier words."""

    sketch_place: Tensor
    """[P']: the place of each of these pairs in the sketch, q * ``SKETCH_WORDS`` + distance - 1,
    where q is the index of the row in ``sketched_words``."""

    instances: BatchInstances
    """The instances whose query words are among those of the batch."""

    kinds: NDArray[np.int16]
    """[2, B, W', W]: the two kinds of every pair, ``EMPTY`` for none (``layout.pair_kinds``)."""

    @property
    def words(self) -> int:
        """W', the number of words of a passage up to the block's end."""
        return self.usable.shape[1]

    @property
    def queries(self) -> int:
        """W, the number of query words of a passage."""
        return self.words - self.first_word

    @cached_property
    def kernel_inputs(self) -> KernelInputs:
        """The batch as arrays; only for a batch on the host with query words."""
        return build_kernel_inputs(self)

    @cached_property
    def later_rows(self) -> Tensor:
        """[B, T]: the number of query rows that come after each key and belong to another word."""
        rows, keys = self.tile.rows[:, : self.queries], self.tile.keys
        after = ((rows[:, None, :] > keys[:, :, None]) & (rows[:, None, :] >= 0)).sum(2)
        # Each extra token of a query word precedes one row of its own word, its last token
        passage, key, row = self.own_extra
        own = torch.ones_like(row)
        return (after * (keys >= 0)).index_put((passage, key), -own, accumulate=True)

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """``members``, ``first`` and ``kind`` of ``layout.WordPairs`` on the batch's device."""
        by_kind, device = sort_pairs_by_kind(self.kinds), self.usable.device
        members, first = on_device(by_kind.members, device), on_device(by_kind.first, device)
        return members, first, on_device(by_kind.kind, device)

    @cached_property
    def same_sentence(self) -> Tensor:
        """[B, 1, W', 1, W]: 1 where the query word and the earlier word share a sentence."""
        query = self.sentence[:, None, self.first_word :]
        same = (query == self.sentence[:, :, None]).float()
        return same[:, None, :, None, :]


@dataclass(frozen=True)
class Chunk:
    """One forward pass: a packed sequence of N tokens, and the batches of its blocks.

    The query words of the batches are all words of the sequence, once each.
    """

    passages: NDArray[np.int64]
    """[P]: the numbers of the passages, in the order of the sequence."""

    flat: PackedSequence
    """The tokens and the tiles."""

    batches: tuple[AlignedBatch, ...]
    """One batch per tile."""

    token_column: Tensor
    """[N]: each token id as an index into ``Batcher.distinct_tokens``."""

    word_token: Tensor
    """[Q]: the index in the sequence of the last token of each usable word, by passage and word."""

    word_passage: Tensor
    """[Q]: the index in ``passages`` of each usable word's passage."""

    cell: Tensor
    """[P]: the cell of domain and fold of each passage (``Instances.cell``)."""

    sampled_word: Tensor
    """[S]: the sampled rows of all batches, concatenated, as indices of usable words (in Q)."""

    sampled_pair_word: Tensor
    """[P']: for each ``sampled_pair`` of all batches, concatenated, the index of its row (in S)."""

    scored_tokens: Tensor
    """[M]: the indices in the sequence of all tokens but the start tokens."""

    twins: bool
    """Whether the passages are twins of passages, which enter the statistic of relations only."""


class Batcher:
    """Builds the chunks of a corpus on a device, for a model with ``groups`` key/value heads."""

    def __init__(self, corpus: Corpus, device: torch.device, groups: int = 1) -> None:
        self._corpus, self._device, self._groups = corpus, device, groups
        instances = corpus.instances
        self.starts = corpus.starts
        self._indexer = InstanceIndexer(instances)
        self._sketched_words = sketched_words(instances)
        self._distinct_tokens, self._token_column = np.unique(corpus.token_ids, return_inverse=True)
        punctuation = instances.upos_names[instances.upos] == "PUNCT"
        self._punctuation = (punctuation & instances.usable).astype(np.float32)

    @property
    def distinct_tokens(self) -> NDArray[np.int32]:
        """[K]: the distinct token ids of the corpus, ascending."""
        return self._distinct_tokens

    def token_columns(self) -> list[NDArray[np.int64]]:
        """For each passage its token ids as indices into ``distinct_tokens``."""
        return np.split(self._token_column, self._corpus.token_first[1:-1])

    def build(self, blocks: Sequence[Block]) -> Chunk:
        """Return the chunk of these blocks, whose passages are numbered as in the corpus."""
        corpus, instances = self._corpus, self._corpus.instances
        numbers = np.concatenate([block.passages for block in blocks])
        # distinct, in the order of first occurrence: blocks of a long passage name it repeatedly
        numbers = numbers[np.sort(np.unique(numbers, return_index=True)[1])]
        tokens = {p: self._tokens(p) for p in numbers.tolist()}
        queries = [self._query_words(block) for block in blocks]
        orders = [
            self._order_block(block, spans) for block, spans in zip(blocks, queries, strict=True)
        ]
        flat = pack_passages(
            {p: corpus.token_ids[rows] for p, rows in tokens.items()},
            blocks,
            self._device,
            [(order.rows, order.keys) for order in orders],
        )
        # The usable words of the chunk (word numbers), and the index of each one's passage
        starts = np.cumsum([0, *(rows.stop - rows.start for rows in tokens.values())])
        words = [np.arange(*instances.passage_first[p : p + 2]) for p in numbers]
        words = [inside[instances.usable[inside]] for inside in words]
        word, passage = np.concatenate(words), np.repeat(np.arange(len(words)), _lengths(words))
        # The sampled words in the order of the batches, and where they are among the usable words
        sampled = np.concatenate(
            [
                instances.sampled_words[low:high]
                for spans in queries
                for low, high in (
                    np.searchsorted(instances.sampled_words, [span.start, span.stop])
                    for span in spans
                )
            ]
        )
        ascending = np.argsort(word)
        sampled_word = ascending[np.searchsorted(word[ascending], sampled)]
        n_earlier = sampled - instances.passage_first[instances.passage[sampled]]
        return Chunk(
            passages=numbers,
            flat=flat,
            batches=tuple(
                self._batch(*arguments)
                for arguments in zip(blocks, queries, flat.tiles, orders, strict=True)
            ),
            token_column=self._tensor(
                np.concatenate([self._token_column[rows] for rows in tokens.values()])
            ),
            word_token=self._tensor(corpus.last_token[word] + starts[passage]),
            word_passage=self._tensor(passage),
            cell=self._tensor(instances.cell[numbers]),
            sampled_word=self._tensor(sampled_word),
            sampled_pair_word=self._tensor(np.repeat(np.arange(len(sampled)), n_earlier)),
            scored_tokens=self._tensor(_text_token_places(starts, self.starts)),
            twins=bool((instances.passage_original[numbers] >= 0).all()),
        )

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return on_device(array, self._device)

    def _tokens(self, passage: int, stop: int | None = None) -> slice:
        """The tokens of a passage, or its first ``stop``, as a slice of the corpus's tokens."""
        first, end = self._corpus.token_first[passage : passage + 2].tolist()
        return slice(first, end if stop is None else min(end, first + stop))

    def _query_words(self, block: Block) -> list[slice]:
        """The words of each passage whose last tokens are rows of the block, as slices of the run's
        words."""
        corpus, spans = self._corpus, []
        for passage in block.passages:
            start, stop = corpus.instances.passage_first[passage : passage + 2].tolist()
            # Unusable words have no last token: they belong to the block of the word before them
            last = np.maximum.accumulate(corpus.last_token[start:stop])
            low, high = np.searchsorted(last, [block.first, block.stop])
            spans.append(slice(start + int(low) * (block.first > 0), start + int(high)))
        return spans

    def _order_block(self, block: Block, queries: Sequence[slice]) -> TokenOrder:
        """The order of rows and keys in the tile of the block with these query words."""
        corpus = self._corpus
        words, first_word = self._words(block, queries)
        tokens = [corpus.word_of_token[self._tokens(p, block.stop)] for p in block.passages]
        return order_tokens(
            stack(tokens, EMPTY),
            stack([corpus.last_token[span] for span in words], EMPTY),
            np.array(_lengths(tokens)),
            first_word,
            block.first,
            self.starts,
        )

    def _words(self, block: Block, queries: Sequence[slice]) -> tuple[list[slice], int]:
        """The words of each passage up to the block's end, as slices of the run's words, and the
        index in its passage of the first query word."""
        first = self._corpus.instances.passage_first[block.passages]
        words = [slice(int(start), span.stop) for start, span in zip(first, queries, strict=True)]
        return words, queries[0].start - int(first[0])

    def _candidate_keys(self, words: Sequence[slice]) -> dict[CandidateRule, CandidateKeys]:
        """The keys of the words, for the rules that the relations of the run have."""
        instances = self._corpus.instances
        keys: dict[CandidateRule, CandidateKeys] = {}
        for rule in dict.fromkeys(relation.candidates for relation in instances.relations):
            if rule != "any":
                of_run = instances.candidate_keys(rule)
                of_batch = (stack([key[span] for span in words], -1) for key in of_run)
                keys[rule] = CandidateKeys(*of_batch)
        return keys

    def _batch(
        self, block: Block, queries: Sequence[slice], tile: AttentionTile, order: TokenOrder
    ) -> AlignedBatch:
        """The batch of a block, on the device."""
        corpus, instances = self._corpus, self._corpus.instances
        words, first_word = self._words(block, queries)
        usable = stack([instances.usable[span] for span in words], False)
        classes = self._classes(words, usable)
        sampled, sampled_row = batch_rows(instances.sampled_words, queries)
        example, example_row = batch_rows(instances.example_words, queries)
        sketched, sketched_row = batch_rows(self._sketched_words, queries)
        sketch_pair, within = pair_with_nearest(sketched, usable.shape[1], first_word, SKETCH_WORDS)
        row, back = np.divmod(within, SKETCH_WORDS)
        sentence = stack([instances.sentence[span] for span in words], 0)
        arrays = {
            **order.extra_indices(self._groups, usable.shape[1]),
            "usable": usable,
            "sentence": sentence,
            "classes": classes,
            "punctuation": stack([self._punctuation[span] for span in words], 0),
            "sampled": sampled,
            "sampled_row": sampled_row,
            "sampled_pair": pair_with_earlier(sampled, usable.shape[1], first_word),
            "example": example,
            "example_row": example_row,
            "sketch_pair": sketch_pair,
            "sketch_place": sketched_row[row] * SKETCH_WORDS + back,
        }
        batch_instances = self._indexer.index(
            block.passages, words, first_word, usable.shape[1], self._candidate_keys(words)
        )
        # Word pairs of twins are of no kind, so that they enter no sum by kind
        in_text = instances.passage_original[block.passages] < 0
        kinds = pair_kinds(
            usable & in_text[:, None],
            stack([instances.upos_number[span] for span in words], 0),
            stack([instances.deprel[span] for span in words], 0),
            stack([instances.form_fold[span] for span in words], 0),
            instances.document_fold[block.passages],
            first_word,
        )
        return AlignedBatch(
            tile=tile,
            first_word=first_word,
            one_sentence=not sentence.any(),
            instances=BatchInstances(**{k: self._tensor(v) for k, v in batch_instances.items()}),
            kinds=kinds,
            starts=corpus.starts,
            **{name: self._tensor(array) for name, array in arrays.items()},
        )

    def _classes(
        self, word_rows: Sequence[slice], usable: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """[B, W', C]: ``AlignedBatch.classes``, unpacked from one bit per class."""
        instances = self._corpus.instances
        bits = stack([instances.word_classes[rows] for rows in word_rows], 0)
        columns = np.arange(len(instances.every))
        member = ((bits[:, :, None] >> columns) & 1).astype(bool) & usable[:, :, None]
        return member.astype(np.float32)


def _text_token_places(edges: NDArray[np.integer], starts: int) -> NDArray[np.int64]:
    """[M]: the indices of a packed sequence without the first ``starts`` of each passage; ``edges``
    [P + 1] are the indices at which passages start, and the sequence's length."""
    place = np.arange(edges[-1])
    return place[place - np.repeat(edges[:-1], np.diff(edges)) >= starts]


def _lengths(rows: Sequence[NDArray[Any]]) -> list[int]:
    return [len(row) for row in rows]


def stack(rows: Sequence[NDArray[Any]], fill: object) -> NDArray[Any]:
    """Return rows of different lengths as one array, padded on the right with ``fill``."""
    length = max((len(row) for row in rows), default=0)
    padded = np.full((len(rows), length), fill, dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded
