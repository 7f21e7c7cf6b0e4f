"""headprobe says what each attention head of a Llama-style checkpoint is for, with evidence.

>>> import headprobe
>>> run = headprobe.scan("path/to/model", probes=["treebank.conllu"])  # doctest: +SKIP
>>> run.heads, run.relations, run.pairs  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from headprobe.model.in_memory import InMemoryModel
    from headprobe.progress import Progress
    from headprobe.runs.folder import Run

__all__ = ["__version__", "judge", "load", "merge", "resume", "scan"]
__version__ = "0.1.0"


def scan(
    model: str | os.PathLike[str] | PreTrainedModel | PeftModel | None = None,
    probes: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    adapter: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    max_passages: int | None = None,
    budget: int | None = None,
    memory: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    rules: str | os.PathLike[str] | None = None,
    twin: bool = False,
    shuffle: bool = False,
    gguf: str | None = None,
    gguf_cache: bool = True,
    progress: Progress | None = None,
) -> Run:
    """Measure a checkpoint on probes and write a run folder; the same as ``headprobe scan``.

    ``model`` is a Hub id, a folder, a GGUF file, or a model in memory, which comes with its
    ``tokenizer`` and is left as it was. ``gguf`` is a GGUF file inside a Hub id or folder, of which
    ``gguf_cache`` keeps a converted copy in the user's cache. ``adapter`` is the folder of an
    adapter that peft puts on the model. ``files`` are built-in sets, files or folders; ``budget``
    counts tokens of a passage, ``memory`` bytes over the weights. Raises HeadprobeError where the
    user can mend it. ``run.heads``, ``run.relations`` and ``run.pairs`` are DataFrames, and with
    ``twin`` or ``shuffle`` ``run.controls``.
    """
    import os
    from pathlib import Path

    from headprobe.commands.scan import scan as work
    from headprobe.config import ScanConfig
    from headprobe.errors import HeadprobeError
    from headprobe.progress import SilentProgress

    if isinstance(probes, str | os.PathLike):  # one name is not a sequence of letters
        probes = [probes]
    named = model is None or isinstance(model, str | os.PathLike)
    in_memory = None if named else _in_memory(model, tokenizer)
    if named and tokenizer is not None:
        raise HeadprobeError("tokenizer", "goes with a model in memory only", "Leave it out")
    if in_memory is not None and not (adapter is None and revision is None):
        raise HeadprobeError(
            "adapter" if revision is None else "revision",
            "is of a checkpoint, and the model is in memory",
            "Leave it out, or give a PeftModel" if revision is None else "Leave it out",
        )
    request = ScanConfig(
        model=os.fspath(model) if isinstance(model, str | os.PathLike) else None,
        in_memory=in_memory,
        adapter=None if adapter is None else os.fspath(adapter),
        probes=tuple(os.fspath(each) for each in probes),
        out=None if out is None else Path(out),
        device=device,
        dtype=dtype,
        revision=revision,
        max_passages=max_passages,
        seed=seed,
        overwrite=overwrite,
        trust_remote_code=trust_remote_code,
        budget=budget,
        memory=memory,
        rules=None if rules is None else Path(rules),
        twin=twin,
        shuffle=shuffle,
        gguf=gguf,
        gguf_cache=gguf_cache,
    )
    return work(request, SilentProgress() if progress is None else progress)


def _in_memory(model: object, tokenizer: object) -> InMemoryModel:
    from headprobe.model.in_memory import InMemoryModel

    return InMemoryModel.of(model, tokenizer)


def resume(
    run: str | os.PathLike[str],
    *,
    model: PreTrainedModel | PeftModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Go on with a scan that was interrupted; the same as ``headprobe scan --resume``.

    ``model`` and ``tokenizer`` are those of a scan of a model in memory. Consent to code that a
    checkpoint brings is given each time: it is never stored.
    Raises HeadprobeError where nothing is kept of it, or it could not go on in the same way.
    """
    from pathlib import Path

    from headprobe.commands.distributed import SingleProcess
    from headprobe.commands.resume import load_attempt
    from headprobe.commands.scan import run_scan
    from headprobe.progress import SilentProgress

    in_memory = None if model is None else _in_memory(model, tokenizer)
    attempt = load_attempt(Path(run), SingleProcess(), trust_remote_code, in_memory)
    return load(
        run_scan(attempt, SilentProgress() if progress is None else progress, SingleProcess())
    )


def merge(
    shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Add the shards of a scan and write its run; the same as ``headprobe merge``.

    ``shards`` are their folders, or the run that they are of. Raises HeadprobeError where one is
    missing or was scanned in another way.
    """
    import os
    from pathlib import Path

    from headprobe.commands.merge import merge as work
    from headprobe.progress import SilentProgress

    if isinstance(shards, str | os.PathLike):
        shards = [shards]
    return work(
        [Path(each) for each in shards],
        None if out is None else Path(out),
        overwrite,
        SilentProgress() if progress is None else progress,
    )


def load(run: str | os.PathLike[str]) -> Run:
    """The run in a folder, without the model; HeadprobeError where there is none."""
    from pathlib import Path

    from headprobe.runs.folder import Run

    return Run.load(Path(run))


def judge(
    run: str | os.PathLike[str] | Run,
    rules: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Run:
    """Judge a run by other rules without its model; the same as ``headprobe judge``.

    ``run`` is replaced as a whole, its sums staying, or with ``out`` left as it is. Raises
    HeadprobeError where the user can mend it.
    """
    import os
    from pathlib import Path

    from headprobe.commands.judge import judge_run
    from headprobe.progress import SilentProgress

    return judge_run(
        load(run) if isinstance(run, str | os.PathLike) else run,
        None if rules is None else Path(rules),
        None if out is None else Path(out),
        overwrite,
        SilentProgress().warn,
    ).run
