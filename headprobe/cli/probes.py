"""The commands about probe sets."""

import sys
from typing import Annotated

import typer

from headprobe.cli.printing import AsJson, print_json, stdout

probes_app = typer.Typer(
    rich_markup_mode=None, help="List the built-in probe sets, or show what is in a probe set."
)


@probes_app.callback(invoke_without_command=True)
def _probes(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from headprobe.workflows.probe_sets import list_probe_sets

    sets = list_probe_sets()
    if as_json:
        from dataclasses import asdict

        print_json([asdict(each) for each in sets])
    elif sets:
        from headprobe.report.probes_view import draw_probe_sets

        draw_probe_sets(sets, stdout())
    else:
        print("no built-in probe sets: give files with -p", file=sys.stderr)


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

    from headprobe.report.probes_view import draw_samples
    from headprobe.workflows.probe_sets import some_samples

    samples = some_samples(name, most)
    if as_json:
        print_json([asdict(sample) for sample in samples])
    else:
        draw_samples(samples, stdout())


@probes_app.command("marks")
def _probes_marks(as_json: AsJson = False) -> None:
    """Print the characters of each class of punctuation marks."""
    from headprobe.workflows.probe_sets import list_marks

    marks = list_marks()
    if as_json:
        print_json({name: characters.split() for name, characters in marks})
    else:
        from headprobe.report.probes_view import draw_marks

        draw_marks(marks, stdout())
