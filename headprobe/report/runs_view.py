"""The list of runs."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from headprobe.report import numbers
from headprobe.report.palette import LABEL
from headprobe.report.plain import clip, plain
from headprobe.store.run_folder import Run


def draw_runs(runs: Sequence[Run], console: Console) -> None:
    """Print one line per run, in the order given."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=LABEL)
    table.add_column("run", no_wrap=True, overflow="ignore")  # it is there to be copied
    table.add_column("model", overflow="fold")
    table.add_column("heads", justify="right", no_wrap=True)
    table.add_column("probes", overflow="fold")
    table.add_column("started (UTC)", no_wrap=True)
    for run in runs:
        model = run.manifest.model
        names = ", ".join(clip(probe.name, 24) for probe in run.manifest.probes[:2])
        more = len(run.manifest.probes) - 2
        table.add_row(
            plain(run.path.name),
            clip(Path(model.asked).name if model.kind == "folder" else model.asked, 32),
            f"{model.n_layers} x {model.n_heads}",
            names + (f" and {numbers.count(more, 'more', 'more')}" if more > 0 else ""),
            plain(run.manifest.started[:16].replace("T", " ")),
        )
    console.print(table)
