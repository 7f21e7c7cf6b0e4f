"""``headprobe scan``: its options, derived from ``ScanConfig``, and the printing of its result."""

import inspect
import os
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from headprobe.cli.printing import (
    AsJson,
    QuietFolder,
    checks_paths,
    print_json,
    print_run,
    print_shard,
    stdout,
)
from headprobe.config import ScanConfig, base_type, option_of
from headprobe.errors import HeadprobeError
from headprobe.format import clip


def _command_line_parameter(config_field: "Field[Any]") -> inspect.Parameter:
    """Return the parameter of the command line for a field of ``ScanConfig``."""
    option, name, kind = option_of(config_field), config_field.name, base_type(config_field)
    default = config_field.default
    if option.parse is not None:  # the config parses the text
        kind, default = str, None
    elif kind == tuple[str, ...]:
        kind, default = list[str], None
    details: dict[str, Any] = {"help": option.help, "metavar": option.metavar}
    if option.argument:
        parameter = typer.Argument(**details)
    else:
        flag = f"--{name.replace('_', '-')}"
        if default is True:
            flag += f"/--no-{name.replace('_', '-')}"
        names = [flag, *([option.short] if option.short else [])]
        parameter = typer.Option(*names, **details)  # the config checks the minimum
    accepted = kind | None if default is None else kind
    annotation: Any = Annotated[accepted, parameter]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def with_config_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace ``**options`` of a command by one parameter for each field of ``ScanConfig``, or only
    for the fields of these ``names``."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            each
            for each in inspect.signature(command).parameters.values()
            if each.kind is not each.VAR_KEYWORD
        ]
        chosen = [each for each in fields(ScanConfig) if not names or each.name in names]
        parameters = [*map(_command_line_parameter, chosen), *own]
        signature: Any = inspect.Signature(parameters, return_annotation=None)
        command.__signature__ = signature  # type: ignore[attr-defined]
        return command

    return decorate


@checks_paths
@with_config_options()
def scan(
    *,
    csv: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the tables as CSV files to DIR.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be measured, and about how long it takes."
        ),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Resume an interrupted scan; you need not repeat its options."
        ),
    ] = None,
    quiet: QuietFolder = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Measure every attention head and report what each one is for."""
    from headprobe.commands.export import CSV_FILES, check_export, export, table_writers
    from headprobe.runs.folder import MANIFEST, Run
    from headprobe.runs.recent import remember_run

    check_numba()
    config = ScanConfig.from_options(options)
    if csv is not None:
        _check_apart(csv, config.out)
        check_export(csv, CSV_FILES, config.overwrite)
    # Consent to remote code is the only option that a resumed scan needs again.
    if resume is not None and (
        dry_run or config != ScanConfig(trust_remote_code=config.trust_remote_code)
    ):
        raise HeadprobeError(
            f"--resume {resume}",
            "restores the options of that scan",
            "Give no model and no other options, except --trust-remote-code if it is needed",
        )
    if csv is not None and config.shard is not None:
        raise HeadprobeError(
            "--csv", "a shard has no tables", "Merge the shards, then use headprobe export"
        )
    if dry_run:
        _print_plan(config, quiet, as_json)
        return
    folder = _scan(config, resume, quiet or as_json)
    if folder is None:
        return
    if not (folder / MANIFEST).is_file():
        print_shard(folder, quiet, as_json)
        return
    run = Run.load(folder)
    remember_run(folder)
    if csv is not None:
        export(run, csv, table_writers(run, "csv"), config.overwrite)
    print_run(run, quiet, as_json)


def check_numba() -> None:
    """Raise HeadprobeError for variables with which numba fails when it is imported, or later."""
    threads = os.environ.get("NUMBA_NUM_THREADS", "1")
    if not (threads.isdecimal() and threads.isascii() and 0 < int(threads[:9]) <= 1 << 10):
        raise HeadprobeError(
            "environment variable NUMBA_NUM_THREADS",
            f"is {clip(threads, 40)!r}, not a number of threads",
            "Unset it, or set it to 1",
        )
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise HeadprobeError(
            "environment variable NUMBA_DISABLE_JIT",
            "leaves the loops uncompiled, which would take days",
            "Unset it",
        )


def _check_apart(csv: Path, out: Path | None) -> None:
    """Raise HeadprobeError where the tables would be written into the run."""
    if out is not None and csv.resolve().is_relative_to(out.resolve()):
        raise HeadprobeError(
            f"--csv {csv}", "is the run itself, or in it", "Name another folder with --csv"
        )


def _scan(config: ScanConfig, resume: Path | None, quiet: bool) -> Path | None:
    """Start or resume a scan. Returns the folder, or None in all processes but the first."""
    from headprobe.commands.distributed import process_group
    from headprobe.commands.resume import ScanAttempt, load_attempt
    from headprobe.commands.scan import run_scan
    from headprobe.report.layout import progress_for

    progress = progress_for(quiet=quiet)
    try:
        with process_group() as group:
            attempt = (
                ScanAttempt(config)
                if resume is None
                else load_attempt(resume, group, config.trust_remote_code)
            )
            folder = run_scan(attempt, progress, group)
            return folder if group.index == 0 else None
    finally:
        progress.finish()


def _print_plan(config: ScanConfig, quiet: bool, as_json: bool) -> None:
    """Print what a scan would measure."""
    from dataclasses import asdict

    from headprobe.commands.distributed import process_group
    from headprobe.commands.scan import plan
    from headprobe.report.layout import progress_for
    from headprobe.report.lists import draw_plan

    progress = progress_for(quiet=quiet or as_json)
    try:
        with process_group() as group:
            planned = plan(config, group.wrap_progress(progress))
    finally:
        progress.finish()
    if group.index:
        return
    if as_json:
        print_json(asdict(planned))
    elif not quiet:
        draw_plan(planned, stdout())
