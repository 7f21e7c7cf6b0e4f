"""What was left out, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skipped:
    """One thing left out: a row of ``skipped.csv``; ``count`` such share source and reason."""

    source: str
    what: str
    reason: str
    count: int = 1
