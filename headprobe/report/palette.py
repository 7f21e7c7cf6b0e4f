"""One letter and one colour for every role."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headprobe.store.tables import Row

NONE = "none"
IDLE, REPEATER = "idle", "repeater"
LABEL = "grey50"
"""The style of everything that only helps to read the rest."""


@dataclass(frozen=True)
class Mark:
    """How a kind of head is drawn."""

    letter: str
    style: str


_MARKS = {
    "coreference": Mark("C", "bold magenta"),
    "syntax": Mark("S", "bold cyan"),
    "punctuation": Mark("P", "bold yellow"),
    "positional": Mark("O", "green"),
    "duplicate-token": Mark("D", "blue"),
    "induction": Mark("I", "bold blue"),
    "mixed": Mark("M", "bold white"),
    "unnamed": Mark("U", "italic red"),
    REPEATER: Mark("=", LABEL),
    IDLE: Mark("z", LABEL),
    NONE: Mark("·", LABEL),
}


def kind_of(head: Row) -> str:
    """The head's role, ``redundant`` told apart into ``idle`` and ``repeater``."""
    if head.text("role") != "redundant":
        return head.text("role") or NONE
    return IDLE if head.flag("idle") else REPEATER


@dataclass(frozen=True)
class KindCount:
    """A kind of head: how many heads hold it, and of how many it is the letter in the grid (the
    strongest role, or what stands before every role: mixed, repeater, idle)."""

    kind: str
    heads: int
    strongest: int


def roles_of(head: Row) -> list[str]:
    """All roles that the head holds, strongest first; that it is redundant is a kind, no role."""
    roles = dict.fromkeys(head.text("roles").split(";"))
    return [role for role in roles if role not in ("", "redundant")]


def kinds(heads: Sequence[Row]) -> list[KindCount]:
    """Each kind that occurs: named roles as METHOD lists them, the users' own after them, then
    repeaters, idle heads, and those without a role."""
    strongest = Counter(kind_of(head) for head in heads)
    holding = Counter(kind for head in heads for kind in {kind_of(head), *roles_of(head)})
    last = [REPEATER, IDLE, NONE]
    ours = [kind for kind in _MARKS if kind not in last]
    theirs = sorted(kind for kind in holding if kind not in _MARKS)
    return [
        KindCount(kind, holding[kind], strongest[kind])
        for kind in [*ours, *theirs, *last]
        if holding[kind]
    ]


def second_kind(head: Row, order: Sequence[str]) -> str:
    """The role that the grid shows beside the head's kind: of the others that it holds, the first
    in ``order``; empty where it holds no other."""
    others = {role for role in roles_of(head) if role != kind_of(head)}
    return next((kind for kind in order if kind in others), "")


def marks(found: Iterable[str]) -> dict[str, Mark]:
    """A mark for every kind, the users' own roles by a letter that is still free."""
    chosen = dict(_MARKS)
    for kind in found:
        if kind not in chosen:
            taken = {mark.letter for mark in chosen.values()}
            free = [*kind.upper(), *"ABEFGHJKLNQRTVWXY0123456789?"]
            letter = next((c for c in free if c.isascii() and c.isalnum() and c not in taken), "?")
            chosen[kind] = Mark(letter, "bold green")
    return chosen
