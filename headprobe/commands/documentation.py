"""``headprobe docs``: the topics of the installed documentation, and their text."""

import re
from dataclasses import dataclass
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.format import suggest_names
from headprobe.resources import DOCS

_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)


@dataclass(frozen=True)
class Topic:
    """One page of the documentation."""

    name: str
    """The argument of ``headprobe docs``."""
    path: Path
    summary: str
    """The first paragraph of the page, on one line."""
    text: str
    """Its Markdown without HTML comments, which mark examples for the tests."""


def list_topics(folder: Path = DOCS) -> list[Topic]:
    """Return all topics by name; HeadprobeError where the documentation is not installed."""
    topics = [
        _read(path) for path in sorted(folder.glob("*.md"), key=lambda path: path.stem.lower())
    ]
    if not topics:
        raise HeadprobeError(str(folder), "the documentation is missing", "Install headprobe again")
    return topics


def find_topic(name: str, folder: Path = DOCS) -> Topic:
    """Return a topic by its name in any case, with or without ``.md``.

    Raises HeadprobeError where there is none.
    """
    topics = {topic.name: topic for topic in list_topics(folder)}
    wanted = name.lower().removesuffix(".md")
    if wanted not in topics:
        suggestion = suggest_names(wanted, topics)
        meant = f"{suggestion} " if suggestion.endswith("?") else ""
        raise HeadprobeError(
            f"docs {name}", "no such topic", f"{meant}The topics are {', '.join(topics)}"
        )
    return topics[wanted]


def _read(path: Path) -> Topic:
    text = _COMMENT.sub("", path.read_text(encoding="utf-8")).strip() + "\n"
    _, _, body = text.partition("\n\n")  # below the title
    summary = " ".join(body.partition("\n\n")[0].split())
    return Topic(path.stem.lower(), path, summary, text)
