"""``headprobe trace``: its options, and the printing of its result."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headprobe.cli.printing import AsJson, QuietFolder, checks_paths, print_json, stdout
from headprobe.cli.scan import check_numba, with_config_options
from headprobe.config import STEP_OPTIONS, ScanConfig, check_path
from headprobe.errors import HeadprobeError


@checks_paths
@with_config_options(*STEP_OPTIONS)
def trace(
    *,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Folders of checkpoints with the step in their names, or a Hub id.",
            show_default=False,
        ),
    ] = None,
    revisions: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Branches and tags of the Hub id, such as 'step*'."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="New folder of the trace [default: a new one in headprobe-runs].",
        ),
    ] = None,
    drop: Annotated[
        bool,
        typer.Option("--drop", help="Remove each revision that was downloaded after its scan."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the trace in DIR; finished steps are reused."),
    ] = False,
    quiet: QuietFolder = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Scan the checkpoints of a training, and report when each role begins."""
    from headprobe.commands.trace import TraceRequest
    from headprobe.commands.trace import trace as run_trace
    from headprobe.format import safe_text
    from headprobe.report.layout import progress_for
    from headprobe.report.trace import draw_trace
    from headprobe.results.trace import trace_values

    check_numba()
    for model in models or ():
        check_path(model)
    request = TraceRequest(
        tuple(models or ()), ScanConfig.from_options(options), revisions, out, drop, resume
    )
    progress = progress_for(quiet=quiet or as_json)
    try:
        result = run_trace(request, progress)
    finally:
        progress.finish()
    if as_json:
        print_json(trace_values(result))
    elif quiet:
        print(safe_text(str(result.path)))
    else:
        draw_trace(result, stdout())


def report_trace(
    folder: Path,
    out: Path | None,
    compare: Path | None,
    png: Path | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write the atlas of a trace, or its figures for slides."""
    from functools import partial

    from headprobe.commands.export import write_files
    from headprobe.commands.report import page_target, write_page
    from headprobe.commands.show import head_views, rule_changes
    from headprobe.commands.trace_folder import load_trace
    from headprobe.format import safe_text
    from headprobe.report.atlas.data import atlas_data
    from headprobe.report.atlas.page import draw_atlas
    from headprobe.report.atlas.views import trace_data
    from headprobe.report.figures import SIZES, save_figure, trace_figures
    from headprobe.runs.folder import Run

    if compare is not None:
        what = f"{folder} is a trace, and not a run"
        raise HeadprobeError("--compare", what, "Name the run of one of its steps")
    result = load_trace(folder)
    if png is not None:
        figures = trace_figures(result, SIZES["slide"])
        writers = {f"{name}.png": partial(save_figure, figure) for name, figure in figures}
        written = write_files(png, writers, overwrite)
        if not quiet:
            print("\n".join(safe_text(str(path)) for path in written))
        return
    last = Run.load(result.counted[-1].run)
    page = folder.absolute()
    target = page_target(last, out or page.with_name(f"{page.name}.html"), overwrite)
    data = atlas_data(last, head_views(last), rule_changes(last), trace_data(result))
    write_page(target, draw_atlas(data))
    print(safe_text(str(target)))
