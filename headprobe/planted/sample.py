"""A few documents of the bundled probe sets, evenly from each."""

import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

from headprobe.probes.probe_file import ProbeFile


def write_sample(files: Sequence[ProbeFile], folder: Path, share: float, seed: int) -> None:
    """Write a ``share`` of the documents of CoNLL-U files, in their order, to files of the same
    names in ``folder``; every document must begin with ``# newdoc``."""
    folder.mkdir()
    rng = Random(seed)
    for file in files:
        text = file.path.read_text(encoding="utf-8")
        documents = re.split(r"^(?=# newdoc\b)", text, flags=re.MULTILINE)[1:]
        chosen = sorted(rng.sample(range(len(documents)), round(share * len(documents))))
        (folder / file.path.name).write_text(
            "".join(documents[place] for place in chosen), encoding="utf-8"
        )
