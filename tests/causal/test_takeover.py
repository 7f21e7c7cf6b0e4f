"""Planted engines: which run, which start, and what a label explains, in the whole pipeline."""

from pathlib import Path

import pytest

import headprobe
from headprobe.commands.selftest import ENGINE_DOCUMENTS, engine_case
from headprobe.planted.engines import (
    BACKUP,
    CASES,
    COPY,
    ENGINE,
    ENGINE_HEADS,
    UNRELATED,
    expected_verdicts,
    plant_engines,
)
from headprobe.results.importance import NEITHER, RUNNING, STARTS, spare_engines
from headprobe.vocabulary import head_name

pytestmark = [
    pytest.mark.xdist_group("engines"),
    # These models know none of the words of the built-in pairs
    pytest.mark.filterwarnings("ignore:600 of 600 minimal pairs are left out"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    for case in CASES:
        result = engine_case(case, folder / case, 0)
        assert result.faults == ()
        assert result.planted == result.found
    return folder


def takeovers(folder: Path, case: str):
    return headprobe.load(folder / case / "run").takeovers.set_index(["ablated", "responder"])


@pytest.mark.parametrize("case", CASES)
def test_verdicts_are_those_planted(folder: Path, case: str) -> None:
    """A sole carrier has no spare, copies run, a backup starts, an unrelated head does neither, and
    heads with random weights do not take over."""
    table = takeovers(folder, case)
    wanted = {
        (head_name(*ablated), head_name(*other)): verdict
        for (ablated, other), verdict in expected_verdicts(case).items()
    }
    found = table.loc[table["verdict"] != NEITHER, "verdict"].to_dict()
    assert found == wanted
    assert set(table["verdict"]) <= {RUNNING, STARTS, NEITHER}
    rows = table.reset_index().to_dict("records")
    assert spare_engines(rows).startswith(f"Spare engines: {'yes' if wanted else 'none'}")


def test_the_numbers_say_what_takes_over(folder: Path) -> None:
    """A copy's own output stays as it is; a backup's appears, and its role score rises."""
    engine, copy, backup, other = (head_name(*head) for head in ENGINE_HEADS)
    parallel = takeovers(folder, "parallel").loc[engine, copy]
    assert parallel["interaction_low"] > 2
    assert parallel["interaction_control_q95"] < 0.01
    assert parallel["controls"] >= 19
    assert abs(parallel["reaction"]) < 1e-3 < parallel["direct_effect_change"]
    started = takeovers(folder, "backup").loc[engine, backup]
    assert started["top1_after"] == 1 > started["top1_before"]
    assert started["reaction_low"] > 2
    assert started["q"] < 1e-6
    unrelated = takeovers(folder, "backup").loc[engine, other]
    assert unrelated["verdict"] == NEITHER and abs(unrelated["reaction"]) < 1e-3


def test_a_label_explains_one_head_and_not_another(folder: Path) -> None:
    """Recovery is 1 where the label is all that the head does; where it works in other rows, the
    label recovers no more than the control."""
    sole, other = (
        headprobe.load(folder / case / "run")
        .ablate(head_name(*ENGINE), sets=0)
        .set_index("outcome")
        for case in ("sole", "elsewhere")
    )
    explained = sole.loc["query-loss"]
    assert explained["recovery"] == pytest.approx(1, abs=0.02)
    assert explained["recovery_control"] < 0.2
    assert explained["recovery_above_control_low"] > 0.8
    assert sole.loc["loss", "recovery_low"] > 0.9
    assert sole.loc["loss", "recovery_control"] < 0.2
    misnamed = other.loc["loss"]
    assert misnamed["effect_low"] > 0.1
    assert misnamed["recovery"] < 0.7
    assert misnamed["recovery"] == pytest.approx(misnamed["recovery_control"], abs=0.02)


def test_a_model_in_memory_is_ablated_as_its_folder(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = folder / "sole" / "model"
    model = AutoModelForCausalLM.from_pretrained(place)
    tokenizer = AutoTokenizer.from_pretrained(place)
    texts = [str(folder / "sole" / "texts.conllu")]
    run = headprobe.scan(model, texts, tokenizer=tokenizer, out=tmp_path / "run")
    with pytest.raises(headprobe.HeadprobeError, match="in memory"):
        run.ablate("L2H2", sets=0)
    named = {"model": model, "tokenizer": tokenizer}
    mine = headprobe.ablate(run, "L2H2", sets=0, **named)
    theirs = headprobe.load(folder / "sole" / "run").ablate("L2H2", sets=0)
    assert mine["effect"].tolist() == pytest.approx(theirs["effect"].tolist(), abs=1e-5)
    assert run.ablation["set"].tolist() == ["L2H2", "L2H2"]
    assert headprobe.takeover(run, ["L4H1"], tokens=200, **named)["verdict"].tolist() == []
    with pytest.raises(headprobe.HeadprobeError, match="no replacement"):
        run.ablate("L2H2", by="median", **named)


def test_engines_stand_in_different_layers(tmp_path: Path) -> None:
    assert len({ENGINE[0], COPY[0], UNRELATED[0]}) == 3 and BACKUP[0] > ENGINE[0]
    plant_engines(tmp_path / "model", "backup")
    assert ENGINE_DOCUMENTS >= 20


def test_no_answer_without_any_other_head() -> None:
    assert spare_engines([]) == "Spare engines: unknown, because no other head was tested."
