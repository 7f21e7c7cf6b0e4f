"""The command that measures a model: alone, as a shard, as one of several ranks, or resumed.

Sizes as people write them: of a passage, of memory.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headprobe.cli.printing import (
    AsJson,
    Overwrite,
    QuietFolder,
    RulesOption,
    TrustRemoteCode,
    print_json,
    print_run,
    print_shard,
    stdout,
)
from headprobe.errors import HeadprobeError

if TYPE_CHECKING:
    from headprobe.config import ScanConfig


BudgetOption = Annotated[
    int | None,
    typer.Option(min=8, metavar="TOKENS", help="Maximum tokens per passage [default: 512]."),
]

MemoryOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Memory limit beyond the model weights, e.g. 2GiB."),
]

_UNITS = {unit: 1024**power for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))}

_UNITS |= {unit: 1000**power for power, unit in enumerate(("kB", "MB", "GB", "TB"), 1)}

_BY_LETTERS = {unit.lower(): size for unit, size in _UNITS.items()}


def parse_size(text: str | int) -> int:
    """Bytes: ``2GiB``, ``500 MiB``, ``1.5gb``; HeadprobeError for anything else."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", str(text).strip())
    size = _BY_LETTERS.get(found[2].lower()) if found else None
    if found is None or size is None or not (number := int(float(found[1]) * size)):
        raise HeadprobeError(
            f"--memory {text}", "not a size", "Write a number and its unit: 500MiB, 2GiB"
        )
    return number


def scan(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Hub id, local folder or GGUF file [default: the bundled demo model].",
        ),
    ] = None,
    probes: Annotated[
        list[str] | None,
        typer.Option(
            "--probes",
            "-p",
            metavar="PROBES",
            help="Built-in probe set, file or folder; repeatable [default: all built-in sets].",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="RUN",
            help="New run folder [default: headprobe-runs/<model>-<time>].",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Device to run the model on: cpu, cuda, mps, ...")
    ] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            metavar="DTYPE", help="Number format of the weights: float32, bfloat16, float16."
        ),
    ] = "auto",
    revision: Annotated[
        str | None, typer.Option(metavar="R", help="Branch, tag or commit of a Hub model.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(metavar="DIR", help="A LoRA adapter to put on the model.")
    ] = None,
    gguf: Annotated[
        str | None, typer.Option(metavar="FILE", help="A GGUF file inside MODEL.")
    ] = None,
    gguf_cache: Annotated[
        bool,
        typer.Option(
            "--gguf-cache/--no-gguf-cache", help="Keep a GGUF file's converted copy [keep]."
        ),
    ] = True,
    max_passages: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Measure a random sample of N passages.")
    ] = None,
    budget: BudgetOption = None,
    memory: MemoryOption = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the tables as CSV files to DIR.")
    ] = None,
    rules: RulesOption = None,
    twin: Annotated[
        bool,
        typer.Option(
            "--twin", help="Also scan a random-weight copy (control; should earn no roles)."
        ),
    ] = False,
    shuffle: Annotated[
        bool,
        typer.Option("--shuffle", help="Also scan shuffled links (control; should earn no roles)."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be measured, and stop.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Resume an interrupted scan; you need not repeat its options."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Scan only shard I of N, for headprobe merge; requires --out."
        ),
    ] = None,
    overwrite: Overwrite = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed.")] = 0,
    trust_remote_code: TrustRemoteCode = False,
    quiet: QuietFolder = False,
    as_json: AsJson = False,
) -> None:
    """Measure every attention head of a model and report what each one is for."""
    from headprobe.commands.show import check_export, export
    from headprobe.errors import HeadprobeError
    from headprobe.runs.folder import MANIFEST, Run

    if csv is not None:
        check_export(csv, overwrite)
    from headprobe.config import Partition, ScanConfig

    config = ScanConfig(
        model=model,
        probes=tuple(probes or ()),
        out=out,
        device=device,
        dtype=dtype,
        revision=revision,
        max_passages=max_passages,
        seed=seed,
        overwrite=overwrite,
        trust_remote_code=trust_remote_code,
        budget=budget,
        memory=None if memory is None else parse_size(memory),
        rules=rules,
        twin=twin,
        shuffle=shuffle,
        shard=None if shard is None else Partition.parse(shard),
        adapter=adapter,
        gguf=gguf,
        gguf_cache=gguf_cache,
    )
    consent = ScanConfig(trust_remote_code=trust_remote_code)  # is given each time
    if resume is not None and (config != consent or dry_run):
        raise HeadprobeError(
            f"--resume {resume}",
            "already knows the options of that scan",
            "Give no model and no other option but --trust-remote-code where it is needed",
        )
    if csv is not None and shard is not None:
        raise HeadprobeError("--csv", "a shard has no tables", "Give it to headprobe export later")
    if dry_run:
        _plan(config, quiet, as_json)
        return
    folder = _run(config, resume, quiet or as_json)
    if folder is None:
        return
    if not (folder / MANIFEST).is_file():
        print_shard(folder, quiet, as_json)
        return
    run = Run.load(folder)
    if csv is not None:
        export(run, csv, overwrite)
    print_run(run, quiet, as_json)


def _run(config: "ScanConfig", resume: Path | None, quiet: bool) -> Path | None:
    """Scan, or go on with a scan; the folder, or None where another rank speaks."""
    from headprobe.commands.distributed import process_group
    from headprobe.commands.resume import ScanAttempt, load_attempt
    from headprobe.commands.scan import run_scan
    from headprobe.report.layout import progress_for

    progress = progress_for(quiet=quiet)
    try:
        with process_group() as group:
            consent = config.trust_remote_code
            attempt = (
                ScanAttempt(config) if resume is None else load_attempt(resume, group, consent)
            )
            folder = run_scan(attempt, progress, group)
            return folder if group.index == 0 else None
    finally:
        progress.finish()


def _plan(config: "ScanConfig", quiet: bool, as_json: bool) -> None:
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
