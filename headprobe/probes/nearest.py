"""What a person may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 12


def nearest(name: str, names: Iterable[str]) -> str:
    """A remedy that lists the names nearest to a mistyped one; all of them where none is near."""
    known = [each if each.isprintable() else repr(each) for each in dict.fromkeys(names)]
    lower = {candidate.lower(): candidate for candidate in reversed(known)}
    close = [lower[match] for match in get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    if close:
        return f"Nearest: {', '.join(close)}"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"There is: {', '.join(known[:_SHOWN]) or 'nothing'}{more}"
