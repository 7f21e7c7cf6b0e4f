"""What commands share: options, finding the run, and printing results."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import typer

from headprobe.cli.completion import complete_runs
from headprobe.config import check_path
from headprobe.errors import HeadprobeError

if TYPE_CHECKING:
    from rich.console import Console

    from headprobe.runs.folder import Run

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and warnings only.")]
QuietFolder = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only warnings and the run folder.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing files or an existing run.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Allow code from the model's repository to run.")
]
RulesOption = Annotated[
    Path | None,
    typer.Option(
        "--rules", metavar="FILE", help="YAML file of rules that override the packaged ones."
    ),
]
RunArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN",
        help="Run folder [default: the run written last].",
        autocompletion=complete_runs,
    ),
]
RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run",
        "-r",
        metavar="RUN",
        help="Another way to name RUN.",
        autocompletion=complete_runs,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]


Command = TypeVar("Command", bound=Callable[..., None])


def checks_paths(command: Command) -> Command:
    """Let a command check each of its arguments that is a path (``config.check_path``) first."""

    @wraps(command)
    def checked(**values: Any) -> None:
        for value in values.values():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, Path):
                    check_path(each)
        command(**values)

    return cast(Command, checked)


def stdout() -> "Console":
    """Return a console on stdout."""
    from headprobe.report.layout import console

    return console(sys.stdout)


def print_json(values: Any) -> None:
    """Print ``values`` as JSON on stdout."""
    import json

    print(json.dumps(values, indent=2, default=str))


def print_run(run: "Run", quiet: bool, as_json: bool) -> None:
    """Print a run as a page, as JSON, or only its folder."""
    from headprobe.format import safe_text

    if as_json:
        from headprobe.results.views import run_values

        print_json(run_values(run))
    elif quiet:
        print(safe_text(str(run.path)))
    else:
        from headprobe.commands.show import rule_changes, unearned_roles
        from headprobe.report.summary import draw_summary

        draw_summary(run, stdout(), rule_changes(run), unearned_roles(run))


def print_shard(folder: Path, quiet: bool, as_json: bool) -> None:
    """Print the folder of a shard, and the command that merges all shards."""
    from headprobe.format import safe_text
    from headprobe.runs.shards import Shard

    shard = Shard.load(folder)
    if as_json:
        print_json({"path": str(folder), "shard": shard.index + 1, "of": shard.count})
    elif quiet:
        print(safe_text(str(folder)))
    else:
        print(safe_text(f"shard {shard.index + 1} of {shard.count}: {folder}"))
        print(safe_text(f"when all {shard.count} shards are finished: headprobe merge {shard.run}"))


def find_run(named: Path | None, option: Path | None, quiet: bool) -> "Run":
    """Return the run named as an argument or with ``-r``, or else the one written last.

    That one is then named on stderr.
    """
    from headprobe.commands import show as runs
    from headprobe.format import safe_text

    def note(line: str) -> None:
        if not quiet:
            print(safe_text(line), file=sys.stderr)

    if named is not None and option not in (None, named):
        raise HeadprobeError(f"-r {option}", f"{named} is named as the run, too", "Name one run")
    return runs.find_run(option if named is None else named, note)
