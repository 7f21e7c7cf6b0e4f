"""A few documents of the bundled probe sets, evenly from each."""

import re
from collections.abc import Sequence
from pathlib import Path

from headprobe.probes.probe_file import ProbeFile


def write_sample(files: Sequence[ProbeFile], folder: Path, share: float) -> None:
    """Write a ``share`` of the documents of CoNLL-U files, evenly spread, to files so named in
    ``folder``; every document must begin with ``# newdoc``."""
    folder.mkdir()
    for file in files:
        text = file.path.read_text(encoding="utf-8")
        documents = re.split(r"^(?=# newdoc\b)", text, flags=re.MULTILINE)[1:]
        chosen = [int(place / share) for place in range(round(share * len(documents)))]
        (folder / file.path.name).write_text(
            "".join(documents[place] for place in chosen), encoding="utf-8"
        )
