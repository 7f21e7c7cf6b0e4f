"""What a head is called, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """A role that a head has earned: by which relation (index into Evidence.relations; None where
    it is no matter of one), how strongly, and the reason in numbers."""

    role: str
    relation: int | None
    strength: float
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """One head. ``claims`` are strongest first, but positional last; ``role`` is ``redundant`` for
    an idle head or a repeater, else ``mixed`` or the first claim's, else ``none``.
    ``best_relation`` is the relation with the best evidence, earned or not; ``repeater_of``
    names the stronger head."""

    layer: int
    head: int
    role: str
    claims: tuple[Claim, ...]
    strength: float | None
    reason: str
    idle: bool
    repeater_of: str | None
    cluster: int | None
    best_relation: int | None

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles that hold: ``redundant`` first, then the claims', strongest first."""
        redundant = ("redundant",) if self.role == "redundant" else ()
        return (*redundant, *(claim.role for claim in self.claims))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two heads that attend and write alike (or, with a cosine near -1, oppose each other)."""

    name_a: str
    name_b: str
    affinity: float
    output_cosine: float
    same_kv_group: bool
    relation: str  # "repeats" or "opposes"
