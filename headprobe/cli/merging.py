"""The command that makes a run of shards."""

from pathlib import Path
from typing import Annotated

import typer

from headprobe.cli.printing import AsJson, FolderAlone, Overwrite, print_run


def merge(
    shards: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="The run, or the folders of its shards.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="RUN",
            help="Run folder to write [default: the run of the shards].",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: FolderAlone = False,
    as_json: AsJson = False,
) -> None:
    """Combine the shards of a scan into one run; the model is not needed."""
    from headprobe.report.progress import progress_for
    from headprobe.workflows import merge as workflow

    progress = progress_for(quiet=quiet or as_json)
    try:
        run = workflow.merge(shards, out, overwrite, progress)
    finally:
        progress.finish()
    print_run(run, quiet, as_json)
