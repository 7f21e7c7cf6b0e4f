"""``headprobe heads`` and ``headprobe show-head``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headprobe.cli.completion import complete_heads_and_runs, complete_roles
from headprobe.cli.printing import (
    AsJson,
    Quiet,
    RunArgument,
    RunOption,
    TrustRemoteCode,
    checks_paths,
    find_run,
    print_json,
    stdout,
)
from headprobe.config import check_path
from headprobe.errors import HeadprobeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headprobe.runs.folder import Run


@checks_paths
def heads(
    run: RunArgument = None,
    run_option: RunOption = None,
    role: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="Only heads with this role, or of this kind: coreference, syntax, punctuation, "
            "..., redundant, idle, repeater, none.",
            autocompletion=complete_roles,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of heads.csv with numbers; the largest come first [default: gain].",
        ),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Smallest numbers first.")] = False,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of heads to print.")] = 20,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """List heads by role and by any number."""
    from headprobe.commands.heads import list_heads

    listed = list_heads(find_run(run, run_option, quiet or as_json), role, sort, top, reverse)
    if as_json:
        from headprobe.results.views import list_values

        print_json(list_values(listed))
    else:
        from headprobe.report.heads import draw_heads

        draw_heads(listed, stdout())


@checks_paths
def show_head(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="HEAD",
            help="Heads, counted from 0: L12H5, 12.5 or 12-5. Any other word names RUN "
            "[default: the run written last].",
            autocompletion=complete_heads_and_runs,
        ),
    ],
    run: RunOption = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Run the model on TEXT and show what the heads attend to; - reads stdin.",
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show all relations and all domains.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show the roles of heads, their numbers and example sentences."""
    from headprobe.commands.show import show_head as view_head

    named, of_words = _heads_and_run(words)
    found = find_run(of_words, run, quiet or as_json)
    for layer, head in named:
        found.check_head(layer, head)
    if text is not None:
        typed = _read_stdin(quiet or as_json) if text == "-" else text
        _show_text(found, named, typed, trust_remote_code, quiet or as_json, as_json)
        return
    views = [view_head(found, layer, head) for layer, head in named]
    if as_json:
        from headprobe.results.views import head_values

        _print_values([head_values(view) for view in views])
        return
    from headprobe.report.head import draw_head

    for number, view in enumerate(views):
        _separate(number)
        draw_head(view, stdout(), everything)


def _heads_and_run(words: "Sequence[str]") -> tuple[list[tuple[int, int]], Path | None]:
    """Return the heads among the arguments, each once, and the run: the word that is no head.

    Raises HeadprobeError if no head is named, or more than one other word.
    """
    from headprobe.runs.folder import RUNS
    from headprobe.vocabulary import is_head, parse_head

    heads = list(dict.fromkeys(parse_head(word) for word in words if is_head(word)))
    others = [word for word in words if not is_head(word)]
    for word in others:
        check_path(word)
        if not (Path(word).is_dir() or (RUNS / word).is_dir()):
            if not heads or len(others) > 1:
                parse_head(word)  # raises: it is meant as a head
            raise HeadprobeError(
                word,
                "neither a head nor the folder of a run",
                "Write heads as L12H5; headprobe runs lists the runs there are",
            )
    if not heads:
        raise HeadprobeError(
            "show-head",
            "no head is named",
            f"Write headprobe show-head -r {shlex.quote(others[0])} L12H5",
        )
    if len(others) > 1:
        raise HeadprobeError(others[1], f"{others[0]} is named as the run, too", "Name one run")
    return heads, Path(others[0]) if others else None


LONGEST_TEXT = 1 << 20
"""The most bytes of a text on stdin. No model reads as many, and a device may have no end."""


def _read_stdin(quiet: bool) -> str:
    """Return the text on stdin; HeadprobeError if it is closed, too long, cannot be read or is not
    UTF-8."""
    if sys.stdin is None or sys.stdin.closed:
        raise HeadprobeError("--text -", "stdin is closed", "Give the text itself, or a pipe")
    if sys.stdin.isatty() and not quiet:
        print("type the text, then Ctrl-D", file=sys.stderr)
    try:
        raw = sys.stdin.buffer.read(LONGEST_TEXT + 1)
        if len(raw) > LONGEST_TEXT:
            what = f"stdin holds more than {LONGEST_TEXT:,} bytes"
            raise HeadprobeError("--text -", what, "Give one sentence or paragraph")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"stdin is not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start})"
        raise HeadprobeError("--text -", what, "Convert it, with iconv for example") from None
    except OSError as error:
        what = f"stdin cannot be read ({error.strerror})"
        raise HeadprobeError("--text -", what, "Give the text itself, or a pipe") from None


def _show_text(
    run: "Run",
    heads: "Sequence[tuple[int, int]]",
    text: str,
    trust_remote_code: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from headprobe.commands.show_text import show_texts
    from headprobe.format import safe_text

    def note(line: str) -> None:
        if not quiet:
            print(safe_text(line), file=sys.stderr)

    views = show_texts(run, heads, text, trust_remote_code, note=note)
    if as_json:
        _print_values([asdict(view) for view in views])
        return
    from headprobe.report.head import draw_text

    for number, view in enumerate(views):
        _separate(number)
        draw_text(view, stdout())


def _separate(number: int) -> None:
    """Print an empty line before every page but the first."""
    if number:
        print()


def _print_values(values: "Sequence[object]") -> None:
    """Print one head as a JSON object, several as a list."""
    print_json(values[0] if len(values) == 1 else values)
