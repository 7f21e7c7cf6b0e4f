"""`python -m headprobe.demo.grammar [--out configs] [--report]`: write the sets, or count them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from headprobe.demo.grammar.build import all_files
from headprobe.demo.grammar.report import cues, load, rows, table
from headprobe.demo.grammar.rivals import (
    balance,
    balance_table,
    load_instances,
    rule_rates,
    rules_table,
)


def main() -> None:
    """Write every file under --out; with --report print the counts of what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("configs"))
    parser.add_argument("--report", action="store_true", help="count, write nothing")
    options = parser.parse_args()
    probes = options.out / "probes"
    if not options.report:
        for name, text in all_files().items():
            path = options.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return
    paths = sorted(probes.glob("*.conllu"))
    documents = load(paths)
    sentences = sum(len(d.texts) for d in documents)
    words = sum(len(d.words) for d in documents)
    sys.stdout.write(f"{len(documents)} documents, {sentences} sentences, {words} words\n")
    sys.stdout.write(f"cue of pronouns with a rival: {dict(cues(documents))}\n\n")
    sys.stdout.write(table(rows(documents)) + "\n\n")
    sys.stdout.write("how often simple rules find an antecedent of another form\n")
    sys.stdout.write(rules_table(rule_rates(load_instances(paths))) + "\n\n")
    sys.stdout.write("third-person pronouns by their antecedent\n")
    sys.stdout.write(balance_table(balance(documents)) + "\n")


if __name__ == "__main__":
    main()
