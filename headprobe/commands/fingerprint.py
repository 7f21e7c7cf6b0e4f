"""The fingerprint of a scan: everything that its sums depend on, by name."""

import hashlib

import torch

from headprobe.commands.controls import config_text, hash_corpus
from headprobe.commands.prepare import PreparedScan, ProbeCorpus
from headprobe.commands.provenance import versions
from headprobe.config import ScanConfig
from headprobe.model.load import CheckpointSource
from headprobe.probes.catalog import find_probe_files
from headprobe.roles.rules import Rules
from headprobe.runs.fingerprint import Fingerprint
from headprobe.runs.manifest import METHOD_VERSION

WEIGHTS = "the weights"
"""The name of the hash of the weights, which is known only when they are loaded."""


def early_fingerprint(config: ScanConfig, source: CheckpointSource, rules: Rules) -> Fingerprint:
    """Return what a resumed scan must share before any code of the model is executed.

    Besides values of ``scan_fingerprint`` it has the files of the checkpoint that could be
    executed, and the number of threads: another number adds sums in another order, which changes
    their last digits.
    """
    probes = find_probe_files(config.probes)
    return Fingerprint(
        {
            **{f"the probes {probe.name}": probe.sha256 for probe in probes},
            "the number of probe files": str(len(probes)),
            "the rules": rules.sha256,
            **software(),
            "the files of the checkpoint": _hash_code(source),
            "the number of threads (OMP_NUM_THREADS)": str(torch.get_num_threads()),
        }
    )


def scan_fingerprint(prepared: PreparedScan, rules: Rules, config: ScanConfig) -> Fingerprint:
    """Return the fingerprint of a scan without ``WEIGHTS``."""
    probes = prepared.probes
    configuration = config_text(prepared.config).encode()
    return Fingerprint(
        {
            "the model's configuration": hashlib.sha256(configuration).hexdigest(),
            **{f"the probes {probe.name}": probe.sha256 for probe in probes.files},
            "the number of probe files": str(len(probes.files)),
            "the device": prepared.device.type,
            "the dtype": str(prepared.dtype).removeprefix("torch."),
            "the rules": rules.sha256,
            **config.fingerprint_values(),
            "the version of the annotator": _annotator_version(probes),
            **software(),
            "the tokens": hash_corpus(probes.corpus),
        }
    )


def _annotator_version(probes: ProbeCorpus) -> str:
    note = probes.annotator
    return "" if note is None else f"{note.tool} {note.version}, {note.model} {note.model_version}"


def software() -> dict[str, str]:
    """Return the versions of the software and of the method."""
    return {
        **{f"the version of {name}": version for name, version in versions().items()},
        "the version of the method": str(METHOD_VERSION),
    }


def _hash_code(source: CheckpointSource) -> str:
    """Hash a folder's configuration and Python files. A revision of the Hub does not change."""
    if source.folder is None:
        return f"revision {source.revision}"
    digest = hashlib.sha256()
    for path in sorted((source.folder / "config.json", *source.folder.rglob("*.py"))):
        if path.is_file():
            name = str(path.relative_to(source.folder)).encode()
            digest.update(name + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
