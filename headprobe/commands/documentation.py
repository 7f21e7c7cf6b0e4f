"""The documentation that is installed with the package: its topics and their text."""

import re
from dataclasses import dataclass
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.format import suggest_names
from headprobe.resources import DOCS

_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)


@dataclass(frozen=True)
class Topic:
    """One page. ``name`` is what ``headprobe docs`` takes, ``summary`` the first paragraph of the
    page on one line, and ``text`` its Markdown without HTML comments, which mark the examples for
    the tests."""

    name: str
    path: Path
    summary: str
    text: str


def list_topics(folder: Path = DOCS) -> list[Topic]:
    """All topics by name; HeadprobeError where the installation lacks the documentation."""
    topics = [
        _read(path) for path in sorted(folder.glob("*.md"), key=lambda path: path.stem.lower())
    ]
    if not topics:
        raise HeadprobeError(str(folder), "the documentation is missing", "Install headprobe again")
    return topics


def find_topic(name: str, folder: Path = DOCS) -> Topic:
    """The topic called ``name`` in any case, with or without ``.md``; HeadprobeError where there
    is none."""
    topics = {topic.name: topic for topic in list_topics(folder)}
    wanted = name.lower().removesuffix(".md")
    if wanted not in topics:
        raise HeadprobeError(f"docs {name}", "no such topic", suggest_names(wanted, topics))
    return topics[wanted]


def _read(path: Path) -> Topic:
    text = _COMMENT.sub("", path.read_text(encoding="utf-8")).strip() + "\n"
    _, _, body = text.partition("\n\n")  # below the title
    summary = " ".join(body.partition("\n\n")[0].split())
    return Topic(path.stem.lower(), path, summary, text)
