"""What probes there are, and how each kind of file is read.

The probe sets that come with the program.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.probes.conllu import read_conllu
from headprobe.probes.document import Document
from headprobe.probes.file import (
    AdvanceCallback,
    ProbeFile,
    Reader,
    SkipCallback,
    friendly_read_errors,
    no_progress,
    suggest_names,
)
from headprobe.probes.text import read_text
from headprobe.probes.yaml import read_probe_set
from headprobe.resources import configs_folder


def builtin_files(suffixes: Container[str]) -> dict[str, Path]:
    """Built-in probe set -> its file, by name; ``suffixes`` are those that can be read."""
    folder = configs_folder() / "probes"
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes}


READERS: dict[str, Reader] = {
    ".conllu": read_conllu,
    ".yaml": read_probe_set,
    ".yml": read_probe_set,
    ".txt": read_text,
}
"""Extension point: the reader of each kind of file, by its suffix in lower case."""

_PLAIN = ".txt"


def find_probe_files(names: Sequence[str]) -> tuple[ProbeFile, ...]:
    """The files that names mean: built-in sets, files, folders; all built-in sets for no name.

    A folder stands for all files in it that can be read, sorted by path; plain text only where
    there is nothing annotated (a README.txt beside a treebank is no probe). Files named twice count
    once. Raises HeadprobeError where a name means nothing.
    """
    files: dict[Path, ProbeFile] = {}
    for name in names or builtin_files(READERS):
        for file in _files_of(name):
            files.setdefault(file.path.resolve(), file)
    return tuple(files.values())


def read_documents(
    files: Iterable[ProbeFile], note: SkipCallback, advance: AdvanceCallback = no_progress
) -> Iterator[Document]:
    """The documents of files, one at a time, each with an id of its own.

    A document whose id was there before is numbered (``id~2``) and stays in the same cluster.
    Raises HeadprobeError where a file is malformed or holds no sentence.
    """
    seen: dict[str, int] = {}
    for file in files:
        empty = True
        for document in READERS[file.path.suffix.lower()](file, note, advance):
            empty = False
            yield _renamed(document, seen)
        if empty:
            raise HeadprobeError(str(file.path), "holds no sentence", "Name a file with probes")


def _renamed(document: Document, seen: dict[str, int]) -> Document:
    name = document.id
    while name in seen:
        seen[document.id] += 1
        name = f"{document.id}~{seen[document.id]}"
    seen[name] = 1
    return document if name == document.id else replace(document, id=name)


def _files_of(name: str) -> Iterator[ProbeFile]:
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
                name, f"no reader for {path.suffix or 'a file without suffix'!r}", _known_kinds()
            )
        yield ProbeFile(path, path.name)
    else:
        beside = _names_in(path.parent) if path.parent.is_dir() else []
        raise HeadprobeError(
            f"probes {name!r}",
            "neither a built-in set nor a file or folder",
            suggest_names(path.name, [*builtin, *beside]),
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
    annotated = [path for path in paths if path.suffix.lower() != _PLAIN]
    if not paths:
        raise HeadprobeError(str(folder), "holds no probe file", _known_kinds())
    for path in annotated or paths:
        yield ProbeFile(path, path.relative_to(folder).as_posix())


def _names_in(folder: Path) -> list[str]:
    with friendly_read_errors(folder):
        return sorted(
            path.name
            for path in folder.iterdir()
            if not path.name.startswith(".") and (path.suffix.lower() in READERS or path.is_dir())
        )


def _known_kinds() -> str:
    return f"Probe files end in {', '.join(READERS)}"
