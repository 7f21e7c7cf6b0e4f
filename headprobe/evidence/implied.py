"""What heads look for that no probe asks about, as instances among the example rows: to be shown,
never to be counted."""

from collections.abc import Callable

import numpy as np

from headprobe.evidence.arrays import Bools, Floats, Ints
from headprobe.evidence.candidates import Candidates
from headprobe.evidence.habit import choices
from headprobe.store.categories import DEPRELS
from headprobe.store.instances import Instances, RelationInstances
from headprobe.store.relation import Relation


def earlier_copies(instances: Instances, role: str) -> RelationInstances:
    """To the earlier words of the query's lower-cased form."""
    form = instances.folded_form
    relation = Relation(role, "a word", "its earlier copy")
    return _among(instances, relation, lambda query, words: form[words] == form[query])


def after_copies(instances: Instances, role: str) -> RelationInstances:
    """To the words after these."""
    form = instances.folded_form

    def follows(query: int, words: Ints) -> Bools:
        return np.asarray((instances.place[words] > 0) & (form[words - 1] == form[query]))

    return _among(instances, Relation(role, "a word", "the word after its earlier copy"), follows)


def labelled(instances: Instances, role: str, pair: int) -> RelationInstances:
    """From words of the first label of a deprel pair (``store.categories``) to those of the second
    one."""
    asking, asked = divmod(pair, len(DEPRELS))
    deprel = instances.deprel
    relation = Relation(role, DEPRELS[asking] or "others", DEPRELS[asked] or "others")
    return _among(
        instances,
        relation,
        lambda query, words: (deprel[words] == asked) & (deprel[query] == asking),
    )


def habitual(instances: Instances, role: str, profile: Floats) -> RelationInstances:
    """To the word that a head's mean attention per distance, ``profile`` [D], would choose."""
    rows = Candidates(instances, _queries(instances), "passage", strict=False)
    distance = choices(rows, profile[None])["habit"][:, 0]
    chosen = dict(zip(rows.query.tolist(), (rows.query - distance).tolist(), strict=True))
    relation = Relation(role, "a word", "the word at its usual distance")
    return _among(instances, relation, lambda query, words: words == chosen[query])


def _queries(instances: Instances) -> Ints:
    return np.unique(instances.example_words).astype(np.int64)


def _among(
    instances: Instances, relation: Relation, is_target: Callable[[int, Ints], Bools]
) -> RelationInstances:
    """The example rows, with those of the usable earlier words of the passage that are targets."""
    queries, targets = [], []
    for query in _queries(instances).tolist():
        words = np.arange(instances.passage_first[instances.passage[query]], query)
        words = words[instances.usable[words]]
        found = words[is_target(query, words)]
        if len(found):
            queries.append(query)
            targets.append(found)
    edges = np.cumsum([0, *(len(found) for found in targets)])
    return RelationInstances(
        relation,
        np.array(queries, dtype=np.int64),
        edges[:-1],
        edges[1:],
        np.concatenate([*targets, np.zeros(0, dtype=np.int64)]).astype(np.int64),
    )
