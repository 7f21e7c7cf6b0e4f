"""``headprobe heads``: the heads of a run in a table, by role and by any number."""

import shlex
from collections.abc import Collection, Mapping

from headprobe.errors import HeadprobeError
from headprobe.format import suggest_names
from headprobe.results.importance import EFFECT_COLUMNS, effect_cells, single_effects
from headprobe.results.views import IDLE, NONE, REPEATER, HeadList, kind_of, roles_of
from headprobe.roles.rules import load_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.tables import FLAGS, TEXTS, Row
from headprobe.vocabulary import DUPLICATE, INDUCTION, MIXED, POSITIONAL, REDUNDANT, UNNAMED

_KINDS = (POSITIONAL, DUPLICATE, INDUCTION, UNNAMED, REDUNDANT, IDLE, REPEATER, MIXED, NONE)
"""What ``--role`` accepts in every run, besides the roles of its rules."""

_OF_RELATION = ("n", "held_out")
"""Columns of the list that ``heads.csv`` does not have."""

_ADDED = ("family", "relation", "looks_to", "best_offset")

_OF_CLAIM = (
    *("family", "relation", "looks_to", "n", "top1", "baseline", "baseline_top1", "gain"),
    *("gain_low", "gain_high", "held_out", "q", "beats", "strength", "reason"),
)
"""Columns that a claim gives in place of ``heads.csv``, which has the strongest role's only."""


def list_heads(
    run: Run,
    role: str | None = None,
    sort: str | None = None,
    most: int | None = None,
    smallest_first: bool = False,
) -> HeadList:
    """Return the heads of a run that hold ``role``, or all heads, sorted by the column ``sort``.

    ``role`` may also be a kind of head: ``redundant``, ``idle``, ``repeater``, ``mixed`` or
    ``none``. The numbers of a head are those of the relation by which it earned ``role``; without
    ``role``, those of its strongest role, or else of its best relation. ``sort`` is a numeric
    column of ``heads.csv``, ``n``, ``held_out`` or, if heads were ablated by themselves, one of
    ``EFFECT_COLUMNS``: the largest first, heads without the number last. By default it is ``gain``,
    or ``strength`` where no head has a gain. At most ``most`` heads are returned. Raises
    HeadprobeError for a role or a column that the run cannot have.
    """
    heads = run.rows(run_folder.HEADS)
    if role is not None:
        _check_role(run, role, heads)
    effects = single_effects(run)
    if sort is not None:
        _check_column(sort, heads, bool(effects))
    claims, relations = _claims(run), _relations(run)
    rows = [
        _row(_with_effect(head, effects), claims, relations, role)
        for head in heads
        if role is None or role in {*roles_of(head), head.text("role"), kind_of(head)}
    ]
    has_gain = any(row.number("gain") is not None for row in rows)
    column = sort or ("gain" if has_gain or not rows else "strength")
    sign = 1 if smallest_first else -1

    def key(row: Row) -> tuple[bool, float, float]:
        value = row.number(column)
        return value is None, sign * (value or 0.0), -(row.number("strength") or 0.0)

    rows.sort(key=key)  # stable: heads that do not differ stay in the order of the model
    return HeadList(run.path, role, column, tuple(rows[:most]), len(rows))


def role_names() -> list[str]:
    """Return the roles of the packaged rules and the other kinds of heads."""
    return [*load_rules().roles, *_KINDS]


def _check_role(run: Run, role: str, heads: Collection[Row]) -> None:
    rules = run.path / run_folder.RULES
    of_rules = load_rules(rules if rules.exists() else None).roles
    present = {name for head in heads for name in roles_of(head)}
    known = list(dict.fromkeys([*of_rules, *sorted(present), *_KINDS]))
    if role not in known:
        raise HeadprobeError(
            f"--role {shlex.quote(role)}", "not a role", suggest_names(role, known)
        )


def _with_effect(head: Row, effects: Mapping[str, Mapping[str, Row]]) -> Row:
    """Return the row with ``EFFECT_COLUMNS``, if the run has effects of single heads."""
    if not effects:
        return head
    return Row({**head.cells, **effect_cells(effects.get(head.text("name"), {}))})


def _check_column(sort: str, heads: Collection[Row], has_effects: bool) -> None:
    if sort in EFFECT_COLUMNS:
        if not has_effects:
            raise HeadprobeError(
                f"--sort {sort}", "no head was ablated by itself", "First: headprobe ablate --each"
            )
        return
    columns = list(next(iter(heads)).cells) if heads else []
    known = [name for name in columns if name not in (*TEXTS, *FLAGS)]
    if sort not in (*known, *_OF_RELATION):
        is_text = sort in columns
        what = "not a column of numbers" if is_text else "not a column of heads.csv"
        remedy = suggest_names("" if is_text else sort, [*known, *_OF_RELATION])
        raise HeadprobeError(f"--sort {sort}", what, remedy)


def _claims(run: Run) -> dict[tuple[str, str], Row]:
    """Return the strongest claim of each head and role; runs of 0.1.0 have relations only."""
    claims: dict[tuple[str, str], Row] = {}
    if run_folder.CLAIMS in run.tables:
        for row in run.iterate_rows(run_folder.CLAIMS):  # strongest first
            claims.setdefault((row.text("name"), row.text("role")), row)
        return claims
    for row in run.iterate_rows(run_folder.RELATIONS):
        key = row.text("name"), row.text("role")
        known = claims.get(key)
        if key[1] and (known is None or _gain(row) > _gain(known)):
            claims[key] = Row({**row.cells, "held_out": row.cells.get("gain_b", "")})
    return claims


def _gain(row: Row) -> float:
    return row.number("gain") or 0.0


def _relations(run: Run) -> dict[tuple[str, str], Row]:
    """Return what is the same for all heads of each relation, by its name and direction."""
    rows = run.rows(run_folder.RELATIONS, (0, 0))
    return {(row.text("relation"), row.text("looks_to")): row for row in rows}


def _row(
    head: Row,
    claims: dict[tuple[str, str], Row],
    relations: dict[tuple[str, str], Row],
    role: str | None,
) -> Row:
    """Return the row of ``heads.csv`` with the numbers of one role."""
    held = roles_of(head)
    named = role if role in held else (head.text("role") if role is None else "")
    strongest = named == head.text("role")
    cells = {**head.cells, **dict.fromkeys((*_OF_RELATION, *_ADDED), "")}
    at = head.text("best_relation"), head.text("best_looks_to")
    if named not in ("", REDUNDANT, MIXED, NONE):
        claim = claims.get((head.text("name"), named), Row({}))
        if not strongest or not claim.text("relation"):
            # What the claim lacks is empty: heads.csv has the numbers of another relation.
            kept = ("strength", "reason") if strongest else ()
            cells |= {name: "" for name in _OF_CLAIM if name not in kept}
            at = "", ""
        cells |= {name: claim.cells[name] for name in _OF_CLAIM if claim.text(name)}
        if claim.text("relation"):
            at = claim.text("relation"), claim.text("looks_to")
    if (relation := relations.get(at)) is not None:
        cells |= {name: relation.cells.get(name, "") for name in (*_ADDED, "n")}
    return Row(cells)
