"""What sums depend on, by name: two pieces of work add, or go on, where all of it is the same."""

import hashlib

from headprobe.store.manifest import METHOD_VERSION
from headprobe.verdicts.rules import Rules
from headprobe.workflows.controls import describe_configuration, digest_corpus
from headprobe.workflows.found import Found
from headprobe.workflows.provenance import versions
from headprobe.workflows.request import ScanRequest

WEIGHTS = "the weights"


def terms_of(found: Found, rules: Rules, request: ScanRequest) -> dict[str, str]:
    """All but ``WEIGHTS``, which are known by their hash when they are loaded."""
    reading = found.reading
    return {
        "the model's configuration": _hash(describe_configuration(found.config)),
        **{f"the probes {probe.name}": probe.sha256 for probe in reading.probes},
        "the number of probe files": str(len(reading.probes)),
        "the device": found.device.type,
        "the dtype": str(found.dtype).removeprefix("torch."),
        "the rules": rules.sha256,
        "the seed": str(request.seed),
        "the tokens of a passage": str(request.budget),
        "the most passages": str(request.max_passages),
        "the twin": str(request.twin),
        "the shuffled links": str(request.shuffle),
        **{f"the version of {name}": version for name, version in versions().items()},
        "the version of the method": str(METHOD_VERSION),
        "the tokens": digest_corpus(reading.corpus),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
