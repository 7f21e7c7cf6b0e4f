"""Judges the sums in a folder, in a process of its own (``tests.bench.beside``).

Prints a JSON object: seconds of each step (wall, processor), and the MiB that they took at most
over the sums and instances.
"""

import json
import sys
from pathlib import Path

from headprobe.analysis.behaviour import behaviour_evidence, head_statistics
from headprobe.analysis.gains import compare_with_baselines, compute_baselines
from headprobe.analysis.pos_control import fit_preferences
from headprobe.results.examples import write_examples
from headprobe.roles.roles import judge
from headprobe.roles.rules import load_rules
from headprobe.runs.instances import Instances
from headprobe.runs.sums import Tallies
from tests.bench.timing import timed


def peak() -> float:
    """MiB; ``ru_maxrss`` would count the parent's, too."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(folder: Path) -> None:
    rules = load_rules()
    asked, sums = Instances.load(folder / "instances.npz"), Tallies.load(folder / "tallies.npz")
    heads, before = sums["sink"].shape[1], peak()
    fitting, fitted = timed(lambda: fit_preferences(asked, sums))
    basing, footing = timed(lambda: compute_baselines(asked, sums, fitted))
    watching, conducted = timed(
        lambda: behaviour_evidence(
            asked,
            sums,
            fitted,
            confidence=rules.confidence,
            min_kept=rules.positional.min_kept,
            min_attention=rules.unnamed.min_attention,
            recheck=(rules.unnamed.agreement, rules.unnamed.moved),
        )
    )

    def decide() -> None:
        evidence = compare_with_baselines(asked, sums, footing, rules)
        statistics = head_statistics(asked, sums, rules.confidence)
        verdicts, _ = judge(evidence, statistics, conducted, sums, heads, rules)
        write_examples(folder / "examples.jsonl", asked, sums, conducted, verdicts)

    deciding, _ = timed(decide)
    found = {"tastes": fitting, "baselines": basing, "conduct": watching, "the rest": deciding}
    seconds = {name: times.tolist() for name, times in found.items()}
    print(json.dumps({"seconds": seconds, "mib": peak() - before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
