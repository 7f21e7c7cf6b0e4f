"""The command ``prune``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from headprobe.cli.printing import (
    AsJson,
    Overwrite,
    Quiet,
    RunArgument,
    RunOption,
    TrustRemoteCode,
    checks_paths,
    find_run,
    print_json,
    stdout,
)


class Replacement(StrEnum):
    """What takes the place of heads in a checkpoint."""

    MEAN = "mean"
    ZERO = "zero"


@checks_paths
def prune(
    run: RunArgument = None,
    run_option: RunOption = None,
    groups: Annotated[
        int | None,
        typer.Option("--groups", metavar="K", help="Remove K key/value heads from each layer."),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            "--max-loss", metavar="NATS", help="Silence as many heads as this loss permits."
        ),
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option("--apply", metavar="FILE", help="Remove the heads that a mask does not keep."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", metavar="FILE", help="Write a mask (JSON).")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="Write a checkpoint that transformers loads."),
    ] = None,
    by: Annotated[
        Replacement | None,
        typer.Option(
            help="What takes the place of silenced heads [default: their mean, or zero where the "
            "architecture has no bias for it]."
        ),
    ] = None,
    sets: Annotated[int, typer.Option(metavar="N", help="Random sets to compare with.")] = 5,
    tokens: Annotated[int, typer.Option(metavar="N", help="Tokens of text to choose by.")] = 4_000,
    overwrite: Overwrite = False,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say which heads can go, and save the model without them."""
    from headprobe.commands.prune import PruneOptions
    from headprobe.commands.prune import prune as prune_run
    from headprobe.report.layout import progress_for
    from headprobe.report.pruning import draw_chosen, draw_losses, draw_saved, draw_verdicts

    options = PruneOptions(
        groups=groups,
        max_loss=max_loss,
        apply=apply,
        mask=mask,
        save=save,
        by=None if by is None else by.value,
        sets=sets,
        tokens=tokens,
        overwrite=overwrite,
        trust_remote_code=trust_remote_code,
    )
    measured = find_run(run, run_option, quiet or as_json)
    progress = progress_for(quiet=quiet or as_json)
    try:
        result = prune_run(measured, options, progress)
    finally:
        progress.finish()
    if as_json:
        print_json(result.values(measured))
        return
    console = stdout()
    if not options.needs_model:
        draw_verdicts(result.group_rows, result.head_rows, console)
    elif result.mask is not None:
        draw_chosen(result.mask, console)
    draw_losses(result.loss_rows, console)
    draw_saved(result.saved, mask, console)
