"""Are two measurements the same? The one answer for scans, processes, shards and controls."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

_SHOWN_LETTERS = 12
"""How much of a value, which may be a hash, error messages show."""


@dataclass(frozen=True)
class Fingerprint:
    """Everything that the sums of a measurement depend on, by name.

    Two measurements whose fingerprints are equal give the same sums: shards and processes may be
    added, and a partial scan may be continued.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    """JSON values by name. A name reads well after "differs in": ``the seed``."""

    def only(self, names: Collection[str]) -> Self:
        """Return the part with these names."""
        return type(self)({name: self.values[name] for name in self.values if name in names})

    def without(self, names: Collection[str]) -> Self:
        """Return the part without these names."""
        return type(self)({name: self.values[name] for name in self.values if name not in names})

    def __or__(self, other: Self) -> Self:
        """Return both together."""
        return type(self)({**self.values, **other.values})

    def first_difference(self, other: Self) -> str | None:
        """Return the first value that differs, in words that follow "differs in"; None if none."""
        for name in {**self.values, **other.values}:
            value, other_value = (each.values.get(name, "nothing") for each in (self, other))
            if value != other_value:
                shown = (str(each)[:_SHOWN_LETTERS] for each in (value, other_value))
                return f"{name} ({' and '.join(shown)})"
        return None

    @property
    def sha256(self) -> str:
        """The hash of all names and values."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()
