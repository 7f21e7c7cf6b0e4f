"""Cells of instances, and the groups that are sums of them."""

import numpy as np
import pytest

from headprobe.analysis.groups import effective_folds, group_instances
from headprobe.runs.sums import pack_heads
from headprobe.vocabulary import FOLDS
from tests.helpers.evidence import RELATIONS, random_instances

DOMAIN_NAMES = ["talk", "prose", "talk", "letter"] * 5


@pytest.mark.parametrize("min_form_folds", [0, 100])
def test_every_instance_counts_once_in_each_grouping(min_form_folds: float) -> None:
    """Packed hits and plain values alike; forms are exact where they are few."""
    rng = np.random.default_rng(0)
    instances = random_instances(rng, [25] * 20, domains=DOMAIN_NAMES)
    for index in range(len(RELATIONS)):
        links = instances.of(index)
        grouped = group_instances(instances, links, min_form_folds)
        cells = grouped.cells
        assert cells.few_forms == (min_form_folds > 0)
        hits = rng.random((len(links), 11)) < 0.4
        sums = grouped.hits(pack_heads(hits), 11)
        passage = instances.passage[links.query]
        document = instances.document_fold[passage]
        lowered = [str(instances.forms[form]).lower() for form in instances.form[links.nearest]]
        form = instances.form_fold[links.nearest]
        if cells.few_forms:
            form = np.unique(lowered, return_inverse=True)[1]
        for found, group, sizes in (
            (sums.documents, document, cells.documents.sizes),
            (sums.forms, form, cells.forms.sizes),
            (sums.pairs, document * FOLDS + form, cells.pairs.sizes),
            (sums.domains, instances.domain[passage], cells.domains.sizes),
        ):
            expected = {
                (int((group == each).sum()), *hits[group == each].sum(0).tolist())
                for each in np.unique(group)
            }
            rows = np.column_stack([sizes, found]).astype(int)
            assert {tuple(row) for row in rows.tolist() if row[0]} == expected
            assert sizes.sum() == len(links)
        for parity in (0, 1):
            np.testing.assert_array_equal(sums.half(parity), hits[document % 2 == parity].sum(0))
        np.testing.assert_array_equal(sums.total, hits.sum(0))


def test_forms_that_share_a_fold_are_left_out_one_by_one() -> None:
    instances = random_instances(np.random.default_rng(1), [60] * 6)
    folds = instances.form_fold
    object.__setattr__(instances, "form_fold", np.zeros_like(folds))
    for index in range(len(RELATIONS)):
        links = instances.of(index)
        forms = {str(instances.forms[instances.form[word]]).lower() for word in links.nearest}
        cells = group_instances(instances, links, 10).cells
        assert cells.form_folds == 1 and cells.few_forms
        assert (cells.forms.sizes > 0).sum() == len(forms)


def test_effective_folds() -> None:
    assert effective_folds(np.array([5.0, 5, 0, 5])) == pytest.approx(3)
    assert effective_folds(np.array([98.0, 1, 1])) == pytest.approx(1.04, abs=0.01)
    assert effective_folds(np.zeros(4)) == 0
