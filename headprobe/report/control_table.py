"""``controls.csv``: what was found where nothing is to be found."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from headprobe.axes import head_name
from headprobe.evidence.evidence import Evidence
from headprobe.evidence.strongest import strongest_heads
from headprobe.verdicts.wording import relation_name

COLUMNS = (
    *("control", "family", "relation", "looks_to", "n", "name", "top1", "baseline"),
    *("baseline_top1", "gain", "gain_low", "gain_high"),
)


def controls(found: Iterable[tuple[str, Evidence]]) -> pd.DataFrame:
    """One row per control and relation that has instances, with the head whose ``gain_low`` is
    highest (no head where the instances are too few for an interval)."""
    return pd.DataFrame(
        [row for control, evidence in found for row in _rows(control, evidence)],
        columns=list(COLUMNS),
    )


def _rows(control: str, evidence: Evidence) -> Iterable[list[Any]]:
    _, heads, _ = evidence.gain.shape
    names = list(evidence.baselines)
    for index, number in enumerate(strongest_heads(evidence).tolist()):
        relation = evidence.relations[index]
        if not evidence.n[index]:
            continue
        asked = [relation.family, relation_name(relation), relation.looks_to]
        row = [control, *asked, int(evidence.n[index])]
        if number < 0:
            yield [*row, None, float("nan"), None, *[float("nan")] * 4]
            continue
        at = (*divmod(number, heads), index)
        numbers = [
            float(getattr(evidence, name)[at])
            for name in ("baseline_top1", "gain", "gain_low", "gain_high")
        ]
        best = [head_name(*at[:2]), float(evidence.top1[at]), names[int(evidence.baseline[at])]]
        yield [*row, *best, *numbers]
