"""The steps of a scan besides the passes of the model, at the size of an 8B model's run.

``python -m tests.bench.beside`` prints seconds (and MB) with their targets, as a table and as JSON
lines. Sums are random, for 32 layers of 32 heads of 128 dimensions, 80 relations and 5 domains.
What is computed from the instances (baselines, preferences, habits) is done for one layer,
repeated, and not counted.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from headprobe.analysis.behaviour import behaviour_evidence, head_statistics
from headprobe.analysis.gains import BaselineHits, compare_with_baselines, compute_baselines
from headprobe.analysis.intervals import find_power
from headprobe.analysis.pos_control import fit_preferences
from headprobe.commands.prepare import read_corpus
from headprobe.model.load import CheckpointSource, load_encoder
from headprobe.probes.catalog import find_probe_files
from headprobe.progress import SilentProgress
from headprobe.results.tables import write_manifest, write_results, write_sums
from headprobe.roles.roles import judge
from headprobe.roles.rules import load_rules
from headprobe.runs.folder import MANIFEST, new_run
from headprobe.runs.manifest import Manifest
from tests.bench.large import (
    HEADS,
    LAYERS,
    RELATIONS,
    instances,
    many_words,
    some_heads,
    tallies,
    with_relations,
)
from tests.bench.timing import Seconds, timed
from tests.helpers.synthetic import manifest

SENTENCES = 12_544
"""Those of UD English EWT train."""

FEW = 4
"""Heads that are judged on many words."""

Measured = Iterator[tuple[str, Seconds | float, float | None]]
"""What, how much, and the target."""


def reading(treebanks: list[str], folder: Path) -> Measured:
    """Reading, cutting and aligning: the sentences given, repeated where they are fewer."""
    text = "\n\n".join(file.path.read_text("utf-8").strip() for file in find_probe_files(treebanks))
    sentences = text.split("\n\n")
    many = (sentences * (SENTENCES // len(sentences) + 1))[:SENTENCES]
    (folder / "many.conllu").write_text("\n\n".join(many) + "\n", "utf-8")
    encoder, files = (
        load_encoder(CheckpointSource.demo()),
        find_probe_files([str(folder / "many.conllu")]),
    )

    def read() -> object:
        return read_corpus(
            files,
            encoder,
            context=512,
            budget=None,
            max_passages=None,
            seed=0,
            progress=SilentProgress(),
        )

    yield f"s to read and align {SENTENCES:,} sentences", timed(read)[0], 5.0


def judging(run: Path) -> Measured:
    """Judging and writing the run folder."""
    rules, asked = load_rules(), instances()
    sums = tallies(asked)
    by_fold = [sums[name].nbytes for name in sums.arrays if "F" in name or "_by_" in name]
    yield "MB of sums by fold", sum(by_fold) / 1e6, None
    yield "MB of sums and outputs by fold", (sum(by_fold) + sums["output_sum"].nbytes) / 1e6, 300
    yield "MB of all sums", sum(array.nbytes for array in sums.arrays.values()) / 1e6, None
    few = some_heads(sums, 1)
    preferences = fit_preferences(asked, few)
    baselines = repeated(compute_baselines(asked, few, preferences))
    behaviour = repeated(
        behaviour_evidence(
            asked,
            few,
            preferences,
            confidence=rules.confidence,
            min_kept=rules.positional.min_kept,
            min_attention=rules.unnamed.min_attention,
            recheck=(rules.unnamed.agreement, rules.unnamed.moved),
        )
    )

    def decide() -> tuple[Any, ...]:
        evidence = compare_with_baselines(asked, sums, baselines, rules)
        statistics = head_statistics(asked, sums, rules.confidence)
        return (
            evidence,
            statistics,
            *judge(evidence, statistics, behaviour, sums, HEADS // 4, rules),
        )

    judged, (evidence, shapes, verdicts, pairs) = timed(decide)
    note = manifest(LAYERS, HEADS, HEADS // 4)

    def write() -> None:
        with new_run(run) as folder, ThreadPoolExecutor(1) as beside:  # as a scan does
            saved = beside.submit(write_sums, folder, asked, sums)
            write_results(
                folder,
                asked,
                sums,
                evidence,
                find_power(evidence, rules),
                shapes,
                behaviour,
                verdicts,
                pairs,
                (),
                note.model.n_kv_heads,
            )
            saved.result()
            write_manifest(folder, note)

    written, _ = timed(write)
    yield "s to judge, without baselines", judged, None
    yield "s to write the run folder", written, None
    yield "s to judge and write", judged + written, 2.0
    yield "MB of the sums on disk", (run / "tallies.npz").stat().st_size / 1e6, None
    yield "MB of the tables on disk", sum(p.stat().st_size for p in run.glob("*.csv")) / 1e6, None


def words(count: int, folder: Path) -> Measured:
    """What judging takes that grows with the words, in a process of its own, for few heads."""
    asked = many_words(count)
    asked.save(folder / "instances.npz")
    tallies(asked, 1, FEW).save(folder / "tallies.npz")
    title = f"of {len(asked.form):,} words, {FEW} heads"
    yield from _judged_apart(folder, title, most_mib=1024)


def everything(count: int, layers: int, heads: int, folder: Path) -> Measured:
    """Judging with all heads and many words, 80 relations, in a process of its own."""
    asked = with_relations(many_words(count), RELATIONS)
    asked.save(folder / "instances.npz")
    tallies(asked, layers, heads).save(folder / "tallies.npz")
    title = f"of {len(asked.form):,} words, {layers * heads:,} heads, {RELATIONS} relations"
    yield f"MB of sums on disk {title}", (folder / "tallies.npz").stat().st_size / 1e6, 150
    yield from _judged_apart(folder, title, most_seconds=30, most_mib=1536)


def saved_run(run: Path) -> Measured:
    """Judging of a run that was scanned on this machine, beside the time its measuring took."""
    measured = Manifest.load(run / MANIFEST).seconds["measure"]
    yield from _judged_apart(run, f"of {run.name}", most_seconds=0.15 * measured)


def _judged_apart(
    folder: Path, title: str, most_seconds: float | None = None, most_mib: float | None = None
) -> Measured:
    program = [sys.executable, "-m", "tests.bench.words", str(folder)]
    found = json.loads(subprocess.run(program, check=True, stdout=subprocess.PIPE).stdout)
    total = np.sum(list(found["seconds"].values()), axis=0)
    for name, seconds in found["seconds"].items():
        yield f"s for {name} {title}", np.array(seconds), None
    yield f"s to judge {title}", total, most_seconds
    yield f"MiB over the sums {title}", found["mib"], most_mib


def repeated(found: Any) -> Any:
    """What was worked out for one layer, for all of them: the axes of layers and heads grow."""
    if isinstance(found, BaselineHits):

        def tiled(array: np.ndarray) -> np.ndarray:
            """The last axis, of heads or of their packed hits, as often as there are layers."""
            return np.tile(array, LAYERS)

        shares = ("expected", "share_norm", "share_by_document", "share_by_form")
        distance = {name: tiled(getattr(found.distance, name)) for name in shares}
        by_head = {name: tiled(hits) for name, hits in found.by_head.items()}
        return replace(
            found,
            by_head=by_head,
            category=tiled(found.category),
            distance=replace(found.distance, hits=by_head, **distance),
        )
    if is_dataclass(found):
        return replace(
            found, **{each.name: repeated(getattr(found, each.name)) for each in fields(found)}
        )
    if isinstance(found, np.ndarray) and found.shape[:2] == (1, HEADS):
        return np.repeat(found, LAYERS, axis=0)
    return found


def commands(run: Path) -> Measured:
    """The best of five starts of whole processes."""
    for words, target in (
        (["--help"], 0.25),
        (["--version"], 0.25),
        (["show-head", "L3H5", "-r", str(run)], 0.5),
        (["show-head", "L3H5", "-r", str(run), "--json"], 0.5),
    ):
        program = [sys.executable, "-m", "headprobe", *words]
        starts = [
            timed(lambda: subprocess.run(program, check=True, capture_output=True))[0]  # noqa: B023
            for _ in range(5)
        ]
        yield f"s for headprobe {' '.join(words[:2] + words[4:])}", np.min(starts, axis=0), target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.bench.beside")
    parser.add_argument("--treebank", action="append", default=[], help="[the bundled sets]")
    parser.add_argument("--words", type=int, default=0, help="judge so many too, on Linux [none]")
    parser.add_argument("--heads", type=int, default=0, help="with so many heads too [none]")
    parser.add_argument("--run", type=Path, action="append", default=[], help="judge it too")
    parser.add_argument("--only-judging", action="store_true", help="leave out all but these")
    parser.add_argument("--out", type=Path, default=Path("bench.jsonl"))
    asked = parser.parse_args()
    title = f"{platform.machine()}, 1,024 heads"
    table = Table("what", "found", "processor", "target", title=title)
    about = {"time": time.time(), "load": os.getloadavg()}
    with tempfile.TemporaryDirectory() as name:
        folder, run = Path(name), Path(name) / "run"
        parts: list[Measured] = []
        if not asked.only_judging:
            parts += [reading(asked.treebank, folder), judging(run), commands(run)]
        if asked.words and not asked.only_judging:
            parts.append(words(asked.words, folder))
        if asked.words and asked.heads:
            parts.append(everything(asked.words, asked.heads // HEADS, HEADS, folder))
        parts += [saved_run(each) for each in asked.run]
        for part in parts:
            for what, found, target in part:
                wall, *own = np.atleast_1d(found).tolist()
                cells = [f"{wall:.2f}", *(f"{seconds:.2f}" for seconds in own)]
                cells += [""] * (2 - len(cells))
                table.add_row(what, *cells, "" if target is None else f"{target:g}")
                with asked.out.open("a", encoding="utf-8") as file:
                    row = {"beside": what, "found": wall, "cpu": own, "target": target, **about}
                    file.write(json.dumps(row) + "\n")
    Console().print(table)


if __name__ == "__main__":
    main()
