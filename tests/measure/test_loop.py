"""Partitions of the work: they are disjoint, complete and of similar size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headprobe.config import Partition
from headprobe.errors import HeadprobeError


@given(
    lengths=st.lists(st.integers(2, 512), max_size=60),
    count=st.integers(1, 7),
    within=st.integers(1, 3),
)
def test_every_passage_is_in_one_partition_and_sizes_are_similar(
    lengths: list[int], count: int, within: int
) -> None:
    sizes, numbers = np.array(lengths, dtype=np.int64), np.arange(len(lengths))
    dealt: list[int] = []
    work: list[int] = []
    for index in range(count):
        mine = Partition(index, count).select(numbers, sizes)
        work.append(int(sizes[mine].sum()))
        for rank in range(within):
            dealt += Partition(rank, within).select(mine, sizes[mine]).tolist()
    assert sorted(dealt) == numbers.tolist()
    assert max(work) - min(work) <= max(lengths, default=0)


def test_partitions_are_written_and_parsed_counting_from_one() -> None:
    assert Partition.parse("3/8") == Partition(2, 8)
    assert str(Partition(2, 8)) == "3/8"
    for wrong in ("0/8", "9/8", "3", "3/", "a/b", "-1/2", "1/0", ""):
        with pytest.raises(HeadprobeError, match="3/8"):
            Partition.parse(wrong)
