"""``headprobe judge``: other rules for a run that is measured, without its model."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from headprobe.analysis.shuffled_links import shuffle_links
from headprobe.commands.judging import (
    Control,
    doubt_of_text,
    doubts_of_roles,
    judge_sums,
    measured_with,
    write_controls,
    write_judged,
)
from headprobe.errors import HeadprobeError
from headprobe.results.tables import write_manifest
from headprobe.results.views import Change
from headprobe.roles.rules import Rules, load_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import CONTROL_SUMS, OWN, Run, carry_over, check_target, new_run
from headprobe.runs.manifest import METHOD_VERSION, ControlNote
from headprobe.vocabulary import Skipped

_SUMS = (run_folder.TALLIES, run_folder.INSTANCES, *CONTROL_SUMS.values())


@dataclass(frozen=True)
class Rejudged:
    """The run as it is now, and what changed in it."""

    run: Run
    changes: tuple[Change, ...]


def judge_run(
    run: Run,
    rules_file: Path | None,
    out: Path | None,
    overwrite: bool,
    warn: Callable[[str], None],
) -> Rejudged:
    """Judge the sums of ``run`` by the packaged rules and what ``rules_file`` changes.

    The results take the place of the old ones, all at once, everything else in the folder staying;
    with ``out`` they make another run, with the same sums. HeadprobeError for what a user can mend,
    in which case nothing has changed.
    """
    rules = load_rules(rules_file)
    manifest, clock = run.manifest, time.perf_counter()
    _check_method(run)
    target = _target(run, out, overwrite)
    before = {row.text("name"): row.text("role") for row in run.rows(run_folder.HEADS)}
    skipped = [
        Skipped(row.text("source"), row.text("what"), row.text("reason"), row.whole("count"))
        for row in run.rows(run_folder.SKIPPED)
    ]
    for doubt in _doubts(run, rules):
        warn(doubt)
    kv_heads = manifest.model.n_kv_heads
    judged = judge_sums(run.instances, run.tallies, kv_heads[0], rules)
    controls = [_control(run, note) for note in manifest.controls]
    with new_run(target, overwrite or out is None, keep_foreign=out is None) as folder:
        write_judged(folder, judged, skipped, kv_heads, rules)
        notes = write_controls(folder, controls, kv_heads[0], rules)
        seconds = {**manifest.seconds, "judge": round(time.perf_counter() - clock, 3)}
        write_manifest(
            folder,
            replace(manifest, rules_sha256=rules.sha256, controls=notes, seconds=seconds),
        )
        carry_over(run.path, folder, OWN if out is None else _SUMS)
    done = Run.load(run.path if out is None else out)
    return Rejudged(
        done,
        tuple(
            Change(row.text("name"), was, row.text("role"), row.text("reason"))
            for row in done.rows(run_folder.HEADS)
            if (was := before.get(row.text("name"), "")) != row.text("role")
        ),
    )


def _check_method(run: Run) -> None:
    version = run.manifest.method_version
    if version != METHOD_VERSION:
        raise HeadprobeError(
            str(run.path),
            f"measured by version {version} of the method, and this headprobe judges by "
            f"{METHOD_VERSION}",
            "Scan again",
        )


def _target(run: Run, out: Path | None, overwrite: bool) -> Path:
    here = run.path.resolve()
    if out is not None:
        if out.resolve() == here:
            raise HeadprobeError(
                str(out), "is the run itself", "Leave -o out to judge it where it is"
            )
        check_target(out, overwrite)
        return out
    check_target(here, overwrite=True, keep_foreign=True)
    return here


def _doubts(run: Run, rules: Rules) -> list[str]:
    """What these rules cannot change, and what they say of the text."""
    fixed, asked = run.manifest.measured_with, measured_with(rules)
    doubts = [
        f"{name}: {fixed[name]:g} was used while measuring and stays there, whatever the rules say"
        for name in asked
        if name in fixed and fixed[name] != asked[name]
    ]
    bits = run.manifest.bits_per_character
    doubt = None if bits is None else doubt_of_text(bits.value, rules)
    doubts += doubts_of_roles(run.instances.relations, rules)
    return doubts + ([] if doubt is None else [doubt])


def _control(run: Run, note: ControlNote) -> Control:
    instances = run.instances
    if note.control == "shuffled":
        instances = shuffle_links(instances, note.seed)
    sums = run.sums(CONTROL_SUMS[note.control])
    return Control(note.control, note.seed, note.key, note.taken_from, instances, sums)
