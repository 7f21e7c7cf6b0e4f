"""The tables carry what docs/output.md promises, and come back as they went."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from headprobe.analysis.evidence import BEATS
from headprobe.analysis.intervals import find_power
from headprobe.errors import HeadprobeError
from headprobe.format import relation_name
from headprobe.results import tables as frames
from headprobe.results.claims import claims_table
from headprobe.roles.rules import load_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.tables import read_frame
from headprobe.vocabulary import Relation
from tests.helpers.judged import conduct, evidence, shape, verdicts
from tests.helpers.synthetic import HOSTILE, PAIRS, SKIPPED

HEADS = """
    layer, head, name, kv_group, role, roles, strength, reason, sink, self, previous, entropy,
    distance, punctuation, output_norm, positional, positional_length, positional_rows,
    duplicate_token, duplicate_token_gain_low, duplicate_token_mass, induction,
    induction_gain_low, induction_mass, agreement, agreement_low, moved, idle, repeater_of,
    cluster, best_relation, best_looks_to, top1, baseline, baseline_top1, gain,
    gain_low, gain_high, q, beats
""".replace(",", " ").split()
RELATIONS = """
    layer, head, name, family, relation, looks_to, n, mass, kept, share, share_norm, habit_share,
    top1, offset_top1, start_top1, chance_top1, uniform_top1, habit_top1, habit_expected,
    same_form_top1, category_top1, category_gain, category_gain_low, baseline, baseline_top1,
    gain, gain_low, gain_high, gain_a, gain_b, p, q, beats
""".replace(",", " ").split()
DOMAINS = """
    layer, head, name, family, relation, looks_to, domain, n, top1, baseline, baseline_top1, gain
""".replace(",", " ").split()
POWER = """
    family, relation, looks_to, n, forms, document_folds, form_folds, reliability, detectable,
    can_say, why, best_head, best_gain
