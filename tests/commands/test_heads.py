"""Lists of heads agree with the tables of the run."""

import pytest

from headprobe.commands.heads import list_heads
from headprobe.errors import HeadprobeError
from headprobe.results.views import list_values, run_values
from headprobe.runs.folder import CLAIMS, HEADS, Run
from headprobe.runs.tables import Row
from tests.helpers.synthetic import HOSTILE


def names(run: Run, role: str | None, sort: str = "gain", most: int | None = None) -> list[str]:
    return [head.text("name") for head in list_heads(run, role, sort, most).heads]


def test_heads_of_a_role_are_its_claims_by_gain(run: Run) -> None:
    claims = run.claims[run.claims["role"] == "syntax"].drop_duplicates("name")
    ordered = claims.sort_values("gain", ascending=False)
    listed = list_heads(run, "syntax", "gain", None)
    assert [head.text("name") for head in listed.heads] == ordered["name"].tolist()
    assert len(listed.heads) > 3
    for head, claim in zip(listed.heads, ordered.itertuples(), strict=True):
        for column in ("n", "top1", "gain", "gain_low", "held_out", "strength"):
            assert head.number(column) == getattr(claim, column)
        assert head.text("relation") == claim.relation


def test_a_second_role_is_listed_with_its_own_numbers(run: Run) -> None:
    """And not with those of the strongest role, which ``heads.csv`` has."""
    held = run.heads["roles"].fillna("").str.split(";")
    second = run.heads[[len(roles) > 1 and "syntax" in roles[1:] for roles in held]]
    assert len(second)
    listed = {head.text("name"): head for head in list_heads(run, "syntax", "gain", None).heads}
    for name in second["name"]:
        assert listed[name].text("family") == "syntax"
        assert listed[name].text("role") != "syntax"


def test_all_heads_are_listed_by_any_column(run: Run) -> None:
    for column in ("entropy", "strength", "layer", "cluster", "n"):
        values = [
            head.number(column)
            for head in list_heads(run, None, column, None).heads
            if head.number(column) is not None
        ]
        assert values == sorted(values, reverse=True)
    assert (
        names(run, None, "entropy")
        == run.heads.sort_values("entropy", ascending=False)["name"].tolist()
    )
    smallest = list_heads(run, None, "entropy", 3, smallest_first=True)
    assert [h.text("name") for h in smallest.heads] == names(run, None, "entropy")[::-1][:3]
    assert smallest.total == len(run.heads)


def test_kinds_are_roles_too(run: Run) -> None:
    redundant = run.heads[run.heads["role"] == "redundant"]
    assert set(names(run, "redundant")) == set(redundant["name"])
    assert set(names(run, "idle")) == set(redundant[redundant["idle"]]["name"])
    assert set(names(run, "repeater")) == set(redundant[~redundant["idle"]]["name"])
    assert set(names(run, "none")) == set(run.heads[run.heads["role"] == "none"]["name"])
    assert names(run, "induction") == []


def test_roles_of_the_user_are_found(hostile_run: Run) -> None:
    role = next(role for role in hostile_run.claims["role"].unique() if "evil" in role)
    assert role in HOSTILE or "evil" in role
    assert names(hostile_run, role)


@pytest.mark.parametrize(
    ("role", "sort", "message"),
    [
        ("corefrence", "gain", "--role corefrence: not a role. Did you mean coreference?"),
        (None, "gian", "--sort gian: not a column of heads.csv. Did you mean gain or sink"),
        (None, "reason", "--sort reason: not a column of numbers. Choose from layer, head,"),
    ],
)
def test_mistyped_names_are_one_line(run: Run, role: str, sort: str, message: str) -> None:
    with pytest.raises(HeadprobeError) as caught:
        list_heads(run, role, sort, 5)
    assert str(caught.value).startswith(message)


def test_a_run_without_claims_shows_the_same_relations(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of 0.1.0 have no ``claims.csv``."""
    columns = ("name", "relation", "gain", "held_out", "n")
    with_claims = [
        [head.text(name) for name in columns] for head in list_heads(run, "syntax", "gain", 9).heads
    ]
    tables = tuple(name for name in run.tables if name != CLAIMS)
    monkeypatch.setattr(Run, "tables", tables)
    assert with_claims == [
        [head.text(name) for name in columns] for head in list_heads(run, "syntax", "gain", 9).heads
    ]


def test_json_has_lists_and_counts_by_role(run: Run) -> None:
    values = list_values(list_heads(run, "syntax", "gain", 2))
    assert (values["role"], values["total"]) == ("syntax", len(names(run, "syntax")))
    assert "syntax" in values["heads"][0]["roles"]
    assert isinstance(values["heads"][0]["n"], int)
    whole = run_values(run)
    assert whole["kinds"] == run.heads["role"].value_counts().to_dict()
    assert whole["roles"]["syntax"] == len(names(run, "syntax"))
    assert next(head["roles"] for head in whole["heads"] if head["role"] == "none") == []


def test_without_gains_the_default_order_is_by_strength(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_heads(run, "syntax").sort == "gain"
    rows = Run.rows

    def without_gains(self: Run, table: str, head: tuple[int, int] | None = None) -> list[Row]:
        cells = {"gain": "", "role": "unnamed", "roles": "unnamed"}
        return [Row({**row.cells, **cells}) for row in rows(self, table, head)]

    monkeypatch.setattr(Run, "rows", without_gains)
    listed = list_heads(run, "unnamed")
    assert listed.sort == "strength"
    strengths = [head.number("strength") or 0.0 for head in listed.heads]
    assert strengths == sorted(strengths, reverse=True)


def test_numbers_of_a_role_without_relation_are_not_those_of_the_best_relation(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of positional heads: the best relation of ``heads.csv`` earned them nothing."""
    rows = Run.rows

    def positional(self: Run, table: str, head: tuple[int, int] | None = None) -> list[Row]:
        cells = {"role": "positional", "roles": "positional"} if table == HEADS else {}
        return [Row({**row.cells, **cells}) for row in rows(self, table, head)]

    monkeypatch.setattr(Run, "rows", positional)
    for head in list_heads(run, "positional").heads:
        assert head.text("relation") == head.text("gain") == head.text("n") == ""
