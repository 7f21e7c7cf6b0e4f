"""Links without meaning: a control under which no head may earn a role.

See ``docs/method.md``, "Controls".
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headprobe.analysis.candidates import Candidates, position_in_run
from headprobe.arrays import Ints
from headprobe.runs.instances import PAIRS, Instances, split_by_count
from headprobe.vocabulary import Scope


def shuffle_links(instances: Instances, seed: int) -> Instances:
    """Return the same queries with randomly drawn targets and exchanged word classes.

    Each link keeps its number of targets. They are drawn from the candidates in the query's
    sentence, or from all its candidates where the sentence leaves no choice. For relations with
    ``every``, the usable words of each sentence exchange their word classes, so every sentence
    keeps its number of marks; the instances are then the words after the first mark, wherever that
    mark now stands.

    The same ``seed`` gives the same links with every version of numpy, because only raw bits are
    drawn, whose stream is fixed.
    """
    bits = np.random.PCG64(seed)
    targets = np.array(instances.link_targets, dtype=np.int64)
    for number, relation in enumerate(instances.relations):
        chosen = np.flatnonzero(instances.link_relation == number)
        counts = np.diff(instances.link_first)[chosen]
        query = np.asarray(instances.link_query[chosen], dtype=np.int64)
        near = Candidates(instances, query, "sentence", relation.candidates)
        has_choice = near.count() > counts
        scopes: tuple[Scope, Scope] = ("sentence", relation.scope)
        for in_scope, scope in zip((has_choice, ~has_choice), scopes, strict=True):
            links = np.flatnonzero(in_scope)
            every = Candidates(instances, query[links], scope, relation.candidates)
            for some in split_by_count(every.words_before, PAIRS):
                rows = links[some]
                first = np.asarray(instances.link_first[chosen[rows]], dtype=np.int64)
                candidates = Candidates(instances, query[rows], scope, relation.candidates)
                words = _draw(candidates, counts[rows], bits)
                places = np.repeat(first, counts[rows]) + position_in_run(counts[rows])
                targets[places] = words
    classes = _shuffle_classes(instances, bits)
    shuffled = replace(instances, link_targets=targets, word_classes=classes)
    return shuffled.choose_class_queries(seed)


def _draw(candidates: Candidates, counts: Ints, bits: np.random.PCG64) -> Ints:
    """Draw ``counts`` [Q] candidates of each query; [K] word numbers, ascending for each query."""
    index, word = candidates.pairs()
    n_candidates = np.bincount(index, minlength=len(counts))
    order = np.lexsort((_random_keys(bits, len(index)), index))
    drawn = np.sort(order[position_in_run(n_candidates) < np.repeat(counts, n_candidates)])
    return word[drawn]


def _shuffle_classes(instances: Instances, bits: np.random.PCG64) -> Ints:
    """[W]: ``word_classes``, permuted among the usable words of each sentence."""
    classes = np.array(instances.word_classes, dtype=np.int64)
    words = np.flatnonzero(instances.usable)
    sentence = instances.sentence_first[words]
    order = np.lexsort((_random_keys(bits, len(words)), sentence))
    classes[words] = classes[words[order]]
    return classes


def _random_keys(bits: np.random.PCG64, size: int) -> NDArray[np.uint64]:
    return np.asarray(bits.random_raw(size), dtype=np.uint64)
