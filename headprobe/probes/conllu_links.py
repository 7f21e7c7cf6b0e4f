"""``Link=negation:3`` in the MISC column: links of relations that a user names.

It stands on the later word and gives the relation and the ID of the earlier word in the sentence;
several are divided by commas, and those of one relation are the targets of one link. A comment says
what a relation looks to and what competes, where that is not ``target`` and the whole passage:
``# global.Link = negation looks_to:cue scope:sentence``, several divided by semicolons. A file that
declares relations declares all that it uses, so that no misspelt name makes another relation.
"""

from collections.abc import Iterator, Sequence

from headprobe.probes.declared_relation import declared_relation
from headprobe.probes.document import Declared, Word
from headprobe.probes.nearest import nearest
from headprobe.probes.probe_file import ProbeFile
from headprobe.probes.yaml_nodes import Text
from headprobe.store.relation import Relation

KEY, COMMENT = "Link=", "global.Link"

_SETTINGS = ("looks_to", "scope")


class LinkReader:
    """Reads the links of one file; ``declare`` holds for the lines after it."""

    def __init__(self, file: ProbeFile) -> None:
        self._file = file
        self._settings: dict[str, dict[str, Text]] = {}

    def declare(self, comment: str, line: int) -> None:
        """Take what a ``global.Link`` comment says of relations; HeadprobeError where malformed."""
        for part in comment.split(";"):
            name, *settings = part.split() or [""]
            found = {}
            for setting in settings:
                key, _, value = setting.partition(":")
                if key not in _SETTINGS:
                    raise self._file.error(
                        line, f"the setting {key[:40]!r} is unknown", nearest(key, _SETTINGS)
                    )
                found[key] = Text(value, line)
            self._settings[name] = found
            self._relation(Text(name, line))

    def read(
        self, links: str, query: int, words: Sequence[Word], first: int, line: int
    ) -> Iterator[Declared]:
        """The links of the ``query``-th of a sentence's words, in word indices of the document,
        where the sentence starts at ``first``.

        HeadprobeError where one is malformed, means no word, looks forward, or is of no declared
        relation although there are such.
        """
        targets: dict[str, set[int]] = {}
        for link in links.split(","):
            name, _, number = link.strip().rpartition(":")
            if not name or not (number.isascii() and number.isdigit()):
                raise self._file.error(
                    line,
                    f"{link[:60]!r} is no link",
                    "Write Link=relation:ID, several divided by commas",
                )
            target = int(number[:9]) - 1
            if not 0 <= target < len(words):
                raise self._file.error(
                    line,
                    f"there is no word {number[:20]} to link to",
                    f"The words of the sentence have IDs from 1 to {len(words)}",
                )
            if target >= query:
                raise self._file.error(
                    line,
                    f"the link looks forward: {words[target].form[:40]!r} ({number}) does not "
                    f"stand before {words[query].form[:40]!r} ({query + 1})",
                    "A decoder sees only earlier words; write the link on the later one",
                )
            targets.setdefault(name, set()).add(first + target)
        for name, found in targets.items():
            yield Declared(self._relation(Text(name, line)), first + query, tuple(sorted(found)))

    def _relation(self, name: Text) -> Relation:
        if self._settings and name.text not in self._settings:
            raise self._file.error(
                name.line,
                f"the relation {name.text[:40]!r} is not declared",
                f"{nearest(name.text, self._settings)}; or declare it, too: # {COMMENT}",
            )
        settings = {"family": Text("user", name.line), **self._settings.get(name.text, {})}
        return declared_relation(self._file, name, settings)
