"""What every head is set against: the baselines of each relation and the category control, summed
by fold and domain, from the instances and the profiles alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headprobe.evidence.arrays import Floats, Ints
from headprobe.evidence.baselines import BASELINES, BASELINES_OF_FAMILY, question_of
from headprobe.evidence.category import category_hits
from headprobe.evidence.category_null import CategoryTastes
from headprobe.evidence.groups import GroupedInstances, group, length_of_groups
from headprobe.evidence.habit import habit
from headprobe.evidence.sums import mean_profile
from headprobe.store.instances import Instances
from headprobe.store.tallies import Tallies


@dataclass(frozen=True)
class Footing:
    """Sums over instances by document fold, form fold (of the nearest target) and domain, all on
    the axis S of ``evidence.groups``.

    ``sizes`` [R, S] count instances, ``forms`` [R] the different forms of nearest targets and
    ``shared_forms`` [R] those of them that share their fold with another. ``baselines`` maps a name
    to its sums of hits: [R, S, 1] where it is the same for all heads, else [R, S, N]; NaN where a
    relation need not beat it or it cannot be worked out. ``category`` [2, R, S, N] are those of the
    harder control's two rules. ``choices`` maps ``offset`` and ``start`` to what they chose.
    ``habit_expected`` and ``habit_share`` are [R, N].
    """

    sizes: Floats
    forms: Ints
    shared_forms: Ints
    baselines: Mapping[str, Floats]
    category: Floats
    choices: Mapping[str, tuple[str, ...]]
    habit_expected: Floats
    habit_share: Floats


def find_footing(instances: Instances, tallies: Tallies, fitted: CategoryTastes) -> Footing:
    """The baselines and the control of METHOD section 3 on all relations of a run."""
    relations = [group(instances, index) for index in range(len(instances.relations))]
    sizes = np.array([each.sums() for each in relations])
    forms, shared_forms = _count_forms(instances, relations)
    sums, choices = _rules(instances, relations)
    profiles = (mean_profile(tallies, name) for name in ("profile", "profile_norm"))
    by_distance = habit(instances, relations, *profiles)
    general = {name: sums.pop(name) for name in BASELINES}
    return Footing(
        sizes=sizes.reshape(len(relations), length_of_groups(instances)),
        forms=forms,
        shared_forms=shared_forms,
        baselines={**general, **by_distance.sums, **sums},
        category=category_hits(instances, relations, fitted),
        choices={name: tuple(chosen) for name, chosen in choices.items()},
        habit_expected=by_distance.expected,
        habit_share=by_distance.share,
    )


def _rules(
    instances: Instances, relations: Sequence[GroupedInstances]
) -> tuple[dict[str, Floats], dict[str, list[str]]]:
    """By the name of each rule that is the same for all heads: its hits [R, S, 1], its choices."""
    shape = (len(relations), length_of_groups(instances), 1)
    sums = {name: np.zeros(shape) for name in BASELINES}
    for rules in BASELINES_OF_FAMILY.values():
        sums |= {name: np.full(shape, np.nan) for name in rules}
    choices = {name: [""] * len(relations) for name in sums}
    for index, relation in enumerate(relations):
        if not len(relation.asked):
            continue
        question = question_of(instances, relation.asked)
        of_family = BASELINES_OF_FAMILY.get(relation.asked.relation.family, {})
        for name, rule in (*BASELINES.items(), *of_family.items()):
            found = rule(question)
            if found is not None:
                sums[name][index, :, 0] = relation.sums(found.hits)
                choices[name][index] = found.choice
    return sums, choices


def _count_forms(instances: Instances, relations: Sequence[GroupedInstances]) -> tuple[Ints, Ints]:
    """[R] forms of nearest targets, and [R] how many share their fold with another one."""
    counts = np.zeros((2, len(relations)), dtype=np.int64)
    for index, relation in enumerate(relations):
        nearest = relation.asked.nearest
        fold = np.full(len(instances.forms), -1)
        fold[instances.folded_form[nearest]] = instances.form_fold[nearest]
        forms = np.bincount(fold[fold >= 0])
        counts[:, index] = forms.sum(), forms[forms > 1].sum()
    return counts[0], counts[1]
