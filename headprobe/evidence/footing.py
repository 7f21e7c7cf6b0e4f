"""What every head is set against: the baselines of each relation, summed by fold, from the
instances and the distance profiles alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headprobe.axes import FOLDS
from headprobe.evidence.arrays import Floats, Ints
from headprobe.evidence.baselines import BASELINES, question_of
from headprobe.evidence.habit import FoldedInstances, habit
from headprobe.evidence.sums import mean_profile
from headprobe.store.instances import Instances
from headprobe.store.tallies import Tallies


@dataclass(frozen=True)
class Footing:
    """Sums over instances by document fold and by form fold (of the nearest target).

    ``sizes_by_document``, ``sizes_by_form`` [R, F] count instances, ``forms`` [R] the different
    forms of nearest targets. ``by_document`` and ``by_form`` map a baseline's name to its sums of
    hits: [R, F, 1] where it is the same for all heads, else [R, F, N]. ``choices`` maps ``offset``
    and ``start`` to what they chose. ``habit_expected`` and ``habit_share`` are [R, N].
    """

    sizes_by_document: Floats
    sizes_by_form: Floats
    forms: Ints
    by_document: Mapping[str, Floats]
    by_form: Mapping[str, Floats]
    choices: Mapping[str, tuple[str, ...]]
    habit_expected: Floats
    habit_share: Floats


def find_footing(instances: Instances, tallies: Tallies) -> Footing:
    """The baselines of METHOD section 3 on all relations of a run."""
    relations = [_folded(instances, index) for index in range(len(instances.relations))]
    shape = (len(relations), FOLDS, 1)
    by_document = {name: np.zeros(shape) for name in BASELINES}
    by_form = {name: np.zeros(shape) for name in BASELINES}
    choices = {name: [""] * len(relations) for name in BASELINES}
    for index, folded in enumerate(relations):
        if not len(folded.asked):
            continue
        question = question_of(instances, folded.asked)
        for name, rule in BASELINES.items():
            found = rule(question)
            by_document[name][index, :, 0] = _by_fold(folded.document, found.hits)
            by_form[name][index, :, 0] = _by_fold(folded.form, found.hits)
            choices[name][index] = found.choice
    profiles = (mean_profile(tallies, name) for name in ("profile", "profile_norm"))
    by_distance = habit(instances, relations, *profiles)
    return Footing(
        sizes_by_document=_sizes([folded.document for folded in relations]),
        sizes_by_form=_sizes([folded.form for folded in relations]),
        forms=np.array(
            [len(np.unique(instances.folded_form[f.asked.nearest])) for f in relations],
            dtype=np.int64,
        ),
        by_document={**by_document, **by_distance.by_document},
        by_form={**by_form, **by_distance.by_form},
        choices={name: tuple(chosen) for name, chosen in choices.items()},
        habit_expected=by_distance.expected,
        habit_share=by_distance.share,
    )


def _folded(instances: Instances, relation: int) -> FoldedInstances:
    asked = instances.of(relation)
    document = instances.document_fold[instances.passage[asked.query]].astype(np.int64)
    return FoldedInstances(asked, document, instances.form_fold[asked.nearest].astype(np.int64))


def _by_fold(fold: Ints, hits: Floats | None = None) -> Floats:
    return np.bincount(fold, weights=hits, minlength=FOLDS).astype(np.float64)


def _sizes(folds: list[Ints]) -> Floats:
    return np.array([_by_fold(fold) for fold in folds]).reshape(len(folds), FOLDS)
