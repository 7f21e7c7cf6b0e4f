"""``headprobe compare``: its options, and the printing of its result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headprobe.cli.completion import complete_runs
from headprobe.cli.printing import AsJson, Overwrite, Quiet, checks_paths, print_json, stdout

if TYPE_CHECKING:
    from headprobe.commands.export import Writer
    from headprobe.results.comparison import Comparison


@checks_paths
def compare(
    run_a: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_A", help="Run folder of the first run.", autocompletion=complete_runs
        ),
    ],
    run_b: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_B", help="Run folder of the second run.", autocompletion=complete_runs
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Write compare.csv and compare.json to this folder."
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write compare.csv to this folder.")
    ] = None,
    same_model: Annotated[
        bool,
        typer.Option(
            "--same-model",
            help="Take both for one model, such as a quantised copy: compare equal seats.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare the heads of two runs: of one model, or of two models."""
    from headprobe.commands.compare import compare_runs, comparison_target
    from headprobe.commands.export import check_export, write_files
    from headprobe.commands.show import find_run
    from headprobe.format import safe_text
    from headprobe.report.comparison import answer, draw_comparison
    from headprobe.report.layout import LABEL, draw_line
    from headprobe.results.comparison import COMPARE, COMPARE_JSON, comparison_values

    runs = [find_run(path, lambda _: None) for path in (run_a, run_b)]
    targets = {
        comparison_target(folder, runs): names
        for folder, names in ((csv, [COMPARE]), (out, [COMPARE, COMPARE_JSON]))
        if folder is not None
    }
    for folder, names in targets.items():
        check_export(folder, names, overwrite)
    comparison = compare_runs(*runs, same_model=same_model)
    writers, written = _writers(comparison), []
    for folder, names in targets.items():
        written += write_files(folder, {name: writers[name] for name in names}, overwrite)
    if as_json:
        print_json(comparison_values(comparison))
    elif quiet:
        print(answer(comparison))
    else:
        console = stdout()
        draw_comparison(comparison, console)
        for path in written:
            draw_line(console, ("written  ", LABEL), safe_text(str(path)))


def _writers(comparison: "Comparison") -> "dict[str, Writer]":
    """What writes each file of a comparison."""
    import json

    from headprobe.results.comparison import (
        COMPARE,
        COMPARE_JSON,
        comparison_table,
        comparison_values,
    )
    from headprobe.results.tables import write_csv

    values = json.dumps(comparison_values(comparison), indent=1, default=str) + "\n"
    return {
        COMPARE: lambda path: write_csv(comparison_table(comparison), path),
        COMPARE_JSON: lambda path: path.write_text(values, encoding="utf-8"),
    }
