"""Text to training sequences: documents, their tokens, and a seeded plan of every pass."""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from headprobe.demo.tokenizer import BEGIN_ID, END_ID
from headprobe.errors import HeadprobeError

DOCUMENT_END = "<|endoftext|>"
IGNORED = -100
Tokens = NDArray[np.uint16]


def read_documents(path: Path) -> list[str]:
    """The documents of a text file (also .xz), which end with a line `<|endoftext|>`."""
    if not path.is_file():
        raise HeadprobeError(str(path), "no such corpus file", "Give a text file")
    raw = path.read_bytes()
    if path.suffix == ".xz":
        raw = lzma.decompress(raw)
    pieces = raw.decode("utf-8").split(DOCUMENT_END)
    documents = [piece.strip() for piece in pieces if piece.strip()]
    if not documents:
        raise HeadprobeError(str(path), "holds no text", "Give a text file with stories")
    return documents


@dataclass(frozen=True)
class TokenisedCorpus:
    """All documents of a corpus in one array.

    tokens: [N] piece ids, each document closed by the end token; starts: [D + 1] where each
    document begins; sentence_starts: [S] ascending positions where a sentence may begin.
    """

    tokens: Tokens
    starts: NDArray[np.int64]
    sentence_starts: NDArray[np.int64]


def tokenise(documents: list[str], tokenizer: Tokenizer) -> TokenisedCorpus:
    """Encode documents without the beginning token (each sequence gets its own)."""
    parts: list[Tokens] = []
    for first in range(0, len(documents), 64):
        encoded = tokenizer.encode_batch(documents[first : first + 64], add_special_tokens=False)
        parts.extend(np.array([*one.ids, END_ID], dtype=np.uint16) for one in encoded)
    return index_sentences(
        np.concatenate(parts), np.cumsum([0, *(len(part) for part in parts)]), tokenizer
    )


def index_sentences(
    tokens: Tokens, starts: NDArray[np.int64], tokenizer: Tokenizer
) -> TokenisedCorpus:
    """Find where sentences may begin: after a line break, or a final mark and its quotes."""
    size = tokenizer.get_vocab_size()
    line_break, final, closing = (np.zeros(size, dtype=bool) for _ in range(3))
    for piece, number in tokenizer.get_vocab().items():
        line_break[number] = piece == "Ċ"
        final[number] = piece.lstrip("Ġ") in {".", "!", "?"}
        closing[number] = piece in {'"', "'", ")"}
    ends = final[tokens]
    ends[1:] |= closing[tokens[1:]] & final[tokens[:-1]]
    opens = np.zeros(len(tokens), dtype=bool)
    opens[1:] = line_break[tokens[:-1]] & ~line_break[tokens[1:]]
    opens[1:] |= ends[:-1] & ~closing[tokens[1:]] & ~line_break[tokens[1:]]
    return TokenisedCorpus(tokens, starts, np.flatnonzero(opens))


def cut(
    corpus: TokenisedCorpus,
    length: int,
    rng: np.random.Generator,
    short: int = 2000,
    repeat_short: int = 1,
) -> NDArray[np.int64]:
    """Spans [C, 2] of at most `length` tokens, each inside one document, opening a sentence.

    The first span of a long document has a random length, so that passes cut differently.
    Documents of at most `short` tokens are taken `repeat_short` times.
    """
    spans: list[tuple[int, int]] = []
    marks = corpus.sentence_starts
    for start, end in zip(corpus.starts[:-1].tolist(), corpus.starts[1:].tolist(), strict=True):
        times = repeat_short if end - start <= short else 1
        for _ in range(times):
            here, room = start, length
            if end - start > length:
                room = int(rng.integers(length // 4, length + 1))
            while here < end:
                stop = min(here + room, end)
                spans.append((here, stop))
                if stop == end:
                    break
                mark = int(marks[np.searchsorted(marks, stop, side="right") - 1])
                here = mark if mark > here + room // 2 else stop
                room = length
    return np.array(spans, dtype=np.int64)


@dataclass
class Stream:
    """Batches in a seeded order; `epoch` and `cursor` are all that resuming needs.

    A pass holds every span of the main corpus and spans drawn from each of the others, `share`
    times as many as the main ones.
    """

    main: TokenisedCorpus
    others: tuple[tuple[TokenisedCorpus, float], ...]
    repeat_short: int
    seed: int
    epoch: int = 0
    cursor: int = 0

    def __post_init__(self) -> None:
        self._planned: tuple[int, int] | None = None
        self._order: NDArray[np.int64] = np.zeros((0, 3), dtype=np.int64)

    def _plan(self, length: int) -> None:
        if self._planned == (self.epoch, length):
            return
        rng = np.random.default_rng([self.seed, self.epoch, length])
        spans = cut(self.main, length - 1, rng, repeat_short=self.repeat_short)
        order = np.insert(spans, 0, 0, axis=1)
        for number, (other, share) in enumerate(self.others, 1):
            more = cut(other, length - 1, rng)
            count = min(len(more), int(len(spans) * share))
            chosen = more[rng.choice(len(more), count, replace=False)]
            order = np.concatenate([order, np.insert(chosen, 0, number, axis=1)])
        self._order = order[rng.permutation(len(order))]
        self._planned = (self.epoch, length)

    def next(self, rows: int, length: int) -> NDArray[np.int64]:
        """Token ids [rows, length]: beginning token, text, then -100 as padding."""
        self._plan(length)
        if self.cursor + rows > len(self._order):
            self.epoch, self.cursor = self.epoch + 1, 0
            self._plan(length)
        batch = np.full((rows, length), IGNORED, dtype=np.int64)
        batch[:, 0] = BEGIN_ID
        for row in range(rows):
            which, start, stop = self._order[(self.cursor + row) % len(self._order)]
            source = self.main if which == 0 else self.others[which - 1][0]
            batch[row, 1 : 1 + stop - start] = source.tokens[start:stop]
        self.cursor += rows
        return batch
