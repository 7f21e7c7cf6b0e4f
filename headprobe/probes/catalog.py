"""Finding probe files by name, and reading each with the reader of its suffix."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.format import suggest_names
from headprobe.probes.annotator import Annotator
from headprobe.probes.conllu import read_conllu
from headprobe.probes.document import Document
from headprobe.probes.file import (
    AdvanceCallback,
    ProbeFile,
    Reader,
    SkipCallback,
    friendly_read_errors,
    no_progress,
)
from headprobe.probes.text import read_text
from headprobe.probes.yaml import read_probe_set
from headprobe.resources import configs_folder

READERS: dict[str, Reader] = {
    ".conllu": read_conllu,
    ".yaml": read_probe_set,
    ".yml": read_probe_set,
    ".txt": read_text,
}
"""Extension point: suffix in lower case -> the reader of such files."""

_PLAIN_TEXT = ".txt"


def builtin_files(suffixes: Container[str]) -> dict[str, Path]:
    """Return the files of the built-in probe sets that have one of ``suffixes``, by set name."""
    folder = configs_folder() / "probes"
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes}


def find_probe_files(names: Sequence[str]) -> tuple[ProbeFile, ...]:
    """Return the files of built-in sets, files and folders by name; all built-in sets by default.

    A folder stands for all probe files below it, sorted by path. Plain text files count only where
    the folder holds no annotated file, because a README.txt beside a treebank is not a probe file.
    A file that is named twice is returned once. Raises HeadprobeError for an unknown name.
    """
    files: dict[Path, ProbeFile] = {}
    for name in names or builtin_files(READERS):
        for file in _files_by_name(name):
            files.setdefault(file.path.resolve(), file)
    return tuple(files.values())


def read_documents(
    files: Iterable[ProbeFile],
    note: SkipCallback,
    advance: AdvanceCallback = no_progress,
    annotator: Annotator | None = None,
) -> Iterator[Document]:
    """Yield the documents of files, one at a time, with unique ids.

    An ``annotator`` annotates plain text; it leaves other files as they are.

    A document whose id has occurred before gets a number (``id~2``) and keeps its cluster. Raises
    HeadprobeError where a file is malformed or holds no sentence.
    """
    uses: dict[str, int] = {}
    for file in files:
        empty = True
        for document in _reader(file, annotator)(file, note, advance):
            empty = False
            yield _with_unique_id(document, uses)
        if empty:
            raise HeadprobeError(str(file.path), "holds no sentence", "Name a file with sentences")


def is_plain_text(file: ProbeFile) -> bool:
    """Whether an annotator can annotate a file."""
    return file.path.suffix.lower() == _PLAIN_TEXT


def _reader(file: ProbeFile, annotator: Annotator | None) -> Reader:
    if annotator is not None and is_plain_text(file):
        return partial(read_text, annotator=annotator)
    return READERS[file.path.suffix.lower()]


def _with_unique_id(document: Document, uses: dict[str, int]) -> Document:
    """Number the document if its id is among ``uses`` (id -> last number), and count its id."""
    name = document.id
    while name in uses:
        uses[document.id] += 1
        name = f"{document.id}~{uses[document.id]}"
    uses[name] = 1
    return document if name == document.id else replace(document, id=name)


def _files_by_name(name: str) -> Iterator[ProbeFile]:
    builtin = builtin_files(READERS)
    path = Path(name)
    with friendly_read_errors(path):
        is_folder, is_file = bool(name) and path.is_dir(), path.is_file()
    if name in builtin:
        yield ProbeFile(builtin[name], name)
    elif is_folder:
        yield from _files_in(path)
    elif is_file:
        if path.suffix.lower() not in READERS:
            raise HeadprobeError(
                name,
                f"no reader for {repr(path.suffix) if path.suffix else 'a file without a suffix'}",
                _suffixes(),
            )
        yield ProbeFile(path, path.name)
    else:
        siblings = _names_in(path.parent) if path.parent.is_dir() else []
        in_folder = len(path.parts) > 1 and siblings
        raise HeadprobeError(
            f"probes {name!r}",
            "neither a built-in set nor a file or folder",
            suggest_names(path.name, siblings)
            if in_folder
            else suggest_names(path.name, builtin, siblings),
        )


def _files_in(folder: Path) -> Iterator[ProbeFile]:
    with friendly_read_errors(folder):
        paths = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in READERS
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and path.is_file()
        )
    annotated = [path for path in paths if path.suffix.lower() != _PLAIN_TEXT]
    if not paths:
        raise HeadprobeError(str(folder), "holds no probe file", _suffixes())
    for path in annotated or paths:
        relative = path.relative_to(folder)
        # one domain for each folder of texts: thousands of domains would have too little data each
        domain = (relative.parent.as_posix() if relative.parts[1:] else "") or folder.resolve().name
        yield ProbeFile(
            path, relative.as_posix(), domain if path.suffix.lower() == _PLAIN_TEXT else ""
        )


def _names_in(folder: Path) -> list[str]:
    """Return the names of the probe files and folders in a folder, for suggestions."""
    with friendly_read_errors(folder):
        return sorted(
            path.name
            for path in folder.iterdir()
            if not path.name.startswith(".")
            and (path.suffix.lower() in READERS or _seems_to_hold_probes(path))
        )


_LOOKED_AT = 1_000
"""The most files of a folder that are looked at for a suggestion."""


def _seems_to_hold_probes(folder: Path) -> bool:
    """Return whether one of the first files in a folder, or one level below, is a probe file."""
    paths = chain(folder.glob("*"), folder.glob("*/*")) if folder.is_dir() else iter(())
    return any(path.suffix.lower() in READERS for path in islice(paths, _LOOKED_AT))


def _suffixes() -> str:
    return f"The names of probe files end in {', '.join(READERS)}"
