"""Words first: the order in which the tokens of a block stand in its rectangle."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headprobe.align.flat import NONE


@dataclass(frozen=True)
class Order:
    """The rows [B, R] and keys [B, T] of a block, words first; ``extra_tokens`` [3, K] are passage,
    key and word of the words' further tokens."""

    rows: NDArray[np.int64]
    keys: NDArray[np.int64]
    extra_tokens: NDArray[np.int64]
    first_word: int

    def of_extra(self, groups: int, words: int) -> dict[str, NDArray[np.int64]]:
        """The fields of ``AlignedBatch`` that tell of extra tokens."""
        passage, key, word = self.extra_tokens
        group = passage[:, None] * groups + np.arange(groups)
        own = word >= self.first_word
        return {
            "extra": self.extra_tokens,
            "extra_key": (group * (self.keys.shape[1] + 1) + key[:, None]).flatten(),
            "extra_word": (group * words + word[:, None]).flatten(),
            "own_extra": np.stack([passage, key, word - self.first_word])[:, own],
        }


def order_tokens(
    word: NDArray[np.integer],
    last: NDArray[np.integer],
    lengths: NDArray[np.int64],
    first_word: int,
    first: int,
    starts: int,
) -> Order:
    """The order of tokens with their ``word`` [B, T], of words with their ``last`` token [B, W'],
    where passages have ``lengths`` [B] and the block's rows begin with the token ``first``."""
    place = np.arange(word.shape[1])
    inside = place < lengths[:, None]
    words = last.shape[1]
    known = (word >= 0) & (word < words)
    if words:
        known_word = np.where(known, word, 0)
        is_last = known & (np.take_along_axis(last, known_word, 1) == place)
    else:
        is_last = known
    start = inside & (place < starts)
    extra = known & ~is_last
    extra_place = _places(extra)
    keys = [last, _places(start), extra_place, _places(inside & ~known & ~start)]
    query = is_last & (word >= first_word)
    rows = [last[:, first_word:], _places(inside & ~query & (place >= first))]
    passage, slot = np.nonzero(extra_place >= 0)
    extra_word = word[passage, extra_place[passage, slot]]
    before = words + keys[1].shape[1]
    return Order(
        np.concatenate(rows, axis=1).astype(np.int64),
        np.concatenate(keys, axis=1).astype(np.int64),
        np.stack([passage, before + slot, extra_word]).astype(np.int64),
        first_word,
    )


def _places(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[B, K]: where each row of [B, T] is true, ascending, filled with ``NONE``."""
    most = int(chosen.sum(1).max(initial=0))
    order = np.argsort(~chosen, axis=1, kind="stable")[:, :most]
    return np.where(np.take_along_axis(chosen, order, 1), order, NONE)
