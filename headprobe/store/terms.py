"""What sums depend on, by name: pieces of work add, or go on, where all of it is the same."""

from collections.abc import Mapping

_SHOWN = 12  # of a hash


def difference(one: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """What is not the same in both, in words that follow "differs in"; None where all is."""
    for name in {**one, **other}:
        had, has = (terms.get(name, "nothing") for terms in (one, other))
        if had != has:
            return f"{name} ({had[:_SHOWN]} and {has[:_SHOWN]})"
    return None
