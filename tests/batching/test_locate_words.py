"""Mapping of words to tokens by character overlap, compared with plain loops."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headprobe.batching.corpus import NO_CHARACTERS, NO_TOKEN, SHARES_TOKEN, locate_words


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Disjoint words with gaps (some without characters) and tokens that tile or overlap text."""
    words, place = [], 0
    for _ in range(draw(st.integers(0, 8))):
        place += draw(st.integers(0, 2))
        length = draw(st.integers(0, 4))
        words.append((place, place + length))
        place += length
    tokens, at = [], 0
    while at < place + 1:
        step = draw(st.integers(0, 4))
        back = draw(st.integers(0, min(1, at)))  # bytes of one character share its offsets
        tokens.append((at - back, at + step))
        at += max(step, 1)
    return words, tokens


@given(cuts())
def test_locate_words_equals_a_plain_loop(given_cuts: object) -> None:
    words, tokens = given_cuts
    touched = [
        [t for t, (low, high) in enumerate(tokens) if max(low, start) < min(high, end)]
        for start, end in words
    ]
    users = [sum(t in found for found in touched) for t in range(len(tokens))]
    found = locate_words(
        np.array([start for start, _ in words], dtype=np.int32),
        np.array([end for _, end in words], dtype=np.int32),
        np.array(tokens, dtype=np.int32).reshape(-1, 2),
    )
    for word, ((start, end), own) in enumerate(zip(words, touched, strict=True)):
        if start == end:
            expected: str | None = NO_CHARACTERS
        elif any(users[t] > 1 for t in own):
            expected = SHARES_TOKEN
        else:
            expected = None if own else NO_TOKEN
        assert found.reasons.get(word) == expected
        usable = expected is None
        assert found.last_token[word] == (max(own) if usable else -1)
        assert found.tokens[word] == (len(own) if usable else 0)
        assert np.flatnonzero(found.word_of_token == word).tolist() == (own if usable else [])


def test_contracted_words_and_shared_tokens_are_unusable() -> None:
    """French "du" has no characters for "de" and "le"; "can" + "not" share one token."""
    found = locate_words(
        np.array([0, 2, 2, 3, 6]), np.array([0, 2, 2, 6, 9]), np.array([(0, 2), (2, 9)])
    )
    assert found.reasons == {
        0: NO_CHARACTERS,
        1: NO_CHARACTERS,
        2: NO_CHARACTERS,
        3: SHARES_TOKEN,
        4: SHARES_TOKEN,
    }
