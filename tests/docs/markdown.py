"""What the tests read of a page: its code blocks, tables, links and headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headprobe.resources import DOCS

ROOT = DOCS.parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md"))]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<directive>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[[^\]\n]+\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the HTML comment on the line before it (``CONTRIBUTING.md``)."""

    directive: str
    language: str
    body: str

    @property
    def is_run(self) -> bool:
        return not self.directive.startswith("not run: ")

    @property
    def file(self) -> str:
        """The file that the block is the content of, else an empty string."""
        return self.directive.removeprefix("file: ") if self.directive.startswith("file: ") else ""

    @property
    def commands(self) -> list[tuple[str, str]]:
        """(command, its output) of a ``console`` block."""
        if self.language != "console":
            return []
        parts = re.split(r"^\$ ", self.body, flags=re.MULTILINE)
        if parts[0]:
            raise ValueError(f"output before the first command: {parts[0]!r}")
        return [(line, output) for line, _, output in (part.partition("\n") for part in parts[1:])]


def blocks(page: Path) -> list[Block]:
    return [
        Block(match["directive"] or "", match["language"], match["body"])
        for match in _BLOCK.finditer(page.read_text("utf-8"))
    ]


def prose(page: Path) -> str:
    """The page without its code."""
    return re.sub(r"`[^`\n]+`", "", _BLOCK.sub("", page.read_text("utf-8")))


def links(page: Path) -> list[str]:
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_cells(page: Path, heading: str) -> Iterator[str]:
    """The names in backticks in the first column of the table under ``## heading``."""
    _, _, below = page.read_text("utf-8").partition(f"## {heading}\n")
    for line in below.partition("\n## ")[0].splitlines():
        if line.startswith("| `"):
            yield from re.findall(r"`([^`]+)`", line.split("|")[1])
