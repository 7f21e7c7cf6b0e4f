"""Where commands print their results."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, for machines.")]


def stdout() -> "Console":
    """A console on stdout, imported when it is needed."""
    from headprobe.report.console import console

    return console(sys.stdout)


def print_json(values: Any) -> None:
    """``values`` as JSON on stdout."""
    import json

    print(json.dumps(values, indent=2, default=str))
