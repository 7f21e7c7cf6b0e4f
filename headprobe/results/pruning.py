"""A verdict for every head and key/value head: whether the run says that the model can lose it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from headprobe.roles.rules import run_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.tables import Row, iterate_rows
from headprobe.vocabulary import head_name, parse_head

Head = tuple[int, int]

REMOVE, MEASURE, KEEP = "remove", "measure", "keep"
"""The verdicts: can go; may go, but it is not known how harmful that is; stays."""

_LOSS = "loss"
"""The outcome of ``ablation.csv`` that verdicts rest on."""

_SAVED = ("mean", "zero")
"""The replacements that a checkpoint can hold."""


def verdicts(run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return one row per head and one per key/value head: a verdict and the reason for it.

    A measured effect (``ablation.csv``) decides by its interval. The upper end must be below
    ``causal.max_harm`` of the rules for a head to go: that no harm is shown does not suffice.
    Heads without a measured effect may go if they are idle or repeat another one, and key/value
    heads by the verdicts of their heads.
    """
    effects, max_harm = _measured(run), run_rules(run).causal.max_harm
    members: defaultdict[Head, list[dict[str, Any]]] = defaultdict(list)
    heads = []
    for row in run.rows(run_folder.HEADS):
        layer, head, group = row.whole("layer"), row.whole("head"), row.whole("kv_group")
        effect = effects.get(frozenset({(layer, head)}))
        verdict, reason = _judge_head(row, effect, max_harm)
        values = {
            "name": head_name(layer, head),
            "layer": layer,
            "head": head,
            "kv_group": group,
            "verdict": verdict,
            "reason": reason,
            "idle": row.flag("idle"),
            "repeater_of": row.text("repeater_of"),
            **_effect_cells(effect),
        }
        heads.append(values)
        members[layer, group].append(values)
    groups = []
    for (layer, group), inside in sorted(members.items()):
        places = frozenset((layer, each["head"]) for each in inside)
        effect = effects.get(places)
        verdict, reason = _judge_group(inside, effect, max_harm)
        groups.append(
            {
                "name": f"L{layer}G{group}",
                "layer": layer,
                "kv_group": group,
                "heads": [each["name"] for each in inside],
                "verdict": verdict,
                "reason": reason,
                **_effect_cells(effect),
            }
        )
    return heads, groups


def _measured(run: Run) -> dict[frozenset[Head], Row]:
    """The measured effects on the loss by set of heads; of several the most harmful."""
    path = run.path / run_folder.ABLATION
    effects: dict[frozenset[Head], Row] = {}
    if not path.exists():
        return effects
    for row in iterate_rows(path, columns=("set", "heads", "by", "outcome", "effect", "usable")):
        is_loss = row.text("outcome") == _LOSS and row.text("by") in _SAVED and row.flag("usable")
        if not is_loss or row.number("effect_low") is None:
            continue
        heads = frozenset(parse_head(name) for name in row.text("heads").split(";"))
        if heads not in effects or _end(row, "high") > _end(effects[heads], "high"):
            effects[heads] = row
    return effects


def _end(row: Row, name: str) -> float:
    """The ``low`` or ``high`` end of an effect, which is known of measured ones."""
    end = row.number(f"effect_{name}")
    return math.nan if end is None else end


def _judge_effect(effect: Row, max_harm: float) -> str:
    """A head can go if its harm is shown to be small, and stays if it is shown to have any."""
    if _end(effect, "high") < max_harm:
        return REMOVE
    return KEEP if _end(effect, "low") > 0 else MEASURE


def _judge_head(row: Row, effect: Row | None, max_harm: float) -> tuple[str, str]:
    seen = []
    if row.flag("idle"):
        seen.append("idle")
    if repeated := row.text("repeater_of"):
        seen.append(f"repeats {repeated}")
    if effect is not None:
        return _judge_effect(effect, max_harm), "; ".join([*seen, _effect_words(effect)])
    return (MEASURE if seen else KEEP), "; ".join([*seen, "effect not measured"])


def _judge_group(
    inside: Iterable[Mapping[str, Any]], effect: Row | None, max_harm: float
) -> tuple[str, str]:
    if effect is not None:
        return _judge_effect(effect, max_harm), _effect_words(effect)
    kinds = [each["verdict"] for each in inside]
    able = kinds.count(REMOVE)
    words = f"{able} of {len(kinds)} heads can go"
    if able == len(kinds):
        # One by one: heads that stand in for one another can go only one at a time
        return (REMOVE, words) if len(kinds) == 1 else (MEASURE, f"{words}, one by one")
    return (KEEP if KEEP in kinds else MEASURE), words


def _effect_words(effect: Row) -> str:
    low, high = effect.number("effect_low"), effect.number("effect_high")
    amount = effect.number("effect")
    if amount is None or low is None or high is None:
        return "effect not measured"
    return f"{effect.text('by')} ablation {amount:+.4f} [{low:+.4f} {high:+.4f}] nats"


def _effect_cells(effect: Row | None) -> dict[str, Any]:
    if effect is None:
        return {"by": "", "effect": None, "effect_low": None, "effect_high": None}
    return {
        "by": effect.text("by"),
        **{name: effect.number(name) for name in ("effect", "effect_low", "effect_high")},
    }
