"""The commands of the command line, except ``scan``.

Each function parses options, calls a function of ``commands`` and prints its result. Everything
else is imported inside the functions, so that ``--help`` starts quickly.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from headprobe import __version__
from headprobe.cli.causal import ablate, takeover
from headprobe.cli.compare import compare
from headprobe.cli.completion import complete_runs
from headprobe.cli.heads import heads, show_head
from headprobe.cli.printing import (
    AsJson,
    Overwrite,
    Quiet,
    QuietFolder,
    RulesOption,
    RunArgument,
    RunOption,
    checks_paths,
    find_run,
    print_json,
    print_run,
    stdout,
)
from headprobe.cli.prune import prune
from headprobe.cli.scan import scan
from headprobe.cli.trace import report_trace, trace
from headprobe.config import MAX_NUMBER
from headprobe.errors import HeadprobeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headprobe.commands.export import Writer
    from headprobe.runs.folder import Run


class PlainGroup(TyperGroup):
    """Commands whose help names the arguments without their Python types."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for command in self.commands.values():
            for parameter in command.params:
                if parameter.param_type_name == "argument":
                    setattr(parameter, "display_type_rich", _no_type)  # noqa: B010


def _no_type(ctx: object) -> None:
    """Stand in for typer's description of a type; ``ctx`` is the context of the command."""


@checks_paths
def judge(
    run: RunArgument = None,
    run_option: RunOption = None,
    rules: RulesOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="RUN",
            help="Run folder to write [default: replace the verdicts of RUN].",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: QuietFolder = False,
    as_json: AsJson = False,
) -> None:
    """Apply other rules to a run, without the model."""
    from headprobe.commands.judge import judge_run
    from headprobe.format import safe_text
    from headprobe.runs.recent import remember_run

    def warn(line: str) -> None:
        print(safe_text(f"warning: {line}"), file=sys.stderr)

    done = judge_run(find_run(run, run_option, quiet or as_json), rules, out, overwrite, warn)
    remember_run(done.run.path)
    if rules is not None and out is None and not (quiet or as_json):
        path = done.run.path
        print(
            safe_text(
                f"verdicts of {path} replaced; for the packaged rules: headprobe judge {path}"
            ),
            file=sys.stderr,
        )
    if as_json:
        from dataclasses import asdict

        from headprobe.results.views import run_values

        changes = [asdict(change) for change in done.changes]
        print_json({**run_values(done.run), "changes": changes})
        return
    print_run(done.run, quiet, as_json=False)
    if not quiet:
        from headprobe.report.lists import draw_changes

        draw_changes(done.changes, done.run.path, stdout())


@checks_paths
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
    quiet: QuietFolder = False,
    as_json: AsJson = False,
) -> None:
    """Combine the shards of a scan into one run, without the model."""
    from headprobe.commands import merge as workflow
    from headprobe.report.layout import progress_for
    from headprobe.runs.recent import remember_run

    progress = progress_for(quiet=quiet or as_json)
    try:
        run = workflow.merge(shards, out, overwrite, progress)
    finally:
        progress.finish()
    remember_run(run.path)
    print_run(run, quiet, as_json)


probes_app = typer.Typer(
    cls=PlainGroup,
    rich_markup_mode=None,
    help="List the built-in probe sets, or show what is in a probe set.",
)


