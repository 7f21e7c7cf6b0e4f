"""Sizes as people write them: of a passage, of memory."""

import re
from typing import Annotated

import typer

from headprobe.errors import HeadprobeError

BudgetOption = Annotated[
    int | None,
    typer.Option(min=8, metavar="TOKENS", help="Maximum tokens per passage [default: 512]."),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Memory limit beyond the model weights, e.g. 2GiB."),
]

_UNITS = {unit: 1024**power for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))}
_UNITS |= {unit: 1000**power for power, unit in enumerate(("kB", "MB", "GB", "TB"), 1)}
_BY_LETTERS = {unit.lower(): size for unit, size in _UNITS.items()}


def parse_size(text: str | int) -> int:
    """Bytes: ``2GiB``, ``500 MiB``, ``1.5gb``; HeadprobeError for anything else."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", str(text).strip())
    size = _BY_LETTERS.get(found[2].lower()) if found else None
    if found is None or size is None or not (number := int(float(found[1]) * size)):
        raise HeadprobeError(
            f"--memory {text}", "not a size", "Write a number and its unit: 500MiB, 2GiB"
        )
    return number
