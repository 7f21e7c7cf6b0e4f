"""``headprobe judge``: other rules for a run that is measured, without its model."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from headprobe.analysis.shuffled_links import shuffle_links
from headprobe.commands.judging import (
    ControlSums,
    judge_sums,
    measuring_rules,
    role_warnings,
    text_warning,
    write_controls,
    write_judged,
)
from headprobe.errors import HeadprobeError
from headprobe.results.tables import write_manifest
from headprobe.results.views import Change
from headprobe.roles.rules import Rules, load_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import CONTROL_SUMS, OWN, Run, check_target, link_files, new_run
from headprobe.runs.manifest import METHOD_VERSION, ControlNote
from headprobe.vocabulary import Skipped

_SUMS = (run_folder.TALLIES, run_folder.INSTANCES, *CONTROL_SUMS.values())


@dataclass(frozen=True)
class JudgeResult:
    """The run as it is now, and what changed in it."""

    run: Run
    changes: tuple[Change, ...]


def judge_run(
    run: Run,
    rules_file: Path | None,
    out: Path | None,
    overwrite: bool,
    warn: Callable[[str], None],
) -> JudgeResult:
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
    for warning in _warnings(run, rules):
        warn(warning)
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
        link_files(run.path, folder, OWN if out is None else _SUMS)
    done = Run.load(run.path if out is None else out)
    return JudgeResult(
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


def _warnings(run: Run, rules: Rules) -> list[str]:
    """What these rules cannot change, and what they say of the text."""
    fixed, asked = run.manifest.measured_with, measuring_rules(rules)
    warnings = [
        f"{name}: {fixed[name]:g} was used while measuring and stays there, whatever the rules say"
        for name in asked
        if name in fixed and fixed[name] != asked[name]
    ]
    bits = run.manifest.bits_per_character
    warning = None if bits is None else text_warning(bits.value, rules)
    warnings += role_warnings(run.instances.judged_relations, rules)
    return warnings + ([] if warning is None else [warning])


def _control(run: Run, note: ControlNote) -> ControlSums:
    instances = run.instances
    if note.control == "shuffled":
        instances = shuffle_links(instances, note.seed)
    sums = run.sums(CONTROL_SUMS[note.control])
    return ControlSums(note.control, note.seed, note.key, note.taken_from, instances, sums)
