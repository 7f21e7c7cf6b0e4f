"""Where words live in tokens (METHOD section 1)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NO_CHARACTERS = "has no characters of its own"
NO_TOKEN = "has no token of its own"
SHARES_TOKEN = "shares a token with another word"


@dataclass(frozen=True, slots=True)
class WordTokens:
    """``word_of_token`` [T]: the usable word each token belongs to, or -1; ``last_token`` [W]: the
    query row of each usable word, or -1; ``tokens`` [W]: how many it has; ``reasons``: why a word
    (by index) is unusable."""

    word_of_token: NDArray[np.int32]
    last_token: NDArray[np.int32]
    tokens: NDArray[np.int32]
    reasons: dict[int, str]


def locate_words(
    starts: NDArray[np.integer], ends: NDArray[np.integer], offsets: NDArray[np.integer]
) -> WordTokens:
    """Map words to tokens by character overlap.

    ``starts`` and ``ends`` [W] are the words' characters, ascending and disjoint where they have
    any; ``offsets`` [T, 2] those of the tokens. A word that shares a token with another, or has
    none, is unusable and owns no token.
    """
    written = np.flatnonzero(ends > starts)
    token_start, token_end = offsets[:, 0], offsets[:, 1]
    low = np.searchsorted(ends[written], token_start, side="right")
    high = np.searchsorted(starts[written], token_end, side="left")
    touched = np.where(token_end > token_start, high - low, 0)

    reasons = {int(word): NO_CHARACTERS for word in np.flatnonzero(ends <= starts)}
    shared = np.zeros(len(written), dtype=bool)
    for token in np.flatnonzero(touched > 1):
        shared[low[token] : high[token]] = True
    reasons.update({int(word): SHARES_TOKEN for word in written[shared]})

    owned = np.flatnonzero(touched == 1)
    owned = owned[~shared[low[owned]]]
    word_of_token = np.full(len(offsets), -1, dtype=np.int32)
    word_of_token[owned] = written[low[owned]]
    tokens = np.bincount(word_of_token[owned], minlength=len(starts)).astype(np.int32)
    last_token = np.full(len(starts), -1, dtype=np.int32)
    np.maximum.at(last_token, word_of_token[owned], owned.astype(np.int32))
    reasons.update(
        {int(word): NO_TOKEN for word in np.flatnonzero(tokens == 0) if int(word) not in reasons}
    )
    return WordTokens(word_of_token, last_token, tokens, reasons)
