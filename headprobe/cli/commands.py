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
    TrustRemoteCode,
    find_run,
    print_json,
    print_run,
    stdout,
)
from headprobe.cli.probes import probes_app
from headprobe.cli.scanning import scan
from headprobe.cli.selftest import selftest
from headprobe.errors import HeadprobeError

if TYPE_CHECKING:
    from headprobe.store.run_folder import Run

app = typer.Typer(
    name="headprobe",
    help="Report what each attention head of a Llama-style checkpoint is for, with evidence.",
    epilog="Documentation: headprobe docs [TOPIC]",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(probes_app, name="probes")

RunOption = Annotated[
    Path | None,
    typer.Option("--run", "-r", metavar="RUN", help="Run folder [default: the newest]."),
]


def _version(asked: bool) -> None:
    if asked:
        print(f"headprobe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


app.command("scan")(scan)
app.command("judge")(judge)
app.command("merge")(merge)


@app.command("show")
def _show(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder [default: the newest].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the summary of a run again."""
    print_run(find_run(run, quiet=as_json), quiet=False, as_json=as_json)


@app.command("show-head")
def _show_head(
    head: Annotated[
        str, typer.Argument(metavar="HEAD", help="Head, counted from 0: L12H5, 12.5 or 12-5.")
    ],
    run: RunOption = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Run the model on TEXT and show what the head attends to; - reads stdin.",
        ),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Show the role of one head, its numbers and example sentences."""
    from headprobe.axes import parse_head
    from headprobe.workflows.show_head import show_head

    layer, number = parse_head(head)
    found = find_run(run, quiet)
    found.check_head(layer, number)
    if text is not None:
        typed = sys.stdin.read() if text == "-" else text
        _show_text(found, layer, number, typed, trust_remote_code, quiet, as_json)
        return
    view = show_head(found, layer, number)
    if as_json:
        from headprobe.report.machine import head_values

        print_json(head_values(view))
    else:
        from headprobe.report.head_view import draw_head

        draw_head(view, stdout())


def _show_text(
    run: "Run",
    layer: int,
    head: int,
    text: str,
    trust_remote_code: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from headprobe.report.plain import plain
    from headprobe.workflows.show_text import show_text

    if not quiet:  # the run decides it, and may be another's
        print(
            plain(f"loading the model that was measured: {run.manifest.model.asked}"),
            file=sys.stderr,
        )
    view = show_text(run, layer, head, text, trust_remote_code)
    if as_json:
        print_json(asdict(view))
    else:
        from headprobe.report.text_view import draw_text

        draw_text(view, stdout())


@app.command("export")
def _export(
    csv: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write the tables to.")],
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder [default: the newest].")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write the tables of a run as CSV files."""
    from headprobe.report.plain import plain
    from headprobe.workflows.export import export

    written = [str(path) for path in export(find_run(run, quiet), csv, overwrite)]
    if as_json:
        print_json(written)
    elif not quiet:
        print("\n".join(plain(path) for path in written))


app.command("selftest")(selftest)


@app.command("runs")
def _runs(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="Folder that holds the runs [default: headprobe-runs].",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder, newest first, and resumable scans."""
    from headprobe.report.plain import plain
    from headprobe.store.run_folder import RUNS
    from headprobe.workflows.runs import runs, unfinished

    where = folder or RUNS
    if folder is not None and not folder.is_dir():
        raise HeadprobeError(str(folder), "no such folder", f"Name one, or leave it out for {RUNS}")
    found, broken = runs(where)
    for kept in unfinished(where):
        print(plain(f"unfinished: {kept.target}. Resume it with {kept.command}."), file=sys.stderr)
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
        print(plain(f"no runs in {where} yet: headprobe scan makes one"), file=sys.stderr)


@app.command("docs")
def _docs(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="Page to show [list the topics].")
    ] = None,
) -> None:
    """List the topics of the documentation, or show one."""
    from headprobe.report.docs_view import draw_page, draw_topics
    from headprobe.workflows.documentation import find_topic, list_topics

    if topic is None:
        draw_topics(((each.name, each.summary) for each in list_topics()), stdout())
    else:
        draw_page(find_topic(topic).text, stdout())
