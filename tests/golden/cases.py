"""The cases. Each is a function that runs commands and keeps run folders."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.golden.compare import differences
from tests.golden.models import save_tiny
from tests.golden.recorder import FIXED, REPOSITORY, Recorder, Recording
from tests.helpers.once import once

TINY = str(REPOSITORY / "tests" / "data" / "tiny.conllu")
EXAMPLES = REPOSITORY / "configs" / "examples"
PROBES = ("-p", TINY, "-p", "natural")
DEMO_PASSAGES = "300"
"""A third of the bundled sets."""

OTHER_RULES = """\
# Stricter than the packaged rules in some points, more lenient in others.
margin: 0.05
min_n: 100
max_q: 0.01
min_form_folds: 5
"""

TEXT = """\
The old dog saw a grey cat in the garden. It ran after the cat, but the cat was too quick.

"Come back!" cried the girl. Because the dog was tired, it lay down under the big tree, and the
girl, who had seen all of it, laughed.
"""

KILLED = """
import os, signal, threading, time
from pathlib import Path

# a clock that runs a million times as fast: what is kept once a minute is kept after a chunk
clock = time.monotonic
time.monotonic = lambda: clock() * 1e6

def kill():
    while not any(Path().glob(".*unfinished/*.npz")):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill, daemon=True).start()
from headprobe.cli.main import main
main()
"""


def llama(case: Recorder) -> None:
    """A toy Llama with grouped queries."""
    save_tiny(case.folder / "model", "llama")
    case.headprobe("scan", "model", *PROBES, *FIXED, "-o", "run")
    case.keep("run")


def gpt_oss(case: Recorder) -> None:
    """Learned sinks, a sliding window and experts."""
    save_tiny(case.folder / "model", "gpt_oss")
    case.headprobe("scan", "model", *PROBES, *FIXED, "-o", "run")
    case.keep("run")


def demo(case: Recorder) -> None:
    """The bundled model on a sample of the bundled sets, with both controls."""
    sample = ("--max-passages", DEMO_PASSAGES)
    case.headprobe("scan", "--twin", "--shuffle", *sample, *FIXED, "-o", "run")
    case.keep("run")


def judge(case: Recorder) -> None:
    """The demo's run, judged by other rules."""
    shutil.copytree(case.prepared("demo") / "run", case.folder / "run")
    (case.folder / "rules.yaml").write_text(OTHER_RULES, "utf-8")
    case.headprobe("judge", "run", "--rules", "rules.yaml", "-o", "judged")
    case.keep("judged")


def show_head(case: Recorder) -> None:
    """One head of the demo: for people, for machines, and on a text of one's own."""
    shutil.copytree(case.prepared("demo") / "run", case.folder / "run")
    text = "The animal didn't cross the street because it was too tired."
    case.headprobe("show-head", "L2H7", "-r", "run")
    case.headprobe("show-head", "L2H7", "-r", "run", "--json")
    case.headprobe("show-head", "L2H7", "-r", "run", "--text", text)
    case.headprobe("show-head", "L9H9", "-r", "run", code=2)


def shards(case: Recorder) -> None:
    """Three shards, merged: equal to the unsharded run."""
    shutil.copytree(case.prepared("llama") / "model", case.folder / "model")
    for number in (2, 3, 1):
        words = ("scan", "model", *PROBES, *FIXED, "-o", "run", "--shard", f"{number}/3")
        case.headprobe(*words)
    case.headprobe("merge", "run")
    case.keep("run")
    assert_same_run(case, "llama", {"manifest.json": "how many shards there were"})


def resumed(case: Recorder) -> None:
    """Killed while it measures, then resumed: equal to the run that was not killed."""
    shutil.copytree(case.prepared("llama") / "model", case.folder / "model")
    words = ("scan", "model", *PROBES, *FIXED, "-o", "run")
    case.program(KILLED, words, code=-9)
    assert not (case.folder / "run").exists()
    case.headprobe("scan", "--resume", "run")
    case.keep("run")
    assert_same_run(case, "llama", {"manifest.json": "how often it was resumed"})


def yaml_probe(case: Recorder) -> None:
    """A relation of one's own, and the rules that give it a role."""
    rules = ("--rules", str(EXAMPLES / "negation-rules.yaml"))
    case.headprobe("scan", "-p", str(EXAMPLES / "negation.yaml"), *rules, *FIXED, "-o", "run")
    case.keep("run")


def plain_text(case: Recorder) -> None:
    """Text without annotations."""
    (case.folder / "plain.txt").write_text(TEXT, "utf-8")
    case.headprobe("scan", "-p", "plain.txt", *FIXED, "-o", "run")
    case.keep("run")


def texts(case: Recorder) -> None:
    """Commands that measure nothing."""
    case.headprobe("--help")
    for command in ("scan", "judge", "merge", "show-head", "export", "runs", "selftest", "probes"):
        case.headprobe(command, "--help")
    case.headprobe("probes")
    case.headprobe("probes", "marks")
    case.headprobe("probes", "show", "story", "-n", "1")
    case.headprobe("scan", "--dry-run", *FIXED, "-o", "run")
    case.headprobe("scan", "nowhere", code=2)
    case.headprobe("scna", code=2)


CASES: Mapping[str, Callable[[Recorder], None]] = {
    "llama": llama,
    "gpt-oss": gpt_oss,
    "demo": demo,
    "judge": judge,
    "show-head": show_head,
    "shards": shards,
    "resumed": resumed,
    "yaml-probe": yaml_probe,
    "plain-text": plain_text,
    "texts": texts,
}


def record(name: str, root: Path) -> Path:
    """The folder of a case under ``root``, with its runs and its recording; made once."""

    def make(folder: Path) -> None:
        recorder = Recorder(folder, lambda other: record(other, root))
        CASES[name](recorder)
        recorder.recording.save(folder)

    return once(root / name, make)


def assert_same_run(case: Recorder, other: str, apart: Mapping[str, str]) -> None:
    """The run is that of another case: integers and texts exactly, sums up to their order.

    ``apart``: files that differ, and in what.
    """
    theirs = Recording.load(case.prepared(other)).numbers["run"]
    found = differences(theirs, case.recording.numbers["run"], exact=True)
    found = [line for line in found if line.split()[0].rstrip(":") not in apart]
    assert not found, "\n".join(found)
