"""``headprobe merge``: combine the shards of a scan into its run, without the model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from headprobe import __version__
from headprobe.analysis.shuffled_links import shuffle_links
from headprobe.commands.judging import ControlSums, RunSums, write_run
from headprobe.errors import HeadprobeError
from headprobe.progress import Progress
from headprobe.roles.rules import load_rules
from headprobe.runs.checkpoint import Clock, find_checkpoints
from headprobe.runs.fingerprint import Fingerprint
from headprobe.runs.folder import CONTROL_SUMS, RULES, TALLIES, TOKENS, Run, check_target
from headprobe.runs.instances import Instances
from headprobe.runs.manifest import ControlName, Manifest, WorkNote
from headprobe.runs.shards import Shard, find_shards
from headprobe.runs.sums import Tallies


def merge(paths: Sequence[Path], out: Path | None, overwrite: bool, progress: Progress) -> Run:
    """Add the sums of all shards of a scan and write its run.

    ``paths`` are folders of shards, or the run, which stands for the shards in the same folder.
    Raises HeadprobeError if a shard is missing or named twice, or was measured in another way.
    """
    if not paths:
        raise HeadprobeError("merge", "no shards are named", "Name their run, or their folders")
    shards = sorted(
        (Shard.load(path) for each in paths for path in _folders(each)),
        key=lambda shard: shard.index,
    )
    _check(shards)
    first = shards[0]
    target = out or first.run
    if target is None:
        raise HeadprobeError(str(first.path), "does not name its run", "Name it: --out RUN")
    if target.resolve() in {shard.path.resolve() for shard in shards}:
        raise HeadprobeError(str(target), "is one of the shards", "Name another folder with -o")
    check_target(target, overwrite)
    rules = load_rules(first.path / RULES)
    clock = Clock(_seconds(shards))
    progress.stage("adding", len(shards), "shards")
    instances = first.instances()
    tallies = _sum(shards, TALLIES, instances, progress)
    tokens = first.tokens()
    if len(tokens) != tallies["column_token"].shape[-1]:
        what = f"names {len(tokens)} tokens, and the sums are of another number"
        raise HeadprobeError(str(first.path / TOKENS), what, "Scan this shard again")
    kv_heads = first.draft.model.n_kv_heads
    sums = RunSums(
        instances,
        tallies,
        [
            _control(shards, name, instances, progress)
            for name in get_args(ControlName)
            if name in first.controls
        ],
        first.skipped,
        kv_heads,
        tokens.__getitem__,
    )

    def draft() -> Manifest:
        return replace(_common(shards), seconds=clock.seconds)

    return write_run(target, overwrite, sums, rules, draft, progress, clock)


def _control(
    shards: Sequence[Shard], name: ControlName, instances: Instances, progress: Progress
) -> ControlSums:
    """Add the sums of a control. Shuffled links have another number of instances than the run."""
    draft, key = shards[0].draft, shards[0].controls[name]
    measured = shuffle_links(instances, draft.seed) if name == "shuffled" else instances
    tallies = _sum(shards, CONTROL_SUMS[name], measured, progress)
    return ControlSums(name, draft.seed, key, None, measured, tallies)


_LISTED = 8
"""The most missing shards that a message names."""


def _folders(path: Path) -> list[Path]:
    shards = find_shards(path)
    if not shards and not path.is_dir():
        raise HeadprobeError(
            str(path), "has no shards", "Make them: headprobe scan --shard 1/8 --out RUN"
        )
    return shards or [path]


def _check(shards: Sequence[Shard]) -> None:
    first = shards[0]
    fingerprint = Fingerprint(first.terms)
    for shard in shards:
        version = shard.draft.versions.get("headprobe")
        if version != __version__:
            raise HeadprobeError(
                str(shard.path),
                f"was scanned by headprobe {version}, and this is {__version__}",
                f"Merge the shards with headprobe {version}, or scan them again",
            )
    for shard in shards[1:]:
        if shard.controls.keys() != first.controls.keys():
            what = f"has other controls than {first.path}"
            raise HeadprobeError(str(shard.path), what, "Scan all shards in the same way")
        if shard.count != first.count:
            what = f"is one of {shard.count} shards, {first.path} one of {first.count}"
            raise HeadprobeError(str(shard.path), what, "Name the shards of one scan")
        if differs := fingerprint.first_difference(Fingerprint(shard.terms)):
            what = f"differs from {first.path} in {differs}"
            raise HeadprobeError(str(shard.path), what, "Scan all shards in the same way")
    number, times = Counter(shard.index for shard in shards).most_common(1)[0]
    if times > 1:
        paths = " and ".join(str(shard.path) for shard in shards if shard.index == number)
        raise HeadprobeError(paths, f"are both shard {number + 1}", "Name each shard once")
    missing = sorted(set(range(first.count)) - {shard.index for shard in shards})
    if missing:
        raise _missing_shards(first, missing)


def _missing_shards(first: Shard, missing: Sequence[int]) -> HeadprobeError:
    run = first.run or first.path
    partial = [
        target
        for index in missing
        for target in [Shard.target(run, index, first.count)]
        if find_checkpoints(target.absolute().parent, target.name)
    ]
    remedy = (
        f"Make them with headprobe scan --shard {missing[0] + 1}/{first.count} and the options "
        "of the others"
    )
    if partial:
        remedy = f"Resume it with headprobe scan --resume {partial[0]}"
    names = ", ".join(f"{index + 1}/{first.count}" for index in missing[:_LISTED])
    if len(missing) > _LISTED:
        names += f" and {len(missing) - _LISTED} more"
    what = f"shard {names} is missing" if len(missing) == 1 else f"shards {names} are missing"
    return HeadprobeError(str(run), what, remedy)


def _sum(shards: Sequence[Shard], name: str, instances: Instances, progress: Progress) -> Tallies:
    total = shards[0].sums(name, instances)
    for shard in shards[1:]:
        sums = shard.sums(name, instances)
        try:
            total = total + sums
        except ValueError as error:
            what = f"does not add to the sums of {shards[0].path} ({error})"
            raise HeadprobeError(str(shard.path / name), what, "Scan this shard again") from None
        progress.advance(name == TALLIES)
    return total


def _seconds(shards: Sequence[Shard]) -> dict[str, float]:
    """Seconds by stage, added over all shards."""
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard.draft.seconds)
    return {stage: round(seconds, 3) for stage, seconds in total.items()}


def _common(shards: Sequence[Shard]) -> Manifest:
    drafts = [shard.draft for shard in shards]
    peaks = [draft.peak_memory_mib for draft in drafts if draft.peak_memory_mib is not None]
    return replace(
        drafts[0],
        started=min(draft.started for draft in drafts),
        peak_memory_mib=max(peaks, default=None),
        work=WorkNote(
            shards=len(drafts),
            ranks=max(draft.work.ranks for draft in drafts),
            resumed=sum(draft.work.resumed for draft in drafts),
        ),
    )
