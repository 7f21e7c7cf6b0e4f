"""The verdict on a head: which roles it has earned, and why."""

from dataclasses import dataclass

FIRST, AFTER_FIRST, LAST = range(3)
"""Places of claims. ``positional`` stands after the first: it describes most rows of a head, and
must not hide what the head looks for in the others. Secondary roles (``rules.RoleRule``) stand
last."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A role that a head has earned."""

    role: str
    """The role's name."""
    relation: int | None
    """Index of the relation that earned it, in ``Evidence.relations``; None for roles that need no
    relation."""
    strength: float
    """``gain / (1 - baseline)``; for ``unnamed``, the share of attention that labels move."""
    reason: str
    """One line with the rule and its numbers (``roles.reasons``)."""
    place: int = FIRST
    """``FIRST``, ``AFTER_FIRST`` or ``LAST``: where the claim stands among a head's claims. Only
    ``FIRST`` claims can make a head ``mixed``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one head: a row of ``heads.csv``."""

    layer: int
    head: int
    role: str
    """``redundant`` for an idle head or a repeater; else ``mixed`` or the role of the first claim;
    else ``none``."""
    claims: tuple[Claim, ...]
    """By place, the strongest first."""
    strength: float | None
    """Strength of the first claim; None without claims."""
    reason: str
    """Why the head has this role, or what it lacks for one."""
    idle: bool
    repeater_of: str | None
    """Name of the stronger head that this one repeats."""
    cluster: int | None
    """Number of the cluster of repeaters, from 1; None outside of clusters."""
    best_relation: int | None
    """Index of the relation of the first claim that has one; without such a claim, of the relation
    with the best evidence."""

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles of the head: ``redundant`` first, then those of the claims, in their order."""
        redundant = ("redundant",) if self.role == "redundant" else ()
        return (*redundant, *(claim.role for claim in self.claims))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two heads that repeat or oppose each other: a row of ``pairs.csv``."""

    name_a: str
    name_b: str
    affinity: float
    """Mean Hellinger affinity of their attention, 0 to 1."""
    output_cosine: float
    """Mean cosine of their outputs, near -1 for heads that oppose each other."""
    same_kv_group: bool
    """Whether they share a key/value head."""
    relation: str
    """``repeats`` or ``opposes``."""