@probes_app.callback(invoke_without_command=True)
def _probes(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from headprobe.commands.probe_sets import list_probe_sets

    sets = list_probe_sets()
    if as_json:
        from dataclasses import asdict

        print_json([asdict(each) for each in sets])
    elif sets:
        from headprobe.report.lists import draw_probe_sets

        draw_probe_sets(sets, stdout())
    else:
        print("no built-in probe sets; name files with -p", file=sys.stderr)


@probes_app.command("show")
def _probes_show(
    name: Annotated[
        str, typer.Argument(metavar="PROBES", help="Built-in probe set, file or folder.")
    ],
    most: Annotated[int, typer.Option("-n", metavar="N", help="Number of documents to print.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Print a few documents of a probe set with their annotation."""
    from dataclasses import asdict

    from headprobe.commands.probe_sets import some_samples
    from headprobe.report.lists import draw_samples

    samples = some_samples(name, most)
    if as_json:
        print_json([asdict(sample) for sample in samples])
    else:
        draw_samples(samples, stdout())


@probes_app.command("marks")
def _probes_marks(as_json: AsJson = False) -> None:
    """Print the characters of each class of punctuation marks."""
    from headprobe.commands.probe_sets import list_marks

    marks = list_marks()
    if as_json:
        print_json({name: characters.split() for name, characters in marks})
    else:
        from headprobe.report.lists import draw_marks

        draw_marks(marks, stdout())


@checks_paths
def selftest(
    quick: Annotated[bool, typer.Option("--quick", help="Test only a few checkpoints.")] = False,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Random seed of the weights and of where heads are planted.",
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
    """Scan generated checkpoints whose heads are known.

    Exits with code 1 if a planted head is missed or another head gets a role.
    """
    from dataclasses import asdict

    if not 0 <= seed < MAX_NUMBER:
        what = "is too large a number" if seed > 0 else "is negative"
        raise HeadprobeError("--seed", what, f"Give 0 or more, but less than {MAX_NUMBER}")
    from headprobe.commands import selftest as workflow
    from headprobe.report.layout import progress_for
    from headprobe.report.lists import draw_selftest

    progress = progress_for(quiet=quiet or as_json)
    try:
        result = workflow.selftest(progress, quick=quick, seed=seed, keep=out)
    finally:
        progress.finish()
    if as_json:
        print_json(asdict(result))
    elif not (quiet and result.right):
        draw_selftest(result, stdout())
    if not result.right:
        raise typer.Exit(1)


app = typer.Typer(
    name="headprobe",
    cls=PlainGroup,
    help="Report what each attention head of a Llama-style checkpoint is for, with evidence.",
    epilog="Documentation: headprobe docs [TOPIC]",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
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


@app.command("show")
@checks_paths
def _show(
    run: RunArgument = None,
    run_option: RunOption = None,
    quiet: QuietFolder = False,
    as_json: AsJson = False,
) -> None:
    """Show the summary of a run again."""
    print_run(find_run(run, run_option, quiet or as_json), quiet, as_json)


app.command("heads")(heads)

app.command("show-head")(show_head)


@app.command("report")
@checks_paths
def _report(
    run: RunArgument = None,
    run_option: RunOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="HTML file to write [default: RUN.html beside the run folder].",
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Also show this run beside it.",
            autocompletion=complete_runs,
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write figures for slides to this folder instead."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write the atlas of a run or of a trace: one HTML page with every head.

    The page loads nothing from elsewhere.
    """
    from headprobe.commands.export import export
    from headprobe.commands.report import page_target, write_page
    from headprobe.commands.show import head_views, rule_changes
    from headprobe.commands.trace_folder import is_trace
    from headprobe.format import safe_text
    from headprobe.report.atlas.data import atlas_data
    from headprobe.report.atlas.page import draw_atlas

    if png is not None:
        for option, value in (("-o", out), ("--compare", compare)):
            if value is not None:
                raise HeadprobeError("--png", "writes figures, not a page", f"Leave out {option}")
    named = run_option if run is None else run
    if named is not None and is_trace(named):
        report_trace(named, out, compare, png, overwrite, quiet)
        return
    found = find_run(run, run_option, quiet)
    if png is not None:
        writers = _figure_writers(found, "png", FigureSize.SLIDE)
        _print_files(export(found, png, writers, overwrite), quiet, as_json=False)
        return
    target = page_target(found, out, overwrite)
    added: dict[str, Any] = {}
    if compare is not None:
        from headprobe.commands.compare import compare_runs
        from headprobe.commands.show import find_run as find_named
        from headprobe.report.atlas.views import comparison_data

        other = find_named(compare, lambda _: None)
        added = comparison_data(compare_runs(found, other))
    data = atlas_data(found, head_views(found), rule_changes(found), added)
    write_page(target, draw_atlas(data))
    print(safe_text(str(target)))


class Format(StrEnum):
    """The formats of ``export``."""

    CSV = "csv"
    PARQUET = "parquet"
    LATEX = "latex"
    MARKDOWN = "markdown"
    SVG = "svg"


class FigureSize(StrEnum):
    """For what figures are drawn (``report.figures.SIZES``)."""

    COLUMN = "column"
    PAGE = "page"
    SLIDE = "slide"


app.command("ablate")(ablate)

app.command("takeover")(takeover)

app.command("prune")(prune)


@app.command("export")
@checks_paths
def _export(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", "--csv", metavar="DIR", help="Folder to write [default: RUN-FORMAT]."
        ),
    ] = None,
    run: RunArgument = None,
    run_option: RunOption = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="csv and parquet: every table. latex and markdown: the tables for a paper. "
            "svg: figures for a paper.",
        ),
    ] = Format.CSV,
    size: Annotated[
        FigureSize, typer.Option(help="Width of figures: a column, a page or a slide.")
    ] = FigureSize.COLUMN,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write the tables or figures of a run as files."""
    from headprobe.commands.export import default_folder, export, table_writers

    found = find_run(run, run_option, quiet or as_json)
    is_figure = form is Format.SVG
    writers = _figure_writers(found, "svg", size) if is_figure else table_writers(found, form)
    target = default_folder(found, form) if folder is None else folder
    _print_files(export(found, target, writers, overwrite), quiet, as_json)


def _figure_writers(run: "Run", suffix: str, size: FigureSize) -> "dict[str, Writer]":
    """The figures of a run by file name, and what writes each."""
    from functools import partial

    from headprobe.commands.show import head_views
    from headprobe.report.figures import SIZES, RunFigures, figures, save_figure

    data = RunFigures(Path(run.manifest.model.asked).name, tuple(head_views(run)))
    drawn = figures(data, SIZES[size])
    return {f"{name}.{suffix}": partial(save_figure, figure) for name, figure in drawn}


def _print_files(written: "Sequence[Path]", quiet: bool, as_json: bool) -> None:
    from headprobe.format import safe_text

    if as_json:
        print_json([str(path) for path in written])
    elif not quiet:
        print("\n".join(safe_text(str(path)) for path in written))


app.command("judge")(judge)

app.command("compare")(compare)

app.command("trace")(trace)

app.command("merge")(merge)


@app.command("runs")
@checks_paths
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
    from headprobe.commands.show import runs, unfinished
    from headprobe.format import safe_text
    from headprobe.runs.folder import RUNS

    where = folder or RUNS
    if folder is not None and not folder.is_dir():
        raise HeadprobeError(str(folder), "no such folder", f"Name one, or leave it out for {RUNS}")
    found, broken = runs(where)
    for checkpoint in unfinished(where):
        print(
            safe_text(f"unfinished: {checkpoint.target}. Resume it with {checkpoint.command}."),
            file=sys.stderr,
        )
    for error in broken:
        print(safe_text(f"warning: {error}"), file=sys.stderr)
    if as_json:
        from headprobe.results.views import overview_values

        print_json([overview_values(run) for run in found])
    elif quiet:
        print("".join(safe_text(str(run.path)) + "\n" for run in found), end="")
    elif found:
        from headprobe.report.lists import draw_runs

        draw_runs(found, stdout())
    else:
        print(safe_text(f"no runs in {where} yet; make one with headprobe scan"), file=sys.stderr)


app.add_typer(probes_app, name="probes")

app.command("selftest")(selftest)


@app.command("docs")
def _docs(
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="Page to show [list the topics].")
    ] = None,
) -> None:
    """List the topics of the documentation, or show one."""
    from headprobe.commands.documentation import find_topic, list_topics
    from headprobe.report.lists import draw_page, draw_topics

    if topic is None:
        draw_topics(((each.name, each.summary) for each in list_topics()), stdout())
    else:
        draw_page(find_topic(topic).text, stdout())
