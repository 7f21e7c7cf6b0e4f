"""What sums depend on, by name: two pieces of work add, or go on, where all of it is the same."""

import hashlib

import torch

from headprobe.commands.controls import config_text, hash_corpus
from headprobe.commands.prepare import PreparedScan
from headprobe.commands.provenance import versions
from headprobe.config import ScanConfig
from headprobe.model.load import CheckpointSource
from headprobe.probes.catalog import find_probe_files
from headprobe.roles.rules import Rules
from headprobe.runs.manifest import METHOD_VERSION

WEIGHTS = "the weights"


def early_terms(config: ScanConfig, rules: Rules) -> dict[str, str]:
    """What a scan that is resumed must share before anything of the model is executed. Unlike
    ``fingerprint_of`` it holds the files of the checkpoint that could be executed, and the number
    of threads: by another number sums are added in another order, and their last digits differ."""
    probes = find_probe_files(config.probes)
    return {
        **{f"the probes {probe.name}": probe.sha256 for probe in probes},
        "the number of probe files": str(len(probes)),
        "the rules": rules.sha256,
        **{f"the version of {name}": version for name, version in versions().items()},
        "the version of the method": str(METHOD_VERSION),
        "the files of the checkpoint": _digest_code(config.source),
        "the number of threads (OMP_NUM_THREADS)": str(torch.get_num_threads()),
    }


def _digest_code(source: CheckpointSource) -> str:
    """Of a folder's configuration and Python files. A revision of the Hub does not change."""
    if source.folder is None:
        return f"revision {source.revision}"
    digest = hashlib.sha256()
    for path in sorted((source.folder / "config.json", *source.folder.rglob("*.py"))):
        if path.is_file():
            name = str(path.relative_to(source.folder)).encode()
            digest.update(name + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def fingerprint_of(prepared: PreparedScan, rules: Rules, config: ScanConfig) -> dict[str, str]:
    """All but ``WEIGHTS``, which are known by their hash when they are loaded."""
    probes = prepared.probes
    return {
        "the model's configuration": _hash(config_text(prepared.config)),
        **{f"the probes {probe.name}": probe.sha256 for probe in probes.files},
        "the number of probe files": str(len(probes.files)),
        "the device": prepared.device.type,
        "the dtype": str(prepared.dtype).removeprefix("torch."),
        "the rules": rules.sha256,
        "the seed": str(config.seed),
        "the tokens of a passage": str(config.budget),
        "the most passages": str(config.max_passages),
        "the twin": str(config.twin),
        "the shuffled links": str(config.shuffle),
        **{f"the version of {name}": version for name, version in versions().items()},
        "the version of the method": str(METHOD_VERSION),
        "the tokens": hash_corpus(probes.corpus),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
