"""Everything that a run folder holds, written in one place."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from headprobe.evidence.conduct import Conduct
from headprobe.evidence.evidence import Evidence, Shape
from headprobe.evidence.power import Power
from headprobe.report import frames
from headprobe.report.csv_files import write_csv
from headprobe.report.examples import write_examples
from headprobe.store import run_folder
from headprobe.store.instances import Instances
from headprobe.store.manifest import Manifest
from headprobe.store.skipped import Skipped
from headprobe.store.tallies import Tallies
from headprobe.verdicts.verdict import Pair, Verdict


def write_sums(folder: Path, instances: Instances, tallies: Tallies) -> None:
    """What the model is needed for: ``tallies.npz`` and ``instances.npz``."""
    tallies.save(folder / run_folder.TALLIES)
    instances.save(folder / run_folder.INSTANCES)


def write_results(
    folder: Path,
    instances: Instances,
    tallies: Tallies,
    evidence: Evidence,
    power: Power,
    shape: Shape,
    conduct: Conduct,
    verdicts: Sequence[Verdict],
    pairs: Iterable[Pair],
    skipped: Iterable[Skipped],
    n_kv_heads: Sequence[int],
) -> None:
    """What follows from the sums: the tables and the examples."""
    heads = frames.heads(evidence, shape, conduct, verdicts, n_kv_heads)
    write_csv(heads, folder / run_folder.HEADS)
    write_csv(frames.relations(evidence, verdicts), folder / run_folder.RELATIONS)
    write_csv(frames.domains(evidence, verdicts), folder / run_folder.DOMAINS)
    write_csv(frames.power(evidence, power), folder / run_folder.POWER)
    write_csv(frames.pairs(pairs), folder / run_folder.PAIRS)
    write_csv(frames.skipped(skipped), folder / run_folder.SKIPPED)
    write_examples(folder / run_folder.EXAMPLES, instances, tallies, conduct, verdicts)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """``manifest.json``, last: it makes a folder a run."""
    manifest.save(folder / run_folder.MANIFEST)
