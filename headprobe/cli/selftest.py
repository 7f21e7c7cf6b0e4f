"""The command that scans checkpoints whose heads are known."""

from pathlib import Path
from typing import Annotated

import typer

from headprobe.cli.printing import AsJson, Quiet, print_json, stdout


def selftest(
    quick: Annotated[bool, typer.Option("--quick", help="Test only a few checkpoints.")] = False,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", help="Random seed of the weights and of where heads are planted."
        ),
    ] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Keep the checkpoints and their runs in DIR."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Scan generated checkpoints whose heads are known and compare the results.

    Exits with code 1 if a planted head is missed or another head gets a role.
    """
    from dataclasses import asdict

    from headprobe.report.progress import progress_for
    from headprobe.report.selftest_view import draw_selftest
    from headprobe.workflows import selftest as workflow

    progress = progress_for(quiet=quiet or as_json)
    try:
        found = workflow.selftest(progress, quick=quick, seed=seed, keep=out)
    finally:
        progress.finish()
    if as_json:
        print_json(asdict(found))
    elif not (quiet and found.right):
        draw_selftest(found, stdout())
    if not found.right:
        raise typer.Exit(1)
