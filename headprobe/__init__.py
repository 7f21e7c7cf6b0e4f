"""headprobe reports what each attention head of a Llama-style checkpoint is for, with evidence.

>>> import headprobe
>>> run = headprobe.scan("path/to/model", probes=["treebank.conllu"])  # doctest: +SKIP
>>> run.heads, run.relations, run.pairs  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headprobe.config import STEP_OPTIONS, python_messages, python_options
from headprobe.errors import HeadprobeError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import pandas as pd
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from headprobe.commands.prune import PruneResult
    from headprobe.interface import Comparison, Run, Trace
    from headprobe.model.in_memory import InMemoryModel
    from headprobe.progress import Progress
    from headprobe.runs.folder import Run as StoredRun

__all__ = [
    "HeadprobeError",
    "__version__",
    "ablate",
    "compare",
    "judge",
    "load",
    "load_trace",
    "merge",
    "prune",
    "resume",
    "scan",
    "takeover",
    "trace",
]
__version__ = "0.2.0"


@python_options()
@python_messages
def scan(
    model: str | os.PathLike[str] | PreTrainedModel | PeftModel | None = None,
    probes: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Run:
    """Measure a checkpoint on probes and write a run folder, as ``headprobe scan`` does.

    ``model`` may also be a model in memory, given with its ``tokenizer``; it is left unchanged.
    ``progress`` shows the progress; by default a notebook shows a bar, and other callers nothing.
    Returns the run: ``run.heads``, ``run.relations`` and ``run.pairs`` are DataFrames, and
    ``run.controls`` with ``twin`` or ``shuffle``; ``run.summary()``, ``run.head("L12H5")`` and
    ``run.attend("L12H5", "my sentence")`` show what the command line shows. Raises HeadprobeError
    for errors that the user can correct.
    """
    import os

    from headprobe.commands.scan import scan as run_scan
    from headprobe.config import ScanConfig, check_names
    from headprobe.interface import progress_of

    check_names(options)
    is_named = model is None or isinstance(model, str | os.PathLike)
    in_memory = None if is_named else _in_memory(model, tokenizer)
    if in_memory is None and tokenizer is not None:
        raise HeadprobeError("tokenizer", "belongs to a model in memory", "Leave it out")
    for name in ("adapter", "revision", "gguf"):
        if in_memory is not None and options.get(name) is not None:
            remedy = "Leave it out, or give a PeftModel" if name == "adapter" else "Leave it out"
            raise HeadprobeError(name, "belongs to a checkpoint, not to a model in memory", remedy)
    config = ScanConfig.from_options(
        {**options, "model": model if is_named else None, "probes": probes}
    )
    return _opened(run_scan(config, progress_of(progress), in_memory))


def _opened(run: StoredRun) -> Run:
    """Return a run that was just written, and remember it as the last one."""
    from headprobe.interface import Run
    from headprobe.runs.recent import remember_run

    remember_run(run.path)
    return Run(run.path, run.manifest)


def _in_memory(model: object, tokenizer: object) -> InMemoryModel:
    from headprobe.model.in_memory import InMemoryModel

    return InMemoryModel.of(model, tokenizer)


@python_messages
def resume(
    run: str | os.PathLike[str],
    *,
    model: PreTrainedModel | PeftModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Resume an interrupted scan, as ``headprobe scan --resume`` does.

    ``model`` and ``tokenizer`` are needed if the scan measured a model in memory. Consent to remote
    code is never stored: give ``trust_remote_code`` again. Raises HeadprobeError where nothing is
    saved, or where the scan could not be continued in the same way.
    """
    from pathlib import Path

    from headprobe.commands.distributed import SingleProcess
    from headprobe.commands.resume import load_attempt
    from headprobe.commands.scan import run_scan
    from headprobe.interface import progress_of

    in_memory = None if model is None else _in_memory(model, tokenizer)
    attempt = load_attempt(Path(run), SingleProcess(), trust_remote_code, in_memory)
    written = run_scan(attempt, progress_of(progress), SingleProcess())
    return _opened(load(written))


