"""``headprobe judge``: apply other rules to the sums of a run, without its model."""

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
    """The run that was written, and the heads whose role changed."""

    run: Run
    changes: tuple[Change, ...]


def judge_run(
    run: Run,
    rules_file: Path | None,
    out: Path | None,
    overwrite: bool,
    warn: Callable[[str], None],
) -> JudgeResult:
    """Judge the sums of ``run`` by the packaged rules with the changes of ``rules_file``.

    The results replace the old ones, all at once; other files in the folder stay. With ``out``,
    they become another run, which shares the sums. ``warn`` is called with each warning. Raises
    HeadprobeError for errors that the user can correct; nothing has changed then.
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
    controls = [_control(run, note) for note in manifest.controls]
    kv_heads = manifest.model.n_kv_heads
    judged = judge_sums(run.instances, run.tallies, kv_heads[0], rules)
    for warning in _warnings(run, rules):  # after all that is read, which may be damaged
        warn(warning)
    with new_run(target, overwrite or out is None, keep_foreign=out is None) as folder:
        write_judged(folder, judged, skipped, kv_heads, rules)
        notes = write_controls(folder, controls, kv_heads[0], rules)
        seconds = {**manifest.seconds, "judge": round(time.perf_counter() - clock, 3)}
        write_manifest(
            folder,
            replace(manifest, rules_sha256=rules.sha256, controls=notes, seconds=seconds),
        )
        link_files(run.path, folder, OWN if out is None else _SUMS)
    written = Run.load(run.path if out is None else out)
    return JudgeResult(
        written,
        tuple(
            Change(row.text("name"), was, row.text("role"), row.text("reason"))
            for row in written.rows(run_folder.HEADS)
            if (was := before.get(row.text("name"), "")) != row.text("role")
        ),
    )


def _check_method(run: Run) -> None:
    version = run.manifest.method_version
    if version != METHOD_VERSION:
        raise HeadprobeError(
            str(run.path),
            f"measured by version {version} of the method, but this headprobe uses version "
            f"{METHOD_VERSION}",
            "Scan again",
        )


def _target(run: Run, out: Path | None, overwrite: bool) -> Path:
    """Return the folder to write; HeadprobeError where it cannot be written."""
    here = run.path.resolve()
    if out is not None:
        if out.resolve() == here:
            raise HeadprobeError(
                str(out), "is the run itself", "To replace the verdicts of the run, omit -o"
            )
        check_target(out, overwrite)
        return out
    check_target(here, overwrite=True, keep_foreign=True)
    return here


def _warnings(run: Run, rules: Rules) -> list[str]:
    """Warn of rules that act while measuring only, of roles that no head can earn, and of text that
    the model does not know."""
    fixed, new = run.manifest.measured_with, measuring_rules(rules)
    warnings = [
        f"{name}: the scan measured with {fixed[name]:g}; judging again does not change that"
        for name in new
        if name in fixed and fixed[name] != new[name]
    ]
    warning = text_warning(run.manifest.bits_per_character, rules)
    warnings += role_warnings(run.instances.judged_relations, rules)
    return warnings + ([] if warning is None else [warning])


def _control(run: Run, note: ControlNote) -> ControlSums:
    instances = run.instances
    if note.control == "shuffled":
        instances = shuffle_links(instances, note.seed)
    sums = run.sums(CONTROL_SUMS[note.control], instances)
    return ControlSums(note.control, note.seed, note.key, note.taken_from, instances, sums)
