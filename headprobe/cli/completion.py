"""What the shell completes: names of runs and heads, read from run folders without torch."""

from collections.abc import Iterator
from pathlib import Path

import typer


def complete_runs(incomplete: str) -> list[str]:
    """Return the runs whose name or path begins with ``incomplete``.

    Runs in ``headprobe-runs`` are named without the folder. The shell completes files where there
    are none.
    """
    from headprobe.runs.folder import RUNS

    paths = [*_runs(RUNS, ""), *_runs(Path(), "")]
    if "/" in incomplete:
        folder = incomplete.rpartition("/")[0] + "/"
        paths = list(_runs(Path(folder), folder))
    return [path for path in paths if path.startswith(incomplete)]


def _runs(folder: Path, prefix: str) -> Iterator[str]:
    from headprobe.runs.folder import MANIFEST

    for manifest in sorted(folder.glob(f"[!.]*/{MANIFEST}")):
        yield prefix + manifest.parent.name


def complete_heads_and_runs(context: typer.Context, incomplete: str) -> list[str]:
    """Return the heads of the run that is named, or else written last, and the names of runs."""
    return [*_heads(context, incomplete), *complete_runs(incomplete)]


def _heads(context: typer.Context, incomplete: str) -> list[str]:
    from headprobe.commands.show import find_run
    from headprobe.errors import HeadprobeError
    from headprobe.vocabulary import head_name, is_head

    named = [word for word in context.params.get("words") or () if not is_head(word)]
    run = context.params.get("run") or (named[0] if named else None)
    try:
        model = find_run(Path(run) if run else None, lambda _: None).manifest.model
    except HeadprobeError:
        return []
    names = (
        head_name(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)
    )
    return [name for name in names if name.startswith(incomplete.upper())]


def complete_roles(incomplete: str) -> list[str]:
    """Return the packaged roles and kinds of heads that begin with ``incomplete``."""
    from headprobe.commands.heads import role_names

    return [name for name in role_names() if name.startswith(incomplete)]
