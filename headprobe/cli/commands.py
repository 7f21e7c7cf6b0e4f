"""The commands. What they need is imported inside them, so that ``--help`` stays quick."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headprobe import __version__
from headprobe.cli.judging import judge
from headprobe.cli.merging import merge
from headprobe.cli.printing import (
    AsJson,
    Overwrite,
    Quiet,
    RulesOption,
    find_run,
    print_json,
    print_run,
    print_shard,
    stdout,
)
from headprobe.cli.probes import probes_app
from headprobe.cli.selftest import selftest
from headprobe.cli.size import BudgetOption, MemoryOption, parse_size

if TYPE_CHECKING:
    from headprobe.store.run_folder import Run
    from headprobe.workflows.request import ScanRequest

app = typer.Typer(
    name="headprobe",
    help="Says what each attention head of a Llama-style checkpoint is for, with evidence.",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(probes_app, name="probes")

RunOption = Annotated[
    Path | None, typer.Option("--run", "-r", metavar="RUN", help="Run folder [newest].")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that a Hub model brings.")
]


def _version(asked: bool) -> None:
    if asked:
        print(f"headprobe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@app.command("scan")
def _scan(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Hub id or folder [the bundled demo].")
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
    quiet: Quiet = False,
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


app.command("judge")(judge)
app.command("merge")(merge)


@app.command("show-head")
def _show_head(
    head: Annotated[str, typer.Argument(metavar="HEAD", help="L12H5, 12.5 or 12-5.")],
    run: RunOption = None,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Run the model on this text instead.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show one head: its role, its numbers, its sentences."""
    from headprobe.axes import parse_head
    from headprobe.workflows.show_head import check_head, show_head

    layer, number = parse_head(head)
    found = find_run(run, quiet)
    check_head(found, layer, number)
    if text is not None:
        _show_text(found, layer, number, text, trust_remote_code, as_json)
        return
    view = show_head(found, layer, number)
    if as_json:
        from headprobe.report.machine import head_values

        print_json(head_values(view))
    else:
        from headprobe.report.head_view import draw_head

        draw_head(view, stdout())


def _show_text(
    run: "Run", layer: int, head: int, text: str, trust_remote_code: bool, as_json: bool
) -> None:
    from dataclasses import asdict

    from headprobe.workflows.show_text import show_text

    view = show_text(run, layer, head, text, trust_remote_code)
    if as_json:
        print_json(asdict(view))
    else:
        from headprobe.report.text_view import draw_text

        draw_text(view, stdout())


@app.command("export")
def _export(
    csv: Annotated[Path, typer.Option(metavar="DIR", help="Where the tables go.")],
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="Run folder [newest].")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Copy the tables of a run as CSV files."""
    from headprobe.report.plain import plain
    from headprobe.workflows.export import export

    written = [str(path) for path in export(find_run(run, quiet), csv, overwrite)]
    if as_json:
        print_json(written)
    elif not quiet:
        print("\n".join(plain(path) for path in written))


app.command("selftest")(selftest)


@app.command("runs")
def _runs(quiet: Quiet = False, as_json: AsJson = False) -> None:
    """List the runs under ./headprobe-runs, newest first."""
    from headprobe.report.plain import plain
    from headprobe.store.run_folder import RUNS
    from headprobe.workflows.runs import runs, unfinished

    found, broken = runs()
    for kept in unfinished():
        print(plain(f"unfinished: {kept.target}. Go on with {kept.command}."), file=sys.stderr)
    for error in broken:
        print(plain(f"warning: {error}"), file=sys.stderr)
    if as_json:
        from headprobe.report.machine import manifest_values

        print_json([manifest_values(run) for run in found])
    elif quiet:
        print("".join(plain(str(run.path)) + "\n" for run in found), end="")
    elif found:
        from headprobe.report.runs_view import draw_runs

        draw_runs(found, stdout())
    else:
        print(f"no runs under {RUNS} yet: headprobe scan makes one", file=sys.stderr)
