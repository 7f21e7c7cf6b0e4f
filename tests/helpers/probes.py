"""The probe file of most tests."""

from pathlib import Path

PROBES = Path(__file__).parents[1] / "data" / "tiny.conllu"
"""Two short documents with trees, mentions and marks."""
