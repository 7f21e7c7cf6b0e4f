"""Samples of passages."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headprobe.probes.document import Passage
from headprobe.probes.passages import sample_passages

KINDS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["news", "story"])), max_size=40)


def passages(kinds: list[tuple[int, str]]) -> list[tuple[int, Passage]]:
    """One passage for each file and domain."""
    return [
        (file, Passage(f"p{i}", f"d{i}", domain, "", "", (), ()))
        for i, (file, domain) in enumerate(kinds)
    ]


@given(KINDS, st.integers(1, 45), st.integers(0, 3))
def test_files_and_domains_share_the_sample_evenly(kinds, most, seed):
    found = passages(kinds)
    chosen, all_of_them = sample_passages(found, most, seed)
    assert all_of_them == len(found) and len(chosen) == min(most, len(found))
    numbers = [found.index(each) for each in chosen]
    assert numbers == sorted(set(numbers))
    there, taken = Counter(kinds), Counter(kinds[number] for number in numbers)
    fullest = max(taken.values(), default=0)
    assert all(taken[kind] >= min(there[kind], fullest - 1) for kind in there)


@given(KINDS, st.integers(1, 9), st.integers(0, 3), st.randoms())
def test_the_lot_falls_on_the_same_passages_whatever_their_order(kinds, most, seed, shuffler):
    found = passages(kinds)
    shuffled = found.copy()
    shuffler.shuffle(shuffled)
    one, other = (sample_passages(each, most, seed)[0] for each in (found, shuffled))
    assert sorted(one, key=str) == sorted(other, key=str)


def test_another_seed_draws_others() -> None:
    found = passages([(0, "news")] * 200)
    draws = [{passage.id for _, passage in sample_passages(found, 40, seed)[0]} for seed in (0, 1)]
    assert draws[0] != draws[1]
    first_half = sum(int(name[1:]) < 100 for name in draws[0])
    assert 8 < first_half < 32
