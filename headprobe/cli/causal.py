"""``headprobe ablate`` and ``headprobe takeover``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from headprobe.cli.printing import (
    AsJson,
    Quiet,
    RunOption,
    TrustRemoteCode,
    checks_paths,
    find_run,
    print_json,
    stdout,
)
from headprobe.config import MAX_NUMBER
from headprobe.errors import HeadprobeError


class By(StrEnum):
    """What takes the place of an ablated head's output."""

    MEAN = "mean"
    ZERO = "zero"
    RESAMPLE = "resample"
    UNIFORM = "uniform"


def _check_tokens(tokens: int | None) -> int | None:
    """Return the number; HeadprobeError where no text can have as many tokens."""
    if tokens is not None and not 1 <= tokens < MAX_NUMBER:
        raise HeadprobeError(f"--tokens {tokens}", "no such amount of text", "Give 1 or more")
    return tokens


@checks_paths
def ablate(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [HEADS]...",
            help="Heads to ablate together (L12H5), role:NAME, cluster:N or group:L3G1.",
            show_default=False,
        ),
    ] = None,
    run: RunOption = None,
    each: Annotated[bool, typer.Option("--each", help="Ablate every head by itself.")] = False,
    by: Annotated[By, typer.Option(help="What takes the place of the heads' outputs.")] = By.MEAN,
    sets: Annotated[
        int, typer.Option(metavar="N", min=0, max=10_000, help="Random sets of each kind.")
    ] = 99,
    role: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="The role whose relations are the heads' labels [default: all their roles].",
        ),
    ] = None,
    pairs: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Minimal pairs, one JSON object a line, or a built-in set: agreement, pronoun, "
            "reflexive [default: all built-in sets; with --each none].",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            callback=_check_tokens,
            help="Tokens of text to measure losses on [default: 5,000; with --each 10,000].",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the ablation that was interrupted.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, without the model.")
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure what the model loses without some heads."""
    from headprobe.commands import ablate as command
    from headprobe.report.ablation import draw_ablation, draw_ablation_plan, row_values
    from headprobe.report.layout import progress_for

    named, heads = _split_run(targets or [])
    measured = find_run(named, run, quiet or as_json)
    chosen = command.choose_sets(measured, heads, each, role)
    options = command.AblationOptions.of(
        each, by=by.value, null_count=sets, pairs=pairs or (), tokens=tokens
    )
    progress = progress_for(quiet=quiet or as_json)
    try:
        prepared = command.prepare_ablation(
            measured, chosen, options, progress, trust_remote_code=trust_remote_code
        )
        table = None if dry_run else command.ablate(prepared, progress, resume=resume)
    finally:
        progress.finish()
    if table is None:
        if as_json:
            from dataclasses import asdict

            print_json(asdict(prepared.plan))
        else:
            draw_ablation_plan(prepared.plan, stdout())
        return
    rows = row_values(table)
    if as_json:
        print_json(rows)
    else:
        draw_ablation(rows, stdout())


@checks_paths
def takeover(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [HEADS]...",
            help="Heads to ablate one by one (L12H5), role:NAME, cluster:N or group:L3G1 [default: "
            "leaders of clusters of repeaters, and the heads that matter most].",
            show_default=False,
        ),
    ] = None,
    run: RunOption = None,
    tokens: Annotated[
        int,
        typer.Option(
            metavar="N", callback=_check_tokens, help="Tokens of text to measure losses on."
        ),
    ] = 4_000,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Test whether other heads take over from ablated ones."""
    from headprobe.commands import takeover as command
    from headprobe.report.ablation import table_values
    from headprobe.report.layout import progress_for
    from headprobe.report.takeover import draw_takeover

    named, heads = _split_run(targets or [])
    measured = find_run(named, run, quiet or as_json)
    progress = progress_for(quiet=quiet or as_json)
    try:
        table = command.takeover(
            measured, heads, progress, tokens=tokens, trust_remote_code=trust_remote_code
        )
    finally:
        progress.finish()
    rows = table_values(table)
    if as_json:
        print_json(rows)
    else:
        draw_takeover(rows, stdout())


def _split_run(words: list[str]) -> tuple[Path | None, list[str]]:
    """Tell a run folder from heads: the first word may be a run, if it names no heads."""
    from headprobe.config import check_path
    from headprobe.vocabulary import is_head

    if not words or is_head(words[0]) or words[0].partition(":")[1]:
        return None, words
    check_path(words[0])
    return Path(words[0]), words[1:]
