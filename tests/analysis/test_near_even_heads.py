"""Heads whose rows are almost even win often, but by a hair: the rules on amounts stop them."""

import numpy as np
import pytest

from headprobe.analysis.gains import compute_evidence
from headprobe.analysis.pos_control import fit_preferences
from headprobe.roles.requirements import general_requirements
from headprobe.roles.rules import load_rules
from headprobe.vocabulary import CATEGORIES, MAX_DISTANCE
from tests.helpers.evidence import MARKS, links_of, random_instances, tallies_of

HEADS = 12


@pytest.mark.parametrize("seed", range(4))
def test_heads_that_win_by_a_hair_earn_nothing(seed: int) -> None:
    """Of each run 12 heads prefer marks by one part in a thousand: they hit in most instances and
    pass every rule of version 6, but their share is that of a flat profile."""
    rng = np.random.default_rng(seed)
    instances = random_instances(rng, [40] * 40, (MARKS,), usable=1.0)
    instances.tokens[:] = 1
    [links] = links_of(instances)
    hits = rng.random((len(links), HEADS)) < rng.uniform(0.8, 0.95, HEADS)
    profile = np.ones((1, HEADS, MAX_DISTANCE))
    counts = links.stop - links.first
    share = counts / instances.place[links.query]
    even = tallies_of(
        instances,
        {0: hits},
        1,
        HEADS,
        profile=profile,
        category=np.ones((CATEGORIES, 1, HEADS)),
    )
    arrays = dict(even.arrays)
    for name, folds in (
        ("share_by_document", instances.document_fold[instances.passage[links.query]]),
        ("share_by_form", instances.form_fold[links.nearest]),
    ):
        sums = np.bincount(folds, weights=share * 1.001, minlength=64)
        arrays[name] = np.broadcast_to(sums[None, :, None, None], (1, 64, 1, HEADS)).copy()
    tallies = type(even)(arrays)
    rules = load_rules()
    evidence = compute_evidence(instances, tallies, fit_preferences(instances, tallies), rules)
    np.testing.assert_allclose(evidence.lift, 1, atol=0.01)
    needs = general_requirements(evidence, rules)
    missed = [need.shortfall((0, 0, 0)).split()[0] for need in needs if not need.met[0, :, 0].all()]
    assert "lift" in missed and "share" in missed
    for need in needs:
        kind = need.shortfall((0, 0, 0)).split()[0]
        if kind in ("lift", "share"):
            assert not need.met[0, :, 0].any()
    others = [need for need in needs if need.shortfall((0, 0, 0)).split()[0] == "lower"]
    assert others and others[0].met[0, :, 0].all()
