"""The command that measures a model: alone, as a shard, as one of several ranks, or resumed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headprobe.cli.printing import (
    AsJson,
    FolderAlone,
    Overwrite,
    RulesOption,
    TrustRemoteCode,
    print_json,
    print_run,
    print_shard,
    stdout,
)
from headprobe.cli.size import BudgetOption, MemoryOption, parse_size

if TYPE_CHECKING:
    from headprobe.workflows.request import ScanRequest


def scan(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Hub id, folder or GGUF file [the demo].")
    ] = None,
    probes: Annotated[
        list[str] | None,
        typer.Option(
            "--probes",
            "-p",
            metavar="PROBES",
            help="Built-in set, file or folder; repeatable [all built-in sets].",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="RUN", help="[headprobe-runs/<model>-<time>]"),
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, mps, ...")] = "auto",
    dtype: Annotated[
        str, typer.Option(metavar="DTYPE", help="float32, bfloat16, float16")
    ] = "auto",
    revision: Annotated[
        str | None, typer.Option(metavar="R", help="Of a Hub model: a branch, tag or commit.")
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
        int | None, typer.Option(min=1, metavar="N", help="Take a sample of N passages.")
    ] = None,
    budget: BudgetOption = None,
    memory: MemoryOption = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy the tables there, too.")
    ] = None,
    rules: RulesOption = None,
    twin: Annotated[
        bool, typer.Option("--twin", help="Measure random weights, too: they must earn nothing.")
    ] = False,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Measure links that mean nothing, too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be measured.")] = False,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with an interrupted scan; type nothing else."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Scan one of N equal shards, for merge; wants --out."),
    ] = None,
    overwrite: Overwrite = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of every sample that is drawn.")] = 0,
    trust_remote_code: TrustRemoteCode = False,
    quiet: FolderAlone = False,
    as_json: AsJson = False,
) -> None:
    """Measure every head of a model, and say what each is for."""
    from headprobe.errors import HeadprobeError
    from headprobe.store.run_folder import MANIFEST, Run
    from headprobe.workflows.export import check_export, export

    if csv is not None:
        check_export(csv, overwrite)
    from headprobe.workflows.request import ScanRequest
    from headprobe.workflows.shares import Share

    request = ScanRequest(
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
        shard=None if shard is None else Share.read(shard),
        gguf=gguf,
        gguf_cache=gguf_cache,
    )
    if resume is not None and (request != ScanRequest() or dry_run):
        raise HeadprobeError(
            f"--resume {resume}", "knows all that was asked", "Type no model and no option beside"
        )
    if csv is not None and shard is not None:
        raise HeadprobeError("--csv", "a shard has no tables", "Give it to headprobe export later")
    if dry_run:
        _plan(request, quiet, as_json)
        return
    folder = _work(request, resume, quiet or as_json)
    if folder is None:
        return
    if not (folder / MANIFEST).is_file():
        print_shard(folder, quiet, as_json)
        return
    run = Run.load(folder)
    if csv is not None:
        export(run, csv, overwrite)
    print_run(run, quiet, as_json)


def _work(request: "ScanRequest", resume: Path | None, quiet: bool) -> Path | None:
    """Scan, or go on with a scan; the folder, or None where another rank speaks."""
    from headprobe.report.progress import progress_for
    from headprobe.workflows.ranks import joined
    from headprobe.workflows.request import Attempt, recall
    from headprobe.workflows.scan import go_on

    progress = progress_for(quiet=quiet)
    try:
        with joined() as ranks:
            attempt = Attempt(request) if resume is None else recall(resume, ranks)
            folder = go_on(attempt, progress, ranks)
            return folder if ranks.index == 0 else None
    finally:
        progress.finish()


def _plan(request: "ScanRequest", quiet: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from headprobe.report.plan_view import draw_plan
    from headprobe.report.progress import progress_for
    from headprobe.workflows.ranks import joined
    from headprobe.workflows.scan import plan

    progress = progress_for(quiet=quiet or as_json)
    try:
        with joined() as ranks:
            planned = plan(request, ranks.hear(progress))
    finally:
        progress.finish()
    if ranks.index:
        return
    if as_json:
        print_json(asdict(planned))
    elif not quiet:
        draw_plan(planned, stdout())
