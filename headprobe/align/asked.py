"""What a batch asks of each head, as arrays, for compiled loops."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from headprobe.align.batches import AlignedBatch

Ints = NDArray[np.int64]


class Asked(NamedTuple):
    """Fields as those of ``AlignedBatch`` and of its ``Questions``.

    ``edges`` [5, B + 1] is where each passage's part of ``extra``, ``target_pair``,
    ``sampled_pair``, ``link_row`` [I] and ``example`` begins. Links ``of_sentence`` [I] ask for
    words of their sentence, those with a ``line`` [I] (else -1) for words that are 1 in it, of
    ``other_form``.
    """

    starts: int
    first: int
    rows: Ints
    extra: Ints
    kinds: NDArray[np.int16]
    edges: Ints
    target_pair: Ints
    sampled_pair: Ints
    link_row: Ints
    of_sentence: NDArray[np.bool_]
    line: Ints
    other_form: NDArray[np.float32]
    sentence: Ints
    example: Ints


def ask(batch: "AlignedBatch") -> Asked:
    """What a batch on the host with query words asks."""
    questions, links = batch.questions, batch.questions.links
    line = np.full(links, -1)
    line[questions.strict.numpy()] = np.arange(len(questions.strict))
    passages, pairs = np.arange(len(batch.usable) + 1), batch.words * batch.queries
    lists = {
        "extra": batch.extra.numpy(),
        "target_pair": questions.target_pair.numpy(),
        "sampled_pair": batch.sampled_pair.numpy(),
        "link_row": questions.row[:links].numpy(),
        "example": batch.example.numpy(),
    }
    of_passages = (
        lists["extra"][0],
        lists["target_pair"] // pairs,
        lists["sampled_pair"] // pairs,
        lists["link_row"] // batch.queries,
        lists["example"] // batch.queries,
    )
    return Asked(
        starts=batch.starts,
        first=batch.first_word,
        rows=batch.rectangle.rows.numpy(),
        kinds=batch.kinds,
        edges=np.stack([np.searchsorted(each, passages) for each in of_passages]),
        of_sentence=questions.sentence_scope.numpy() & (not batch.one_sentence),
        line=line,
        other_form=questions.other_form.numpy(),
        sentence=batch.sentence.numpy(),
        **lists,
    )
