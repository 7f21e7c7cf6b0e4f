"""Reading mentions from the entity brackets of GUM and CorefUD.

``(e5-person-1-`` opens a mention of entity e5, ``e5)`` closes it, and ``(e5-person-1-)`` does both
on one word. ``e5[1/2]`` is the first of two parts of a discontinuous mention. A ``# global.Entity``
comment declares the fields between the hyphens.

The formats: https://ufal.mff.cuni.cz/corefud, https://wiki.gucorpling.org/gum/tsv2conllu
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from headprobe.probes.document import Mention
from headprobe.probes.file import SkipCallback
from headprobe.vocabulary import Skipped

DEFAULT_ORDER = ("eid", "etype", "head", "other")
"""The fields of an opening bracket in files without a ``# global.Entity`` comment."""

_BRACKETS = re.compile(
    r"\((?P<opens>[^()]*)(?P<closed>\)?)|(?P<closes>[^()]+)\)|(?P<stray>[^()]+|\))"
)
_PART = re.compile(r"(?P<entity>.*)\[(?P<part>\d{1,4})/(?P<parts>\d{1,4})\]")
_ENTITY_FIELDS = ("eid", "GRP", "id")
"""Names of the field that identifies the entity."""


def field_order(comment: str) -> tuple[str, ...]:
    """Return the fields of an opening bracket that a ``# global.Entity`` comment declares."""
    return tuple(comment.strip().split("-"))


@dataclass(slots=True)
class _OpenMention:
    """A mention whose bracket has not closed yet, or the last part of a discontinuous one."""

    entity: str

    start: int
    """Position of the first node of this part in the document."""

    fields: dict[str, str]
    """The fields of the opening bracket; for a later part, those of the first one."""

    source: str
    part: int = 1
    parts: int = 1

    nodes: tuple[int, ...] = ()
    """Positions of the nodes of the earlier parts, and of this one once it is closed."""


class MentionReader:
    """Reads the brackets of one document in order.

    Brackets that do not pair are skipped and reported to ``note``; they raise no error.

    A *node* is a word, given by its index in the document, or an empty node, given as None. Empty
    nodes count where a field counts positions in a mention, but they are not words of the mention.
    """

    def __init__(self, order: Sequence[str], note: SkipCallback) -> None:
        self._order = tuple(order)
        self._note = note
        self._nodes: list[int | None] = []
        self._open: dict[str, list[_OpenMention]] = {}
        self._awaited: dict[str, list[_OpenMention]] = {}
        self._mentions: list[Mention] = []

    def add_nodes(self, nodes: Sequence[int | None]) -> int:
        """Append the nodes of a sentence and return the position of the first one."""
        position = len(self._nodes)
        self._nodes.extend(nodes)
        return position

    def read(self, brackets: str, position: int, source: str) -> None:
        """Read the brackets of the node at position ``position``; ``source`` is its file:line."""
        for bracket in _BRACKETS.finditer(brackets):
            if bracket["stray"] is not None:
                self._skip(source, f"brackets {bracket['stray']!r} are malformed")
            elif bracket["closes"] is not None:
                self._close(bracket["closes"], position, source)
            else:
                key = self._open_bracket(bracket["opens"], position, source)
                if key is not None and bracket["closed"]:
                    self._close(key, position, source)

    def finish(self) -> tuple[Mention, ...]:
        """Return all mentions, sorted by head word; report the brackets that never close."""
        for waiting in self._open.values():
            for opened in waiting:
                self._skip(opened.source, f"the bracket of {opened.entity!r} never closes")
        for waiting in self._awaited.values():
            for opened in waiting:
                self._skip(
                    opened.source,
                    f"{opened.entity!r} ends after part {opened.part} of {opened.parts}",
                )
        return tuple(sorted(self._mentions, key=lambda m: (m.head, m.words, m.entity)))

    def _skip(self, source: str, reason: str) -> None:
        self._note(Skipped(source, "mention", reason))

    def _open_bracket(self, text: str, position: int, source: str) -> str | None:
        """Open a mention; return the key that closes it, or None if the bracket is skipped."""
        values = text.split("-", max(len(self._order) - 1, 0))
        fields = dict(zip(self._order, values, strict=False))
        key = next((fields[name] for name in _ENTITY_FIELDS if name in fields), values[0])
        if not key:
            self._skip(source, f"the bracket {text!r} names no entity")
            return None
        opened = _OpenMention(key, position, fields, source)
        split = _PART.fullmatch(key)
        if split:
            opened.entity = split["entity"]
            opened.part, opened.parts = int(split["part"]), int(split["parts"])
            if opened.part > 1 and not self._continue(opened):
                return None
        self._open.setdefault(key, []).append(opened)
        return key

    def _continue(self, opened: _OpenMention) -> bool:
        """Join a part to the latest mention that awaits it; return False if there is none."""
        waiting = self._awaited.get(opened.entity, [])
        for index in reversed(range(len(waiting))):
            earlier = waiting[index]
            if (earlier.part + 1, earlier.parts) == (opened.part, opened.parts):
                del waiting[index]
                opened.nodes, opened.fields = earlier.nodes, earlier.fields
                return True
        self._skip(opened.source, f"part {opened.part} of {opened.entity!r} has no part before it")
        return False

    def _close(self, key: str, position: int, source: str) -> None:
        waiting = self._open.get(key)
        if not waiting:
            self._skip(source, f"the bracket of {key!r} was never opened")
            return
        opened = waiting.pop()
        opened.nodes += tuple(range(opened.start, position + 1))
        if opened.part < opened.parts:
            self._awaited.setdefault(opened.entity, []).append(opened)
        else:
            self._complete(opened)

    def _complete(self, opened: _OpenMention) -> None:
        nodes = [self._nodes[position] for position in opened.nodes]
        words = tuple(sorted({node for node in nodes if node is not None}))
        if not words:
            self._skip(opened.source, "it covers empty nodes only")
            return
        head = self._head(opened, nodes)
        self._mentions.append(Mention(opened.entity, words, words[-1] if head is None else head))

    def _head(self, opened: _OpenMention, nodes: Sequence[int | None]) -> int | None:
        """Return the declared head word (docs/method.md), or None where none is declared."""
        declared = opened.fields.get("minspan") or opened.fields.get("head")
        if not declared:
            return None
        first = declared.split(",")[0]
        if not (first.isascii() and first.isdigit() and 1 <= int(first[:6]) <= len(nodes)):
            self._skip(
                opened.source, f"head {declared!r} of {opened.entity!r}: the last word is used"
            )
            return None
        return nodes[int(first) - 1]
