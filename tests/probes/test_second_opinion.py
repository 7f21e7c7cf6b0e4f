"""Readers, makers and baselines against the generator's own plain reader, which shares no code."""

from pathlib import Path

import pytest

from headprobe.analysis.baselines import BASELINES, baseline_input
from headprobe.batching.corpus import align
from headprobe.demo.grammar.report import load, rows
from headprobe.demo.grammar.rivals import Characters
from headprobe.probes.catalog import find_probe_files, read_documents
from headprobe.probes.passages import cut_passages

READ = ("syntax", "coreference", "punctuation", "word-class")
"""The families that the generator's reader knows."""


@pytest.mark.parametrize("name", ["story", "news", "dialogue", "natural"])
def test_counts_and_baselines_agree_with_an_independent_reader(name: str) -> None:
    path: Path = find_probe_files([name])[0].path
    expected = {(row.relation, row.looks_to): row for row in rows(load([path]))}
    encoder = Characters()
    passages = [
        passage
        for document in read_documents(find_probe_files([str(path)]), pytest.fail)
        for passage in cut_passages(document, encoder.count, 10**9, pytest.fail)
    ]
    instances = align(passages, encoder, pytest.fail, seed=0).instances
    found = {
        (relation.name, relation.looks_to): instances.of(index)
        for index, relation in enumerate(instances.relations)
        if relation.family in READ
    }
    assert {key: len(links) for key, links in found.items()} == {
        key: row.n for key, row in expected.items()
    }
    for key, links in found.items():
        question = baseline_input(instances, links)
        for baseline in ("offset", "start"):
            hits = BASELINES[baseline](question).hits
            assert hits.mean() == pytest.approx(getattr(expected[key], baseline)), (key, baseline)
