"""The command that judges a run again."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from headprobe.cli.printing import (
    AsJson,
    FolderAlone,
    Overwrite,
    RulesOption,
    find_run,
    print_json,
    print_run,
    stdout,
)


def judge(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder [default: the newest].")
    ] = None,
    rules: RulesOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="RUN",
            help="Run folder to write [default: replace the verdicts of RUN].",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: FolderAlone = False,
    as_json: AsJson = False,
) -> None:
    """Apply other rules to a run; the model is not needed."""
    from headprobe.report.plain import plain
    from headprobe.workflows.judge import judge_run

    def warn(line: str) -> None:
        print(plain(f"warning: {line}"), file=sys.stderr)

    done = judge_run(find_run(run, quiet or as_json), rules, out, overwrite, warn)
    if as_json:
        from dataclasses import asdict

        from headprobe.report.machine import run_values

        changes = [asdict(change) for change in done.changes]
        print_json({**run_values(done.run), "changes": changes})
        return
    print_run(done.run, quiet, as_json=False)
    if not quiet:
        from headprobe.report.changes_view import draw_changes

        draw_changes(done.changes, stdout())