@python_messages
def merge(
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Combine the shards of a scan into one run, as ``headprobe merge`` does.

    ``shards`` are the folders of the shards, or the run that they belong to. Raises HeadprobeError
    where a shard is missing or was scanned in another way.
    """
    import os
    from pathlib import Path

    from headprobe.commands.merge import merge as merge_shards
    from headprobe.interface import progress_of

    if isinstance(shards, str | os.PathLike):
        shards = [shards]
    merged = merge_shards(
        [Path(each) for each in shards],
        None if out is None else Path(out),
        overwrite,
        progress_of(progress),
    )
    return _opened(merged)


@python_messages
def load(run: str | os.PathLike[str]) -> Run:
    """Load a run from its folder, without the model; HeadprobeError where there is none."""
    from pathlib import Path

    from headprobe.commands.trace_folder import is_trace
    from headprobe.errors import HeadprobeError
    from headprobe.interface import Run

    folder = Path(run)
    if is_trace(folder):
        raise HeadprobeError(
            str(folder), "is a trace, not a run", "Load it with headprobe.load_trace"
        )
    return Run.load(folder)


@python_messages
def judge(
    run: str | os.PathLike[str] | StoredRun,
    rules: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Run:
    """Apply other rules to a run without its model, as ``headprobe judge`` does.

    Replaces the verdicts of ``run``, or writes a new run folder ``out``. Raises HeadprobeError for
    errors that the user can correct.
    """
    from pathlib import Path

    from headprobe.commands.judge import judge_run
    from headprobe.progress import SilentProgress
    from headprobe.runs.folder import Run as StoredRun

    judged = judge_run(
        run if isinstance(run, StoredRun) else load(run),
        None if rules is None else Path(rules),
        None if out is None else Path(out),
        overwrite,
        SilentProgress().warn,
    )
    return _opened(judged.run)


@python_messages
def compare(
    run_a: str | os.PathLike[str] | StoredRun,
    run_b: str | os.PathLike[str] | StoredRun,
    *,
    same_model: bool = False,
) -> Comparison:
    """Compare two runs of one model, or of two models, as ``headprobe compare`` does.

    ``same_model`` takes both for one model, such as a quantised copy. ``.heads`` of the result is a
    DataFrame with one row per head of the first run. Raises HeadprobeError where the runs cannot be
    compared.
    """
    import os

    from headprobe.commands.compare import compare_runs
    from headprobe.interface import Comparison

    runs = [load(run) if isinstance(run, str | os.PathLike) else run for run in (run_a, run_b)]
    return Comparison(compare_runs(*runs, same_model=same_model))


@python_options(*STEP_OPTIONS)
@python_messages
def trace(
    checkpoints: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    revisions: str | None = None,
    out: str | os.PathLike[str] | None = None,
    drop: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Trace:
    """Scan the checkpoints of a training and find when roles begin, as ``headprobe trace`` does.

    ``checkpoints`` are folders with the step in their names, or one Hub id together with
    ``revisions``, a pattern such as ``"step*"``. ``drop`` removes each downloaded revision after
    its scan, and ``resume`` goes on with the trace in ``out``. Raises HeadprobeError for errors
    that the user can correct; finished steps stay in the folder.
    """
    import os
    from pathlib import Path

    from headprobe.commands.trace import TraceRequest
    from headprobe.commands.trace import trace as run_trace
    from headprobe.config import ScanConfig, check_names
    from headprobe.interface import Trace, progress_of

    check_names(options, STEP_OPTIONS)
    named = [checkpoints] if isinstance(checkpoints, str | os.PathLike) else checkpoints
    request = TraceRequest(
        tuple(os.fspath(each) for each in named),
        ScanConfig.from_options(options),
        revisions,
        None if out is None else Path(out),
        drop,
        resume,
    )
    return Trace(run_trace(request, progress_of(progress)))


@python_messages
def load_trace(folder: str | os.PathLike[str]) -> Trace:
    """Load a trace from its folder, without the models; HeadprobeError where there is none."""
    from pathlib import Path

    from headprobe.commands.trace_folder import is_trace
    from headprobe.commands.trace_folder import load_trace as load_steps
    from headprobe.errors import HeadprobeError
    from headprobe.interface import Trace
    from headprobe.runs.folder import MANIFEST

    if not is_trace(Path(folder)) and (Path(folder) / MANIFEST).is_file():
        raise HeadprobeError(str(folder), "is a run, not a trace", "Load it with headprobe.load")
    return Trace(load_steps(Path(folder)))


def ablate(
    run: str | os.PathLike[str] | Run, heads: str | Sequence[str] = (), **options: Any
) -> pd.DataFrame:
    """Replace the outputs of heads and return what the model loses, as ``headprobe ablate`` does.

    ``run`` is a run or its folder. The other arguments are those of ``Run.ablate``.
    """
    table: pd.DataFrame = _with_pages(run).ablate(heads, **options)
    return table


def takeover(
    run: str | os.PathLike[str] | Run, heads: str | Sequence[str] = (), **options: Any
) -> pd.DataFrame:
    """Test whether other heads take over from ablated ones, as ``headprobe takeover`` does.

    ``run`` is a run or its folder. The other arguments are those of ``Run.takeover``.
    """
    table: pd.DataFrame = _with_pages(run).takeover(heads, **options)
    return table


def prune(run: str | os.PathLike[str] | Run, **options: Any) -> PruneResult:
    """Say which heads can go, and save the model without them, as ``headprobe prune`` does.

    ``run`` is a run or its folder. The other arguments are those of ``Run.prune``.
    """
    return _with_pages(run).prune(**options)


def _with_pages(run: str | os.PathLike[str] | Run) -> Run:
    import os

    return load(run) if isinstance(run, str | os.PathLike) else run
