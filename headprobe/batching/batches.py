"""Chunks and batches: blocks of passages with the indices of their words, instances and samples.

The statistics read the indices as tensors, and compiled kernels as arrays (``KernelInputs``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.batching.corpus import Corpus
from headprobe.batching.layout import (
    EMPTY,
    AttentionTile,
    Block,
    Flat,
    TokenOrder,
    batch_rows,
    lay_flat,
    on_device,
    order_tokens,
    pair_kinds,
    pair_with_earlier,
    sort_pairs_by_kind,
)
from headprobe.runs.instances import Instances
from headprobe.vocabulary import FOLDS, CandidateRule


@dataclass(frozen=True)
class BatchInstances:
    """The instances of a batch as indices; one row of each per instance [I] or target [K].

    ``row`` [I] is the query word (b * W + w); ``relation`` [I]; ``bins`` [3 I] number first the
    document folds of all relations, for each instance, then the form folds, then the domains.
    Explicit links come first: their targets are words ``target`` [K] of instance
    ``instance_of_target`` [K], with its ``target_relation`` and ``target_pair`` ((b * W' + target)
    * W + w); those numbered ``strict`` admit only words that are 1 in ``other_form`` [J, W']. The
    others ask for a class: ``class_start`` [I'] is its place, and its passage's, among
    ``AlignedBatch.classes``; ``class_relation`` [C] are the classes' relations.
    """

    row: Tensor
    relation: Tensor
    bins: Tensor
    sentence_scope: Tensor
    strict: Tensor
    other_form: Tensor
    instance_of_target: Tensor
    target: Tensor
    target_pair: Tensor
    target_relation: Tensor
    class_start: Tensor
    class_relation: Tensor

    @property
    def n_links(self) -> int:
        """How many instances are explicit links."""
        return len(self.row) - len(self.class_start)


class CandidateKeys(NamedTuple):
    """Numbers [B, W'] of the words of a batch (``Instances.candidate_keys``)."""

    required: NDArray[np.integer] | None
    """A candidate's number equals the query's; None where any will do."""

    excluded: NDArray[np.integer]
    """A candidate's number differs from the query's."""

    def admitted(
        self, passage: NDArray[np.integer], query: NDArray[np.integer]
    ) -> NDArray[np.bool_]:
        """[S, W']: which words of its passage each query [S] admits."""
        admitted = self.excluded[passage] != self.excluded[passage, query][:, None]
        if self.required is not None:
            admitted &= self.required[passage] == self.required[passage, query][:, None]
        return np.asarray(admitted)


class InstanceIndexer:
    """Finds the instances of passages; made once for a run."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        relations = instances.relations
        self._sentence_scope = np.array([r.scope == "sentence" for r in relations], dtype=bool)
        self._rule = np.array([r.candidates for r in relations], dtype=np.str_)
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
        keys: Mapping[CandidateRule, CandidateKeys],
    ) -> dict[str, NDArray[Any]]:
        """The fields of ``BatchInstances``, for passages (by number) whose words are ``word_rows``,
        the query words those from ``first_word`` on, with their ``classes`` [B, W', C], ``usable``
        words [B, W'], and the candidate keys of all rules but ``any``."""
        instances = self._instances
        links, rows = [], []
        for place, (number, span) in enumerate(zip(passages, word_rows, strict=True)):
            low, high = np.searchsorted(self._link_passage, [number, number + 1])
            query = instances.link_query[low:high]
            inside = (query >= span.start + first_word) & (query < span.stop)
            links.append(low + np.flatnonzero(inside))
            rows.append(np.full(len(links[-1]), place))
        link, row = np.concatenate(links), np.concatenate(rows).astype(np.int64)
        base = np.array([span.start for span in word_rows])
        counts = instances.link_first[link + 1] - instances.link_first[link]
        of = np.repeat(np.arange(len(link)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        target = instances.link_targets[np.repeat(instances.link_first[link], counts) + offsets]

        class_rows = self._index_classes(base, first_word, classes, usable)
        relation = np.concatenate([instances.link_relation[link], class_rows["relation"]])
        passage = np.concatenate([row, class_rows["passage"]])
        form_fold = np.concatenate([self._link_form_fold[link], class_rows["form_fold"]])
        of_run = passages[passage]
        words = usable.shape[1]
        query = np.concatenate([instances.link_query[link] - base[row], class_rows["query"]])
        own_word = query - first_word
        target_word = target - base[row[of]]
        rule = self._rule[instances.link_relation[link]]
        strict = np.flatnonzero(rule != "any")
        other_form = np.ones((len(strict), words), dtype=np.float32)
        for name, of_words in keys.items():
            chosen = np.flatnonzero(rule[strict] == name)
            link_of = strict[chosen]
            other_form[chosen] = of_words.admitted(passage[link_of], query[link_of])
        every_fold = len(instances.relations) * FOLDS
        bins = [
            relation * FOLDS + instances.document_fold[of_run],
            every_fold + relation * FOLDS + form_fold,
            2 * every_fold + relation * len(instances.domains) + instances.domain[of_run],
        ]
        class_passage = passage[len(link) :]
        return {
            "row": passage * (words - first_word) + own_word,
            "relation": relation,
            "bins": np.concatenate(bins),
            "sentence_scope": self._sentence_scope[instances.link_relation[link]],
            "strict": strict,
            "other_form": other_form,
            "instance_of_target": of,
            "target": target_word,
            "target_pair": (row[of] * words + target_word) * (words - first_word) + own_word[of],
            "target_relation": relation[of],
            "class_start": class_passage * words * classes.shape[2] + class_rows["column"],
            "class_relation": np.array(instances.every, dtype=np.int64),
        }

    def _index_classes(
        self,
        base: NDArray[np.int64],
        first_word: int,
        classes: NDArray[np.float32],
        usable: NDArray[np.bool_],
    ) -> dict[str, NDArray[np.integer]]:
        """Every usable word that stands after a word of the class, for each class."""
        instances = self._instances
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
            "relation": np.array(instances.every, dtype=np.int64)[column],
            "form_fold": instances.form_fold[base[passage] + nearest[passage, query, column]],
        }


Ints = NDArray[np.int64]


class KernelInputs(NamedTuple):
    """Fields as those of ``AlignedBatch`` and of its ``BatchInstances``.

    ``passage_edges`` [5, B + 1] is where each passage's part of ``extra``, ``target_pair``,
    ``sampled_pair``, ``link_row`` [I] and ``example`` begins. Links ``sentence_scope`` [I] ask for
    words of their sentence, those with a ``strict_row`` [I] (else -1) for words that are 1 in it,
    of ``other_form``.
    """

    starts: int
    first_word: int
    rows: Ints
    extra: Ints
    kinds: NDArray[np.int16]
    passage_edges: Ints
    target_pair: Ints
    sampled_pair: Ints
    link_row: Ints
    sentence_scope: NDArray[np.bool_]
    strict_row: Ints
    other_form: NDArray[np.float32]
    sentence: Ints
    example: Ints


def build_kernel_inputs(batch: "AlignedBatch") -> KernelInputs:
    """What a batch on the host with query words asks."""
    instances, links = batch.instances, batch.instances.n_links
    strict_row = np.full(links, -1)
    strict_row[instances.strict.numpy()] = np.arange(len(instances.strict))
    passages, pairs = np.arange(len(batch.usable) + 1), batch.words * batch.queries
    lists = {
        "extra": batch.extra.numpy(),
        "target_pair": instances.target_pair.numpy(),
        "sampled_pair": batch.sampled_pair.numpy(),
        "link_row": instances.row[:links].numpy(),
        "example": batch.example.numpy(),
    }
    of_passages = (
        lists["extra"][0],
        lists["target_pair"] // pairs,
        lists["sampled_pair"] // pairs,
        lists["link_row"] // batch.queries,
        lists["example"] // batch.queries,
    )
    return KernelInputs(
        starts=batch.starts,
        first_word=batch.first_word,
        rows=batch.tile.rows.numpy(),
        kinds=batch.kinds,
        passage_edges=np.stack([np.searchsorted(each, passages) for each in of_passages]),
        sentence_scope=instances.sentence_scope.numpy() & (not batch.one_sentence),
        strict_row=strict_row,
        other_form=instances.other_form.numpy(),
        sentence=batch.sentence.numpy(),
        **lists,
    )


@dataclass(frozen=True)
class AlignedBatch:
    """A block of passages; W' earlier words, of which the last W are the block's query words (all,
    where the block is whole passages); padded on the right.

    In ``tile`` the first W rows and the first W' keys are the last tokens of these words, none
    where a word is not usable; then come the keys of the ``starts`` start tokens, then the
    extra ones: the words' other tokens. ``extra`` [3, K] are passage, key and word of these,
    ascending by passage; ``extra_key`` [K * G] the keys for each key/value head
    ((b * G + g) * T + t), ``extra_word`` [K * G] their words ((b * G + g) * W' + w); ``own_extra``
    [3, K'] passage, key and row of those of the query words. ``first_word`` is W' - W. ``usable``,
    ``sentence``, ``punctuation`` (usable punctuation) [B, W'] and ``classes`` [B, W', C],
    membership in the relations with ``every``, tell of the earlier words. ``one_sentence``: no
    passage holds more. ``sampled`` and ``example`` [S] are rows (b * W + w) that are looked at one
    by one, ``sampled_row`` and ``example_row`` [S] their places in the run's lists; ``questions``
    count rows in the same way. ``sampled_pair`` [P] are the pairs of the sampled rows with all
    earlier words, (b * W' + earlier) * W + w.
    """

    tile: AttentionTile
    first_word: int
    starts: int
    extra: Tensor
    extra_key: Tensor
    extra_word: Tensor
    own_extra: Tensor
    usable: Tensor
    sentence: Tensor
    classes: Tensor
    punctuation: Tensor
    one_sentence: bool
    sampled: Tensor
    sampled_row: Tensor
    sampled_pair: Tensor
    example: Tensor
    example_row: Tensor
    instances: BatchInstances
    kinds: NDArray[np.int16]

    @property
    def words(self) -> int:
        """W'."""
        return self.usable.shape[1]

    @property
    def queries(self) -> int:
        """W."""
        return self.words - self.first_word

    @cached_property
    def kernel_inputs(self) -> KernelInputs:
        """The questions as arrays, where the batch is on the host and has query words."""
        return build_kernel_inputs(self)

    @cached_property
    def later_rows(self) -> Tensor:
        """[B, T]: how many rows of usable words come after a token that is not their own."""
        rows, keys = self.tile.rows[:, : self.queries], self.tile.keys
        after = ((rows[:, None, :] > keys[:, :, None]) & (rows[:, None, :] >= 0)).sum(2)
        passage, key, row = self.own_extra
        own = torch.ones_like(row)
        return (after * (keys >= 0)).index_put((passage, key), -own, accumulate=True)

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """``members`` [2 P], ``first_word`` [S] and ``kind`` [S] of
        ``batching.layout.WordPairs``."""
        by_kind, device = sort_pairs_by_kind(self.kinds), self.usable.device
        members, first = on_device(by_kind.members, device), on_device(by_kind.first, device)
        return members, first, on_device(by_kind.kind, device)

    @cached_property
    def same_sentence(self) -> Tensor:
        """[B, 1, W', 1, W]: 1 where query and key stand in one sentence."""
        query = self.sentence[:, None, self.first_word :]
        alike = (query == self.sentence[:, :, None]).float()
        return alike[:, None, :, None, :]


@dataclass(frozen=True)
class Chunk:
    """Passages in one flat run of N tokens, and the blocks that cover their words once.

    ``token_column`` [N] indexes the run's distinct token ids. ``word_token`` [Q] are the places of
    all usable words' last tokens, ``word_passage`` [Q] and ``cell`` [P] their passages and these'
    cells; ``sampled_word`` [S] the sampled among these words, in the order of the batches';
    ``sampled_pair_word`` [P] which of these each of the batches' ``sampled_pair`` belongs to;
    ``scored_tokens`` [M] the places of the texts' tokens.
    """

    passages: NDArray[np.int64]
    flat: Flat
    batches: tuple[AlignedBatch, ...]
    token_column: Tensor
    word_token: Tensor
    word_passage: Tensor
    cell: Tensor
    sampled_word: Tensor
    sampled_pair_word: Tensor
    scored_tokens: Tensor


class Batcher:
    """Builds chunks of a corpus on a device, for ``groups`` key/value heads."""

    def __init__(self, corpus: Corpus, device: torch.device, groups: int = 1) -> None:
        self._corpus, self._device, self._groups = corpus, device, groups
        instances = corpus.instances
        self.starts = corpus.starts
        self._indexer = InstanceIndexer(instances)
        self._distinct_tokens, self._token_column = np.unique(corpus.token_ids, return_inverse=True)
        punctuation = (
            instances.upos_names[instances.upos] == "PUNCT"
            if len(instances.upos)
            else instances.usable
        )
        self._punctuation = (punctuation & instances.usable).astype(np.float32)

    @property
    def distinct_tokens(self) -> NDArray[np.int32]:
        """[K]: the different token ids of the corpus, ascending."""
        return self._distinct_tokens

    def token_columns(self) -> list[NDArray[np.int64]]:
        """For each passage its tokens as places in ``distinct_tokens``."""
        return np.split(self._token_column, self._corpus.token_first[1:-1])

    def build(self, blocks: Sequence[Block]) -> Chunk:
        """The chunk of these blocks (passage numbers of the run)."""
        corpus, instances = self._corpus, self._corpus.instances
        numbers = np.concatenate([block.passages for block in blocks])
        numbers = numbers[np.sort(np.unique(numbers, return_index=True)[1])]
        tokens = {p: self._tokens(p) for p in numbers.tolist()}
        orders = [self._order_block(block) for block in blocks]
        flat = lay_flat(
            {p: corpus.token_ids[rows] for p, rows in tokens.items()},
            blocks,
            self._device,
            [(order.rows, order.keys) for order in orders],
        )
        starts = np.cumsum([0, *(rows.stop - rows.start for rows in tokens.values())])
        words = [np.arange(*instances.passage_first[p : p + 2]) for p in numbers]
        words = [inside[instances.usable[inside]] for inside in words]
        word, passage = np.concatenate(words), np.repeat(np.arange(len(words)), _lengths(words))
        of_blocks = [
            instances.sampled_words[low:high]
            for block in blocks
            for low, high in (
                np.searchsorted(instances.sampled_words, [span.start, span.stop])
                for span in self._query_words(block)
            )
        ]
        order = np.argsort(word)
        sampled = np.concatenate(of_blocks)
        place = order[np.searchsorted(word[order], sampled)]
        earlier = sampled - instances.passage_first[instances.passage[sampled]]
        return Chunk(
            passages=numbers,
            flat=flat,
            batches=tuple(
                self._batch(block, tile, order)
                for block, tile, order in zip(blocks, flat.tiles, orders, strict=True)
            ),
            token_column=self._tensor(
                np.concatenate([self._token_column[rows] for rows in tokens.values()])
            ),
            word_token=self._tensor(corpus.last_token[word] + starts[passage]),
            word_passage=self._tensor(passage),
            cell=self._tensor(instances.cell[numbers]),
            sampled_word=self._tensor(place),
            sampled_pair_word=self._tensor(np.repeat(np.arange(len(place)), earlier)),
            scored_tokens=self._tensor(_text_token_places(starts, self.starts)),
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

    def _order_block(self, block: Block) -> TokenOrder:
        corpus = self._corpus
        earlier, first_word = self._earlier(block)
        tokens = [corpus.word_of_token[self._tokens(p, block.stop)] for p in block.passages]
        last = stack([corpus.last_token[span] for span in earlier], EMPTY)
        word = stack(tokens, EMPTY)
        return order_tokens(
            word, last, np.array(_lengths(tokens)), first_word, block.first, self.starts
        )

    def _earlier(self, block: Block) -> tuple[list[slice], int]:
        """The words (of the run) of each passage up to the block's end, and the first of them (of
        their passage) that is a query word."""
        base = self._corpus.instances.passage_first[block.passages]
        queries = self._query_words(block)
        earlier = [slice(int(b), span.stop) for b, span in zip(base, queries, strict=True)]
        return earlier, queries[0].start - int(base[0])

    def _candidate_keys(self, earlier: Sequence[slice]) -> dict[CandidateRule, CandidateKeys]:
        """The keys of the words, for the rules that the relations of the run have."""
        instances = self._corpus.instances
        keys: dict[CandidateRule, CandidateKeys] = {}
        for rule in dict.fromkeys(relation.candidates for relation in instances.relations):
            if rule != "any":
                required, excluded = instances.candidate_keys(rule)
                keys[rule] = CandidateKeys(
                    None if required is None else stack([required[s] for s in earlier], -1),
                    stack([excluded[span] for span in earlier], -1),
                )
        return keys

    def _batch(self, block: Block, tile: AttentionTile, order: TokenOrder) -> AlignedBatch:
        corpus, instances = self._corpus, self._corpus.instances
        queries = self._query_words(block)
        earlier, first_word = self._earlier(block)
        usable = stack([instances.usable[span] for span in earlier], False)
        classes = self._classes(earlier, usable)
        sampled, sampled_row = batch_rows(instances.sampled_words, queries)
        example, example_row = batch_rows(instances.example_words, queries)
        sentence = stack([instances.sentence[span] for span in earlier], 0)
        arrays = {
            **order.extra_indices(self._groups, usable.shape[1]),
            "usable": usable,
            "sentence": sentence,
            "classes": classes,
            "punctuation": stack([self._punctuation[span] for span in earlier], 0),
            "sampled": sampled,
            "sampled_row": sampled_row,
            "sampled_pair": pair_with_earlier(sampled, usable.shape[1], first_word),
            "example": example,
            "example_row": example_row,
        }
        batch_instances = self._indexer.index(
            block.passages, earlier, first_word, classes, usable, self._candidate_keys(earlier)
        )
        kinds = pair_kinds(
            usable,
            stack([instances.upos_number[span] for span in earlier], 0),
            stack([instances.deprel[span] for span in earlier], 0),
            stack([instances.form_fold[span] for span in earlier], 0),
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
        instances = self._corpus.instances
        bits = stack([instances.word_classes[rows] for rows in word_rows], 0)
        columns = np.arange(len(instances.every))
        member = ((bits[:, :, None] >> columns) & 1).astype(bool) & usable[:, :, None]
        return member.astype(np.float32)


def _text_token_places(edges: NDArray[np.integer], starts: int) -> NDArray[np.int64]:
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
