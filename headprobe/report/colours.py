"""The colour of every kind of head, in pages and figures.

The palette follows Okabe and Ito 2008 ("Color Universal Design"), lightened where a dark letter
stands on it: readers with any kind of colour vision can tell the named roles apart. Letters always
say the same as colours.
"""

from collections.abc import Mapping
from types import MappingProxyType

from headprobe.results.views import IDLE, NONE, REPEATER

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "coreference": "#cc79a7",
        "syntax": "#56b4e9",
        "punctuation": "#e69f00",
        "semantic": "#e07b3c",
        "word-class": "#f0e442",
        "positional": "#7fcdb0",
        "duplicate-token": "#8fb4e3",
        "induction": "#6f9be0",
        "mixed": "#bdbdbd",
        "unnamed": "#c9b8e8",
    }
)
"""Colours of the roles that the packaged rules give."""

OWN_ROLE = "#3fb58f"
"""Colour of every role that a user's rules give."""

QUIET = (REPEATER, IDLE, NONE)
"""Kinds that stay grey."""


def colour_class(kind: str) -> str:
    """Return the name of a kind in style sheets; all roles of a user's rules share one."""
    return kind if kind in COLOURS or kind in QUIET else "own"


def style_rules() -> str:
    """Return the style rules that set ``--kind``, the colour of each class."""
    rules = [f".{kind} {{ --kind: {colour}; }}" for kind, colour in COLOURS.items()]
    return "\n".join([*rules, f".own {{ --kind: {OWN_ROLE}; }}"])
