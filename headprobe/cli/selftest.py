"""The command that scans checkpoints whose heads are known."""

from pathlib import Path
from typing import Annotated

import typer

from headprobe.cli.printing import AsJson, Quiet, print_json, stdout


def selftest(
    quick: Annotated[bool, typer.Option("--quick", help="A few checkpoints only.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of weights and seats.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Keep checkpoints and runs there."),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Scan checkpoints whose heads are known, and compare.

    Exit code 1 if anything is missed or falsely named.
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