""".replace(",", " ").split()
PAIR_COLUMNS = ["name_a", "name_b", "affinity", "output_cosine", "same_kv_group"]


def in_order(promised: list[str], columns: pd.Index) -> bool:
    places = [list(columns).index(name) for name in promised]
    return places == sorted(places)


def test_columns_have_the_documented_order(run: Run) -> None:
    assert in_order(HEADS, run.heads.columns)
    assert in_order(RELATIONS, run.relations.columns)
    assert in_order(DOMAINS, run.domains.columns)
    assert in_order(POWER, run.power.columns)
    assert in_order(PAIR_COLUMNS, run.pairs.columns)
    assert in_order(["source", "what", "reason"], run.skipped.columns)


def test_columns_without_a_source_are_absent(run: Run) -> None:
    later = {"nearest_mention_top1", "last_subject_top1"}
    assert not later & set(run.relations.columns)


def test_tables_keep_values_and_dtypes_on_disk(run: Run) -> None:
    found = evidence(4, 8)
    made = {
        "heads": frames.heads_table(found, shape(4, 8), conduct(4, 8), verdicts(found), (4,) * 4),
        "relations": frames.relations_table(found, verdicts(found)),
        "domains": frames.domains_table(found, verdicts(found)),
        "claims": claims_table(found, conduct(4, 8), verdicts(found)),
        "power": frames.power_table(found, find_power(found, load_rules())),
        "pairs": frames.pairs_table(PAIRS),
        "skipped": frames.skipped_table(SKIPPED),
    }
    for name, frame in made.items():
        read = getattr(run, name)
        pd.testing.assert_frame_equal(read, frame, rtol=1e-5, atol=1e-9, check_dtype=True)


def test_claims_are_the_roles_of_the_verdicts_with_their_numbers() -> None:
    found = evidence(4, 8)
    judged = verdicts(found)
    claims = claims_table(found, conduct(4, 8), judged)
    earned = sorted((each.layer, each.head, role) for each in judged for role in each.roles)
    columns = (claims["layer"], claims["head"], claims["role"])
    assert sorted(zip(*columns, strict=True)) == earned
    relations = frames.relations_table(found, judged).set_index(
        ["layer", "head", "family", "relation", "looks_to"]
    )
    named = claims[claims["relation"].notna()]
    assert len(named) > 3
    for claim in named.itertuples():
        row = relations.loc[(claim.layer, claim.head, claim.family, claim.relation, claim.looks_to)]
        assert (claim.gain, claim.gain_low, claim.held_out) == (
            row["gain"],
            row["gain_low"],
            row["gain_b"],
        )
    for _, group in claims.groupby("role"):
        assert group["strength"].dropna().is_monotonic_decreasing


def test_heads_csv_has_groups_and_roles() -> None:
    found = evidence(2, 8)
    heads = frames.heads_table(found, shape(2, 8), conduct(2, 8), verdicts(found), (4, 2))
    assert heads["kv_group"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 0, 0, 0, 0, 1, 1, 1, 1]
    assert heads["name"].tolist()[:2] == ["L0H0", "L0H1"]
    best = found.gain.argmax(axis=2).ravel()
    assert np.allclose(heads["gain"], found.gain.reshape(16, -1)[np.arange(16), best])
    for roles, role in zip(heads["roles"], heads["role"], strict=True):
        assert (roles.split(";")[0] if pd.notna(roles) else "none") == role


def test_relations_csv_has_earned_roles() -> None:
    found = evidence(2, 8)
    judged = verdicts(found)
    relations = frames.relations_table(found, judged)
    earned = {(v.layer, v.head, claim.relation): claim.role for v in judged for claim in v.claims}
    assert relations["role"].notna().sum() == len(earned) > 0
    asked = len(found.relations)
    for place, role in relations["role"].dropna().items():
        row = relations.loc[place]
        assert earned[row["layer"], row["head"], place % asked] == role


def test_baselines_of_other_families_are_empty_cells(run: Run) -> None:
    named = run.relations.groupby("family")["same_form_top1"]
    assert named.count().to_dict() == {"coreference": 32, "punctuation": 0, "syntax": 0}


def test_tables_have_the_beaten_controls() -> None:
    found = evidence(2, 8)
    relations = frames.relations_table(found)
    beats = relations["beats"].fillna("").to_numpy().reshape(found.gain.shape)
    assert set(beats.ravel()) == {"", "distance", "category"}
    assert (beats == np.array(BEATS)[found.beats]).all()
    heads = frames.heads_table(found, shape(2, 8), conduct(2, 8), verdicts(found), (4, 2))
    best = found.gain.argmax(axis=2)
    assert (heads["beats"].fillna("") == beats.reshape(16, -1)[range(16), best.ravel()]).all()


def test_domains_csv_has_beaten_and_best_relations() -> None:
    found = evidence(2, 8)
    judged = verdicts(found)
    domains = frames.domains_table(found, judged)
    told = found.beats > 0
    for verdict in judged:
        told[verdict.layer, verdict.head, verdict.best_relation] = True
    assert len(domains) == told.sum() < told.size
    assert set(domains["domain"]) == {"fiction"}  # nobody talks in these instances
    names = [relation_name(relation) for relation in found.relations]
    for row in domains.itertuples():
        seat = (row.layer, row.head, names.index(row.relation))
        assert told[seat]
        assert (row.n, row.top1) == (found.n[seat[2]], found.domain_top1[(0, *seat)])


def test_power_names_the_best_head_if_there_is_one() -> None:
    found = evidence(2, 8)
    judged = find_power(found, load_rules())
    nobody = replace(judged, best=np.full(len(found.n), -1))
    best = found.gain_a.reshape(16, -1).argmax(0)
    named = frames.power_table(found, judged)["best_head"]
    assert named.tolist() == [f"L{number // 8}H{number % 8}" for number in best]
    assert frames.power_table(found, nobody)["best_head"].isna().all()


def test_tables_can_be_empty() -> None:
    found = evidence(1, 2, ())
    judged = [
        v.__class__(v.layer, v.head, "none", (), None, "no relation", False, None, None, None)
        for v in verdicts(evidence(1, 2))
    ]
    heads = frames.heads_table(found, shape(1, 2), conduct(1, 2), judged, (2,))
    assert heads["gain"].isna().all()
    assert heads["best_relation"].isna().all()
    assert (
        len(frames.relations_table(found, judged)) == len(frames.domains_table(found, judged)) == 0
    )
    assert len(frames.power_table(found, find_power(found, load_rules()))) == 0
    assert frames.pairs_table(()).columns.tolist()[:5] == PAIR_COLUMNS
    assert len(frames.skipped_table(())) == 0


def test_strict_relations_carry_their_suffix_once() -> None:
    assert relation_name(Relation("c", "pronoun", "a", strict=True)) == "pronoun-strict"
    assert relation_name(Relation("c", "pronoun-strict", "a", strict=True)) == "pronoun-strict"


@pytest.mark.parametrize("table", run_folder.TABLES)
def test_no_cell_of_a_hostile_run_starts_a_formula(hostile_run: Run, table: str) -> None:
    rows = hostile_run.rows(table)
    assert rows
    for row in rows:
        for column, cell in row.cells.items():
            if not cell.lstrip("-").replace(".", "").replace("e-", "").isdigit():
                assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), column
            assert "\x1b" not in cell
            assert "\u202e" not in cell


def test_hostile_names_are_readable_in_tables(hostile_run: Run) -> None:
    assert hostile_run.relations["looks_to"].eq("=2+3").any()
    assert any(str(role).startswith("=cmd") for role in hostile_run.relations["role"])
    assert HOSTILE[:4] == "=cmd"


def test_rows_of_one_head_are_read_without_the_others(run: Run) -> None:
    rows = run.rows(run_folder.RELATIONS, (1, 2))
    assert {(row.whole("layer"), row.whole("head")) for row in rows} == {(1, 2)}
    everything = run.rows(run_folder.RELATIONS)
    assert [row.cells for row in rows] == [
        row.cells for row in everything if row.text("name") == "L1H2"
    ]


@pytest.mark.parametrize("content", [None, b"", b"layer,head,gain\n0,0,much\n", b"layer\n\xff\n"])
def test_an_unreadable_table_is_a_user_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "heads.csv").write_bytes(content)
    with pytest.raises(HeadprobeError):
        read_frame(tmp_path / "heads.csv")
