"""What was left out, and why."""

from typing import NamedTuple


class Skipped(NamedTuple):
    """One thing left out: a row of ``skipped.csv``. ``count`` such things share source and reason."""

    source: str
    what: str
    reason: str
    count: int = 1
