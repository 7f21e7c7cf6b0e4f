"""What a head does whatever it is asked for (METHOD section 5, the roles beside the relations)."""

from dataclasses import dataclass

import numpy as np

from headprobe.evidence.agreement import Agreement, agree
from headprobe.evidence.category_null import CategoryTastes
from headprobe.evidence.copying import Copying, copying
from headprobe.evidence.positional import Positional, positional
from headprobe.store.instances import Instances
from headprobe.store.tallies import Tallies


@dataclass(frozen=True)
class Conduct:
    """How far a head follows distance alone, how well it copies, and what it repeats that has no
    name."""

    positional: Positional
    duplicate: Copying
    induction: Copying
    agreement: Agreement


def conduct(
    instances: Instances,
    tallies: Tallies,
    fitted: CategoryTastes,
    *,
    confidence: float,
    min_kept: float,
    min_attention: float,
    look_again: tuple[float, float] = (-np.inf, -np.inf),
) -> Conduct:
    """All of it; ``fitted`` to the same tallies; ``min_kept`` is ``evidence.positional``'s,
    ``min_attention`` and ``look_again`` are ``evidence.agreement``'s."""
    return Conduct(
        positional(instances, tallies, min_kept),
        copying(tallies, "duplicate", confidence),
        copying(tallies, "induction", confidence),
        agree(
            tallies,
            fitted,
            confidence=confidence,
            min_attention=min_attention,
            look_again=look_again,
        ),
    )
