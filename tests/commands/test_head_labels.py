"""The words that labels name, and those that take their place in the control."""

import numpy as np
import pytest

from headprobe.analysis.candidates import candidates_of
from headprobe.batching.corpus import Corpus
from headprobe.commands.head_labels import NO_RECEIVER, HeadLabels, control_words
from headprobe.commands.prepare import read_corpus
from headprobe.model.load import CheckpointSource, load_encoder
from headprobe.probes.catalog import find_probe_files
from headprobe.progress import SilentProgress
from tests.helpers.probes import PROBES


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    files = find_probe_files([str(PROBES)])
    encoder = load_encoder(CheckpointSource.demo())
    options = {"context": 512, "budget": 64, "max_passages": None, "seed": 0}
    return read_corpus(files, encoder, progress=SilentProgress(), **options).corpus


def test_receivers_are_the_nearest_candidates_that_are_no_targets(corpus: Corpus) -> None:
    instances, compared = corpus.instances, 0
    for number in range(len(instances.judged_relations)):
        links = instances.of(number)
        index, word = candidates_of(instances, links).pairs()
        for instance, found in enumerate(control_words(corpus, links, np.arange(len(links)))):
            targets = set(links.targets[links.first[instance] : links.stop[instance]].tolist())
            others = set(word[index == instance].tolist()) - targets
            assert {target for target, _ in found} == targets
            for target, receiver in found:
                if not others:
                    assert receiver == NO_RECEIVER
                    continue
                # Of two equally near ones the later, which is nearer the query
                assert receiver == min(others, key=lambda o: (abs(o - target), -o))
                compared += 1
    assert compared > 50


def test_named_words_stand_in_the_rows_of_queries(corpus: Corpus) -> None:
    instances = corpus.instances
    number = max(range(len(instances.relations)), key=lambda n: len(instances.of(n)))
    passages = list(range(instances.text_passages))[::-1]
    profile = np.ones((1, 1, 511), np.float32)
    labels = HeadLabels(corpus, profile, {(0, 0): {"role": (number,)}})
    pair = labels.interventions([(0, 0)], "", passages)
    assert pair is not None
    kept, control = (each.weights_of[0, 0].named for each in pair)
    links, pairs = instances.of(number), 0
    for place, passage in enumerate(passages):
        first = instances.passage_first[passage]
        expected = {
            (int(corpus.last_token[query]), int(target - first))
            for query, low, high in zip(links.query, links.first, links.stop, strict=True)
            if instances.passage[query] == passage
            for target in links.targets[low:high]
        }
        named = kept.get(place)
        found = set() if named is None else set(zip(named.row, named.word, strict=True))
        assert found == expected
        pairs += len(found)
    assert pairs > 5
    for place, named in control.items():
        assert (named.word == kept[place].word).all()
        assert not (named.given_to == named.word).any()
    assert labels.interventions([(0, 1)], "", passages) is None
    tables = labels.text_instances({number}, passages)[number]
    assert len(tables.cluster) == len(links)
    assert sum(int(each.is_target.sum()) for each in tables.by_sequence.values()) == pairs
    assert all(
        bool((each.is_candidate | ~each.is_target).all()) for each in tables.by_sequence.values()
    )
