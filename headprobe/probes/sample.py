"""A seeded sample of passages, spread over probe files and their domains."""

import hashlib
from bisect import insort
from collections.abc import Iterable
from itertools import islice, zip_longest

from headprobe.probes.document import Passage

Numbered = tuple[str, int, int, Passage]
"""A passage with its lot, the number of its file, and its own number."""


def sample_passages(
    passages: Iterable[tuple[int, Passage]], most: int, seed: int
) -> tuple[list[tuple[int, Passage]], int]:
    """At most so many of the passages (each with the number of its file), in their order, and how
    many there were.

    Every file and domain gives one in turn, drawn by lot, until there are enough. The lot is a hash
    of seed and id, so that it depends on nothing else that is read.
    """
    strata: dict[tuple[int, str], list[Numbered]] = {}
    number = -1
    for number, (file, passage) in enumerate(passages):
        lot = hashlib.blake2b(f"{seed} {passage.id}".encode(), digest_size=8).hexdigest()
        drawn = strata.setdefault((file, passage.domain), [])
        insort(drawn, (lot, file, number, passage), key=lambda each: each[:3])
        del drawn[most:]
    turns = zip_longest(*(strata[stratum] for stratum in sorted(strata)))
    chosen = islice((each for turn in turns for each in turn if each is not None), most)
    ordered = sorted(chosen, key=lambda each: each[2])
    return [(file, passage) for _, file, _, passage in ordered], number + 1
