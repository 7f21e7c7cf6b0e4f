"""Sums by document fold, form fold and domain, and forms that share a fold."""

import numpy as np

from headprobe.analysis.candidates import DOCUMENTS, DOMAINS, FORMS, group
from headprobe.runs.instances import fold_of
from tests.helpers.evidence import RELATIONS, footing_of, random_instances

DOMAIN_NAMES = ["talk", "prose", "talk", "letter"] * 5


def test_every_instance_counts_once_in_each_grouping() -> None:
    rng = np.random.default_rng(0)
    instances = random_instances(rng, [25] * 20, domains=DOMAIN_NAMES)
    for index in range(len(RELATIONS)):
        grouped = group(instances, index)
        values = rng.random(len(grouped.links))
        sums, sizes = grouped.sums(values), grouped.sums()
        for part in (DOCUMENTS, FORMS, DOMAINS):
            np.testing.assert_allclose(sums[part].sum(), values.sum())
            assert sizes[part].sum() == len(grouped.links)
        for number, name in enumerate(("letter", "prose", "talk")):
            passages = instances.passage[grouped.links.query]
            there = instances.passage_domains[passages] == name
            np.testing.assert_allclose(sums[DOMAINS][number], values[there].sum())
        hits = rng.random((len(grouped.links), 3)) < 0.4
        some = np.flatnonzero(rng.random(len(hits)) < 0.5)
        expected = [
            grouped.sums(np.where(np.isin(np.arange(len(hits)), some), hits[:, head], 0.0))
            for head in range(3)
        ]
        np.testing.assert_array_equal(grouped.sums_of_some(some, hits[some]).T, expected)


def test_forms_that_share_a_fold_are_counted() -> None:
    instances = random_instances(np.random.default_rng(1), [60] * 6)
    renamed = np.array([f"Word{number}" for number in range(len(instances.forms))])
    fold = [fold_of(form.lower()) for form in renamed]
    twin = next(name for number in range(10_000) if fold_of(name := f"other{number}") == fold[0])
    renamed[1] = twin
    object.__setattr__(instances, "forms", renamed)
    baseline_sums = footing_of(instances, 1)
    for index in range(len(RELATIONS)):
        nearest = instances.of(index).nearest
        forms = {str(renamed[instances.form[word]]).lower() for word in nearest}
        folds = [fold_of(form) for form in forms]
        assert baseline_sums.forms[index] == len(forms)
        assert baseline_sums.shared_forms[index] == sum(folds.count(fold) > 1 for fold in folds)
    assert baseline_sums.shared_forms.max() >= 2
