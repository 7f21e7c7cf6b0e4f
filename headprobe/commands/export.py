"""Write the tables of a run into a folder, without losing a file that is there."""

import os
import secrets
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.results.comparison import COMPARE, COMPARE_JSON
from headprobe.runs import folder as run_folder
from headprobe.runs.files import read_or_fail
from headprobe.runs.folder import ABLATION, CONTROLS, TABLES, TAKEOVER, Run
from headprobe.runs.tables import read_frame

Writer = Callable[[Path], object]
"""Writes one file to the path that it is given."""

_FIRST_COLUMNS = {
    run_folder.HEADS: "layer,head,name,kv_group,",
    run_folder.CLAIMS: "role,layer,head,name,",
    run_folder.RELATIONS: "layer,head,name,family,",
    run_folder.DOMAINS: "layer,head,name,family,",
    run_folder.POWER: "family,relation,looks_to,",
    run_folder.PAIRS: "name_a,name_b,",
    run_folder.SKIPPED: "source,what,reason,",
    run_folder.CONTROLS: "control,family,relation,",
    run_folder.ABLATION: "set,heads,by,outcome,",
    run_folder.TAKEOVER: "ablated,responder,relation,",
    COMPARE: "head_a,head_b,affinity,",
    COMPARE_JSON: '{\n "a": {',
}
"""How each table begins, in every version."""

_WRITTEN = "Written by headprobe"
"""A comment at the start of tables for papers."""

_MARKS = {
    ".svg": b"<dc:title>headprobe</dc:title>",
    ".png": b"Software\0headprobe",
    ".tex": _WRITTEN.encode(),
    ".md": _WRITTEN.encode(),
}
"""What the start of other files contains, by the suffix of their names."""

CSV_FILES = (*TABLES, CONTROLS, ABLATION, TAKEOVER)
"""The files that an export as CSV can write."""


def default_folder(run: Run, form: str) -> Path:
    """Return where an export goes by default: ``<run>-<format>`` in the current folder."""
    return Path(f"{run.path.resolve().name}-{form}")


def table_writers(run: Run, form: str) -> dict[str, Writer]:
    """Return the files that hold the tables of a run in a format, and what writes each.

    ``csv`` and ``parquet`` hold every table and every digit; ``latex`` and ``markdown`` hold the
    tables that a paper prints (``results.papers``). Raises HeadprobeError if a library is missing
    or a table of the run is damaged.
    """
    if form == "csv":
        return {name: _csv_writer(run.path / name) for name in run.tables}
    if form == "parquet":
        _need("pyarrow", "parquet")
        return {f"{Path(name).stem}.parquet": _parquet_writer(run, name) for name in run.tables}
    _need("tabulate" if form == "markdown" else "jinja2", form)
    from headprobe.results.papers import paper_tables, to_latex, to_markdown

    tables = paper_tables(run)
    if form == "markdown":
        return {
            f"{name}.md": _text_writer(f"<!-- {_WRITTEN} -->\n\n{to_markdown(each)}")
            for name, each in tables.items()
        }
    return {
        f"{name}.tex": _text_writer(f"% {_WRITTEN}\n{to_latex(each)}")
        for name, each in tables.items()
    }


def _need(library: str, extra: str) -> None:
    """Raise HeadprobeError unless a library of an extra is installed."""
    from importlib.util import find_spec

    if find_spec(library) is None:
        raise HeadprobeError(
            f"--format {extra}",
            f"needs {library}, which is not installed",
            f"pip install 'headprobe[export]', or pip install {library}",
        )


def _csv_writer(source: Path) -> Writer:
    remedy = "Scan again, or copy the run folder again from its origin"
    with read_or_fail(source, remedy):
        if not _is_ours(source):
            raise HeadprobeError(str(source), "is not a table that headprobe wrote", remedy)
        content = source.read_bytes()
    return lambda path: path.write_bytes(content)


def _parquet_writer(run: Run, name: str) -> Writer:
    frame = read_frame(run.path / name)
    return lambda path: frame.to_parquet(path, index=False)


def _text_writer(text: str) -> Writer:
    return lambda path: path.write_text(text, encoding="utf-8")


def check_export(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """Raise HeadprobeError unless files of these names can be written to a folder.

    Existing ones are replaced only with ``overwrite``, and only if headprobe wrote them.
    """
    if folder.exists() and not folder.is_dir():
        raise HeadprobeError(str(folder), "exists and is not a folder", "Name another one")
    for path in (folder / name for name in names):
        if not os.path.lexists(path):
            continue
        if not overwrite:
            raise HeadprobeError(
                str(path), "exists already", "Name another folder, or replace it: --overwrite"
            )
        if not _is_ours(path):
            raise HeadprobeError(
                str(path),
                "is not a file that headprobe wrote",
                "Move it elsewhere first, or name another folder",
            )
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    try:  # to ask for the rights is not enough: a file system may take no files at all
        attempt = existing / f".{secrets.token_hex(4)}"
        attempt.mkdir()
        attempt.rmdir()
    except OSError as error:
        raise _cannot_write(folder, error) from None


def _cannot_write(folder: Path, error: OSError) -> HeadprobeError:
    return HeadprobeError(
        str(folder), f"cannot be written ({error.strerror})", "Name another folder"
    )


def _is_ours(path: Path) -> bool:
    """Whether a file that exists is a plain one that ``export`` wrote under this name."""
    columns = _FIRST_COLUMNS.get(f"{path.stem}.csv")
    if path.suffix == ".csv":
        return columns is not None and starts_with(path, columns.encode(), within=len(columns))
    if path.suffix == ".parquet":
        is_plain = stat.S_ISREG(path.lstat().st_mode)
        return is_plain and columns is not None and _parquet_columns(path).startswith(columns)
    mark = _MARKS.get(path.suffix)
    return mark is not None and starts_with(path, mark)


def starts_with(path: Path, mark: bytes, within: int = 4096) -> bool:
    """Whether a path is a plain file, no link, with ``mark`` in its first bytes."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    with path.open("rb") as file:
        return mark in file.read(within)


def _parquet_columns(path: Path) -> str:
    """The header that the same table has as CSV; empty where there is none."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        return ",".join(read_schema(path).names) + ","
    except (ArrowException, OSError):
        return ""


def export(
    run: Run, folder: Path, writers: Mapping[str, Writer], overwrite: bool = False
) -> list[Path]:
    """Write files into ``folder``, all of them or none; return their paths.

    Raises HeadprobeError as ``check_export`` does, and if they cannot be written.
    """
    if folder.exists() and folder.resolve() == run.path.resolve():
        raise HeadprobeError(str(folder), "is the run itself", "Name another folder")
    return write_files(folder, writers, overwrite)


def write_files(folder: Path, writers: Mapping[str, Writer], overwrite: bool = False) -> list[Path]:
    """Write files into ``folder``, all of them or none; return their paths.

    Raises HeadprobeError as ``check_export`` does, and if they cannot be written.
    """
    check_export(folder, writers, overwrite)
    created = [each for each in (folder, *folder.parents) if not each.exists()]
    temporary = {name: folder / f".{secrets.token_hex(4)}-{name}" for name in writers}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            write(temporary[name])
        for name, path in temporary.items():
            path.replace(folder / name)
    except BaseException as error:
        _remove(temporary.values(), created)
        if not isinstance(error, OSError):
            raise
        raise _cannot_write(folder, error) from None
    return [folder / name for name in writers]


def _remove(files: Iterable[Path], folders: Iterable[Path]) -> None:
    """Remove files, and those of the folders, innermost first, that are empty then."""
    with suppress(OSError):
        for path in files:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
