"""``it#2 -> animal, street``: which words a link of a probe set means."""

import re
from collections.abc import Sequence

from headprobe.probes.nearest import nearest
from headprobe.probes.probe_file import ProbeFile
from headprobe.probes.yaml_nodes import Text

_ARROW = re.compile(r"\s->\s")
_BETWEEN_COMMAS = re.compile(r'(?:"[^"]*"|[^,"])+')
_WORD = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>.+?))(?:#(?P<number>[1-9]\d{0,5}))?')


def split_link(file: ProbeFile, link: Text) -> list[str]:
    """The words of a link as written: the query, then its targets."""
    sides = _ARROW.split(link.text)
    words = [part.strip() for part in _BETWEEN_COMMAS.findall(sides[-1])]
    if len(sides) != 2 or not sides[0].strip() or not words or not all(words):
        raise file.error(
            link.line,
            f"{link.text[:60]!r} is not a link",
            "Write 'later word -> earlier word', several earlier ones divided by commas",
        )
    return [sides[0].strip(), *words]


def find_words(file: ProbeFile, words: Sequence[str], forms: Sequence[str], line: int) -> list[int]:
    """The index of each word among the forms of a text; the first of its form unless numbered.

    Raises HeadprobeError where the text has no such word, or not so many.
    """
    return [_find(file, word, forms, line) for word in words]


def _find(file: ProbeFile, word: str, forms: Sequence[str], line: int) -> int:
    match = _WORD.fullmatch(word)
    form = (match["quoted"] or match["plain"]) if match else word
    number = int(match["number"] or 1) if match else 1
    places = [place for place, found in enumerate(forms) if found == form]
    if not places:
        raise file.error(line, f"the word {form[:40]!r} is not in the text", nearest(form, forms))
    if number > len(places):
        raise file.error(
            line,
            f"there is no {word[:40]!r}",
            f"The text has {len(places)} of {form!r}, counted from 1",
        )
    return places[number - 1]
