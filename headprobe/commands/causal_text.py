"""The text of a run again, for commands that run its model with changed heads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headprobe.batching.corpus import Corpus
from headprobe.batching.encoder import Encoder
from headprobe.commands.prepare import PASSAGE_BUDGET, read_corpus
from headprobe.errors import HeadprobeError
from headprobe.probes.file import ProbeFile
from headprobe.progress import Progress
from headprobe.runs.folder import Run


def read_run_corpus(run: Run, encoder: Encoder, progress: Progress) -> Corpus:
    """Read the probes of the run again, cut as the run cut them; HeadprobeError where a file has
    changed."""
    files = []
    for note in run.manifest.probes:
        path = Path(note.path)
        if not path.is_file():
            raise HeadprobeError(
                note.path, f"the probe file of {run.path} is not here", "Restore it, or scan again"
            )
        file = ProbeFile(path, note.name)
        if file.sha256 != note.sha256:
            raise HeadprobeError(
                note.path, f"is not as {run.path} measured it", "Restore it, or scan again"
            )
        files.append(file)
    budget = run.manifest.measured_with.get(PASSAGE_BUDGET)
    probes = read_corpus(
        files,
        encoder,
        context=run.manifest.model.context,
        budget=None if budget is None else int(budget),
        max_passages=None,
        seed=run.manifest.seed,
        progress=progress,
    )
    return probes.corpus


def split_halves(
    corpus: Corpus, tokens: int, seed: int, command: str
) -> tuple[list[int], list[int]]:
    """Return passages of even and of odd document folds, each of about ``tokens`` tokens, in a
    random order; HeadprobeError where there is none of either. Twins of passages are left out."""
    is_odd = corpus.instances.document_fold % 2 == 1
    order = np.random.default_rng(seed).permutation(corpus.instances.text_passages)
    halves = []
    for wanted in (False, True):
        passages = order[is_odd[order] == wanted]
        before = np.cumsum(corpus.lengths[passages]) - corpus.lengths[passages]
        halves.append([int(passage) for passage in passages[before < tokens]])
    if not all(halves):
        raise HeadprobeError(
            command,
            "one half of the documents is empty: values and losses need a half each",
            "Scan probes with more documents",
        )
    return halves[0], halves[1]


def passage_tokens(corpus: Corpus, passage: int) -> NDArray[np.int32]:
    """[T]: the token ids of a passage, start tokens included."""
    return corpus.token_ids[corpus.token_first[passage] : corpus.token_first[passage + 1]]


def text_units(corpus: Corpus, passages: Sequence[int]) -> NDArray[np.int64]:
    """[U]: for each unit of the outcome on text, in its order (``OutcomeBuilder.add_text``), the
    token of the corpus at which it is predicted."""
    spans = [
        np.arange(corpus.token_first[p] + corpus.starts - 1, corpus.token_first[p + 1] - 1)
        for p in passages
    ]
    return np.concatenate(spans)
