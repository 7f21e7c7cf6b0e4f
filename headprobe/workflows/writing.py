"""All sums of a run, from a scan or from shards, to its folder; no model is needed for it."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from headprobe.errors import HeadprobeError
from headprobe.evidence.sinks import flagged_sinks
from headprobe.report.progress import Progress
from headprobe.report.run_files import write_manifest, write_sums
from headprobe.store.instances import Instances
from headprobe.store.manifest import BitsNote, Manifest
from headprobe.store.run_folder import (
    CONTROL_SUMS,
    INSTANCES,
    RULES,
    TALLIES,
    TOKENS,
    Run,
    new_run,
)
from headprobe.store.shard_folder import Shard
from headprobe.store.skipped import Skipped
from headprobe.store.tallies import Tallies
from headprobe.verdicts.rules import Rules
from headprobe.workflows.clock import Clock
from headprobe.workflows.judging import (
    Control,
    doubt_of_text,
    judge_sums,
    write_controls,
    write_judged,
)


@dataclass(frozen=True)
class Sums:
    """All that is judged, and ``token``, the name of a distinct token (K) of the tallies."""

    instances: Instances
    tallies: Tallies
    controls: Sequence[Control]
    skipped: Sequence[Skipped]
    n_kv_heads: Sequence[int]
    token: Callable[[int], str]

    @property
    def bits_per_character(self) -> float:
        """What the model needs for the scored passages' text."""
        return float(self.tallies["bits"]) / max(int(self.tallies["characters"]), 1)


def write_run(
    target: Path,
    overwrite: bool,
    sums: Sums,
    rules: Rules,
    draft: Callable[[], Manifest],
    progress: Progress,
    clock: Clock,
) -> Run:
    """Judge the sums and write the run folder whole, or not at all; ``draft`` gives the manifest
    without what the sums tell."""
    _check_finite(target, sums)
    if unknown := doubt_of_text(sums.bits_per_character, rules):
        progress.warn(unknown)
    kv_heads = sums.n_kv_heads[0]
    with clock("judge"):
        progress.stage("judging")
        judged = judge_sums(sums.instances, sums.tallies, kv_heads, rules)
    with new_run(target, overwrite) as folder:
        with ThreadPoolExecutor(1) as beside:  # sums wait for the disk, tables for the processor
            saved = [beside.submit(write_sums, folder, sums.instances, sums.tallies)]
            for control in sums.controls:
                path = folder / CONTROL_SUMS[control.name]
                saved.append(beside.submit(control.tallies.save, path))
            write_judged(folder, judged, sums.skipped, sums.n_kv_heads, rules)
            for each in saved:
                each.result()
        controls = write_controls(folder, sums.controls, kv_heads, rules)
        manifest = draft()
        scored = manifest.bits_per_character
        write_manifest(
            folder,
            replace(
                manifest,
                controls=controls,
                sinks_flagged=_describe_sinks(sums, rules),
                used=int(judged.evidence.n.sum()),
                bits_per_character=BitsNote(
                    sums.bits_per_character,
                    0 if scored is None else scored.passages,
                    int(sums.tallies["characters"]),
                ),
            ),
        )
    return Run.load(target)


def write_shard(shard: Shard, overwrite: bool, sums: Sums, rules: Rules) -> None:
    """Write the folder ``shard.path`` whole, or not at all."""
    _check_finite(shard.path, sums)
    with new_run(shard.path, overwrite) as folder:
        sums.tallies.save(folder / TALLIES)
        for control in sums.controls:
            control.tallies.save(folder / CONTROL_SUMS[control.name])
        rules.save(folder / RULES)
        if shard.index == 0:
            sums.instances.save(folder / INSTANCES)
            names = [sums.token(number) for number in range(sums.tallies["column_token"].shape[-1])]
            (folder / TOKENS).write_text(json.dumps(names), encoding="utf-8")
        shard.save(folder)


def _check_finite(target: Path, sums: Sums) -> None:
    for tallies in (sums.tallies, *(control.tallies for control in sums.controls)):
        if spoiled := tallies.first_spoiled():
            raise HeadprobeError(
                str(target),
                f"its sums hold what is not a number ({spoiled})",
                "Try --dtype float32",
            )


def _describe_sinks(sums: Sums, rules: Rules) -> tuple[str, ...]:
    said = []
    for sink in flagged_sinks(sums.tallies, rules.sinks.weight, rules.sinks.min_passages):
        key = f"position {sink.index} of the text"
        if sink.kind == "token":
            key = f"token {sums.token(sink.index)!r}"
        said.append(f"{key}: {sink.weight:.2f} of the attention in layer {sink.layer}")
    return tuple(said)
