"""Tokenization: text to token ids and character offsets.

Character offsets map tokens to words (``batching.corpus``), so a fast tokenizer is required.
"""

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headprobe.errors import HeadprobeError
from headprobe.format import clip

_CACHE_SIZE = 4096
"""Number of encoded texts that stay in memory."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of a text, without special tokens."""

    ids: NDArray[np.int32]
    """[T]: the token ids."""

    offsets: NDArray[np.int32]
    """[T, 2]: the first character of each token, and the character after its last."""


class Encoder:
    """Encodes texts with a fast tokenizer of transformers.

    Text that spells a special token (``</s>``) is encoded as plain text. ``where`` names the model
    in error messages. Raises HeadprobeError for a slow tokenizer, and for one without any token
    that can start a sequence.
    """

    start: tuple[int, ...]
    """The ids of the start tokens, which precede every text: those that the tokenizer itself adds,
    else its bos token, else its eos token. Without them the first word would be the attention
    sink."""

    prepended: bool
    """Whether the tokenizer adds no start token by itself."""

    name: str
    """The class name of the tokenizer."""

    def __init__(self, tokenizer: Any, where: str) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise HeadprobeError(
                where,
                "its tokenizer is a slow one, which reports no character offsets",
                "Save a tokenizer.json beside the model (AutoTokenizer converts most)",
            )
        self._tokenizer, self._where = tokenizer, where
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        if getattr(tokenizer.backend_tokenizer.model, "dropout", None) is not None:
            tokenizer.backend_tokenizer.model.dropout = None  # it makes tokens random
        self._cache: OrderedDict[str, Any] = OrderedDict()
        self.start, self.prepended = self._find_start(where)
        self.name = type(tokenizer).__name__

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, which neither truncates nor pads."""
        return self._tokenizer

    def _find_start(self, where: str) -> tuple[tuple[int, ...], bool]:
        """Return ``start`` and ``prepended``."""
        probe = "a"
        with_special = self._tokenizer(probe)["input_ids"]
        plain = self._tokenizer(probe, add_special_tokens=False)["input_ids"]
        added = with_special[: _index_of(with_special, plain)]
        if added:
            return tuple(added), False
        for token in (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id):
            if token is not None:
                return (token,), True
        raise HeadprobeError(
            where,
            "its tokenizer has neither a beginning nor an end token to put before a passage",
            "Set bos_token in tokenizer_config.json",
        )

    @property
    def start_tokens(self) -> tuple[str, ...]:
        """The start tokens as text."""
        return tuple(self.tokens(self.start))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each of ``ids``; bytes of an incomplete character as ``<0xE2>``."""
        pieces: list[str] = self._tokenizer.convert_ids_to_tokens(list(ids))
        special = set(self._tokenizer.all_special_tokens)
        return [
            piece if piece in special else readable_piece(piece, self._is_byte_level)
            for piece in pieces
        ]

    @cached_property
    def _is_byte_level(self) -> bool:
        decoder = self._tokenizer.backend_tokenizer.decoder
        if decoder is None:
            return False
        state = json.loads(decoder.__getstate__())
        parts = [state, *state.get("decoders", ())]
        return any(part.get("type") == "ByteLevel" for part in parts)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode texts, without start tokens; the most recent encodings are cached."""
        try:
            return [
                Encoded(
                    np.array(encoding.ids, dtype=np.int32),
                    np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2),
                )
                for encoding in self._encode(texts)
            ]
        except OverflowError as error:
            raise HeadprobeError(
                self._where,
                "its tokenizer produces tokens of 2**31 or more, which no model has",
                "Its files are damaged; get another copy of the tokenizer",
            ) from error

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without start tokens."""
        return [len(encoding) for encoding in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        if new:
            # The backend, because transformers' own tokenizer would convert every field of every
            # encoding to Python lists
            backend = self._tokenizer.backend_tokenizer
            backend.encode_special_tokens = True  # text that spells a special token stays text
            try:
                encoded = backend.encode_batch(new, add_special_tokens=False)
            except BaseException as error:  # a panic in Rust is a BaseException
                if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                    raise
                raise HeadprobeError(
                    self._where,
                    f"its tokenizer cannot encode a text ({clip(str(error), 200)})",
                    "Its files are damaged or incomplete; get another copy of the tokenizer",
                ) from error
            self._cache.update(zip(new, encoded, strict=True))
        encodings = [self._cache[text] for text in texts]
        while len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return encodings


def readable_piece(piece: str, byte_level: bool) -> str:
    """Return a vocabulary entry as text.

    Byte-level vocabularies (GPT-2 and later models) write each byte as one printable character
    (``Ġ`` for a space); others write a space as ``▁``. A byte of an incomplete character becomes
    ``<0xE2>``.
    """
    if not byte_level:
        return piece.replace("▁", " ")
    byte_of = _byte_of_character()
    if not all(character in byte_of for character in piece):
        return piece  # an added token, which the vocabulary contains as plain text
    text = bytes(byte_of[character] for character in piece).decode("utf-8", "surrogateescape")
    # surrogateescape maps an undecodable byte b to the character 0xDC00 + b
    return "".join(
        f"<0x{ord(character) - 0xDC00:02X}>" if 0xDC80 <= ord(character) <= 0xDCFF else character
        for character in text
    )


@cache
def _byte_of_character() -> dict[str, int]:
    """Return the byte that each printable character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves; the other bytes are numbered from 256 on
    (``bytes_to_unicode`` of GPT-2, Radford et al. 2019).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    codes = [*printable, *(256 + index for index in range(len(others)))]
    return {chr(code): byte for code, byte in zip(codes, [*printable, *others], strict=True)}


def _index_of(sequence: Sequence[int], part: Sequence[int]) -> int:
    """Return the index at which ``part`` starts in ``sequence``; 0 if it does not occur."""
    for start in range(len(sequence) - len(part) + 1):
        if list(sequence[start : start + len(part)]) == list(part):
            return start
    return 0
