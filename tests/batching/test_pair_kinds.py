"""Kinds of word pairs, compared with a loop over all pairs."""

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headprobe.batching.layout import N_PAIR_KINDS, PAIRS_PER_RUN, pair_kinds, sort_pairs_by_kind
from headprobe.vocabulary import CATEGORIES, DEPRELS, UPOS
from tests.helpers.slow import distance_bin


@given(st.data(), st.integers(1, 3), st.integers(1, 40))
def test_every_pair_is_listed_once_by_category_and_once_by_deprels(data, passages, words):
    shape = (passages, words)

    def drawn(most: int):
        return data.draw(arrays.arrays(np.int16, shape, elements=st.integers(0, most - 1)))

    usable = drawn(2).astype(bool)
    # few parts of speech and labels, so that kinds have many pairs; the last of each among them
    upos, deprel = len(UPOS) - 1 - drawn(2), len(DEPRELS) - 1 - drawn(2)
    form_fold = drawn(64)
    document_fold = data.draw(arrays.arrays(np.int64, passages, elements=st.integers(0, 63)))
    by_pair = pair_kinds(usable, upos, deprel, form_fold, document_fold)
    found = sort_pairs_by_kind(by_pair)
    expected = []
    for b in range(passages):
        for query in range(words):
            for key in range(query):
                if usable[b, query] and usable[b, key]:
                    distance = distance_bin(query - key)
                    by_upos = (distance * 18 + upos[b, query]) * 18 + upos[b, key]
                    quadrant = document_fold[b] % 2 * 2 + form_fold[b, key] % 2
                    by_label = (quadrant * 38 + deprel[b, query]) * 38 + deprel[b, key]
                    place = (b * words + key) * words + query
                    expected += [(place, by_upos), (place, CATEGORIES + by_label)]
    ends = np.append(found.first, len(found.members))
    lengths = np.diff(ends)[: len(found.first)]
    kinds = np.repeat(found.kind, lengths)
    assert sorted(zip(found.members, kinds, strict=True)) == sorted(expected)
    assert all(lengths <= PAIRS_PER_RUN)
    assert all(lengths > 0)
    assert all(found.kind < N_PAIR_KINDS)
    dense = [
        (place, kind) for of_all in by_pair.reshape(2, -1) for place, kind in enumerate(of_all)
    ]
    assert sorted((place, kind) for place, kind in dense if kind >= 0) == sorted(expected)


def test_pair_kinds_of_a_block_equal_its_columns_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    usable = rng.random((2, 9)) < 0.8
    upos, deprel, fold = (rng.integers(0, 10, (2, 9)) for _ in range(3))
    whole = pair_kinds(usable, upos, deprel, fold, np.array([3, 4]))
    block = pair_kinds(usable, upos, deprel, fold, np.array([3, 4]), first_word=5)
    assert np.array_equal(block, whole[..., 5:])
