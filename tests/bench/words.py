"""Judge the sums in a folder, in a separate process (``tests.bench.beside --words``).

Prints a JSON object: the seconds of each step (wall and processor time), and the peak MiB beyond
the sums and instances.
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
    """Return the peak memory in MiB; ``ru_maxrss`` would include that of the parent process."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(folder: Path) -> None:
    rules = load_rules()
    instances, sums = Instances.load(folder / "instances.npz"), Tallies.load(folder / "tallies.npz")
    heads, before = sums["sink"].shape[1], peak()
    fit_time, preferences = timed(lambda: fit_preferences(instances, sums))
    baseline_time, baseline_sums = timed(lambda: compute_baselines(instances, sums, preferences))
    behaviour_time, behaviour = timed(
        lambda: behaviour_evidence(
            instances,
            sums,
            preferences,
            confidence=rules.confidence,
            min_kept=rules.positional.min_kept,
            min_attention=rules.unnamed.min_attention,
            recheck=(rules.unnamed.agreement, rules.unnamed.moved),
        )
    )

    def decide() -> None:
        evidence = compare_with_baselines(instances, sums, baseline_sums, rules)
        statistics = head_statistics(instances, sums, rules.confidence)
        verdicts, _ = judge(evidence, statistics, behaviour, sums, heads, rules)
        write_examples(folder / "examples.jsonl", instances, sums, behaviour, verdicts)

    judging_time, _ = timed(decide)
    times_of_steps = {
        "preferences": fit_time,
        "baselines": baseline_time,
        "behaviour": behaviour_time,
        "the rest": judging_time,
    }
    seconds = {name: times.tolist() for name, times in times_of_steps.items()}
    print(json.dumps({"seconds": seconds, "mib": peak() - before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
