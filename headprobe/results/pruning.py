"""A verdict for every head and key/value head: whether the run says that the model can lose it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.tables import Row, iterate_rows
from headprobe.vocabulary import head_name, parse_head

Head = tuple[int, int]

REMOVE, MEASURE, KEEP = "remove", "measure", "keep"
"""The verdicts: can go; may go, but its effect is not measured; stays."""

_LOSS = "loss"
"""The outcome of ``ablation.csv`` that verdicts rest on."""

_SAVED = ("mean", "zero")
"""The replacements that a checkpoint can hold."""


def verdicts(run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return one row per head and one per key/value head: a verdict and the reason for it.

    Heads without a measured effect are judged by ``idle`` and ``repeater_of`` of ``heads.csv``,
    heads with one by its interval (``ablation.csv``), and key/value heads by their own measured
    effect or by the verdicts of their heads.
    """
    effects = _measured(run)
    members: defaultdict[Head, list[dict[str, Any]]] = defaultdict(list)
    heads = []
    for row in run.rows(run_folder.HEADS):
        layer, head, group = row.whole("layer"), row.whole("head"), row.whole("kv_group")
        effect = effects.get(frozenset({(layer, head)}))
        verdict, reason = _judge_head(row, effect)
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
        verdict, reason = _judge_group(inside, effect)
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
        if heads not in effects or _low(row) > _low(effects[heads]):
            effects[heads] = row
    return effects


def _low(row: Row) -> float:
    low = row.number("effect_low")
    return -math.inf if low is None else low


def _judge_head(row: Row, effect: Row | None) -> tuple[str, str]:
    seen = []
    if row.flag("idle"):
        seen.append("idle")
    if repeated := row.text("repeater_of"):
        seen.append(f"repeats {repeated}")
    if effect is not None:
        return (KEEP if _low(effect) > 0 else REMOVE), "; ".join([*seen, _effect_words(effect)])
    if row.flag("idle"):
        return REMOVE, "; ".join(seen)
    return (MEASURE if seen else KEEP), "; ".join([*seen, "effect not measured"])


def _judge_group(inside: Iterable[Mapping[str, Any]], effect: Row | None) -> tuple[str, str]:
    if effect is not None:
        return (KEEP if _low(effect) > 0 else REMOVE), _effect_words(effect)
    kinds = [each["verdict"] for each in inside]
    able = kinds.count(REMOVE)
    words = f"{able} of {len(kinds)} heads can go"
    if able == len(kinds):
        # One by one: heads that stand in for one another can go only one at a time
        measured = len(kinds) == 1 or all(each["idle"] for each in inside)
        return (REMOVE, words) if measured else (MEASURE, f"{words}, one by one")
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
