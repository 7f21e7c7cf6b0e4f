"""``headprobe prune`` on the demo model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import headprobe
from headprobe.cli.main import run as run_command
from headprobe.commands import prune as command
from headprobe.errors import HeadprobeError
from headprobe.resources import DEMO_MODEL
from headprobe.roles.rules import load_rules
from headprobe.runs.folder import Run
from headprobe.runs.head_mask import HeadMask

pytestmark = pytest.mark.xdist_group("prune")

QUICK = ("--tokens", "80", "--sets", "2")


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return headprobe.scan(
        out=tmp_path_factory.mktemp("prune") / "run", probes=["natural"], max_passages=6
    )


@pytest.fixture
def judged(scanned: Run, tmp_path: Path) -> Run:
    """The run with measured effects: L0H0 does no harm, its key/value head does, L1H3 does; of L1H2
    it is not known."""
    folder = tmp_path / "judged"
    shutil.copytree(scanned.path, folder)
    (folder / "ablation.csv").write_text(
        "set,heads,by,outcome,effect,effect_low,effect_high,usable\n"
        "L0H0,L0H0,zero,loss,0.001,-0.001,0.003,true\n"
        "L0H0,L0H0,mean,loss,0.0005,-0.002,0.002,true\n"
        "L0H1,L0H1,zero,loss,0.001,-0.001,0.003,false\n"
        "L1H3,L1H3,mean,loss,0.05,0.04,0.06,true\n"
        "L1H3,L1H3,zero,loss,-0.01,-0.02,0.01,true\n"
        "L1H2,L1H2,zero,loss,0.001,-0.01,0.012,true\n"
        "L2H0,L2H0,zero,loss,0.005,0.002,0.009,true\n"
        "group:L0G0,L0H0;L0H1,zero,loss,0.02,0.01,0.03,true\n"
        "group:L1G0,L1H0;L1H1,zero,loss,0.00,-0.01,0.009,true\n",
        "utf-8",
    )
    return Run.load(folder)


def prune(run: Run, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run_command(["prune", str(run.path), *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(run: Run, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run_command(["prune", str(run.path), *words, "-q"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_verdicts_follow_from_measured_effects(
    judged: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    values = prune(judged, capsys)
    heads = {row["name"]: row for row in values["heads"]}
    groups = {row["name"]: row for row in values["groups"]}
    model = judged.manifest.model
    assert len(heads) == model.n_layers * model.n_heads
    assert heads["L0H0"]["verdict"] == "remove"
    assert heads["L0H0"]["by"] == "zero"  # the more harmful of two replacements
    assert heads["L0H1"]["verdict"] == "keep"  # its outcome is unusable
    assert heads["L1H3"]["verdict"] == "keep"
    assert "+0.0500" in heads["L1H3"]["reason"]
    assert heads["L1H2"]["verdict"] == "measure"  # no harm is shown, but nor is that it is small
    assert heads["L2H0"]["verdict"] == "remove"  # harm is shown, and that it is small
    assert groups["L0G0"]["verdict"] == "keep"
    assert groups["L1G0"]["verdict"] == "remove"
    assert values["losses"] == []
    assert values["saved"] is None


def test_the_mask_of_verdicts_follows_the_margin_of_the_rules(
    judged: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tmp_path / "mask.json"

    def removed() -> list[tuple[int, int]]:
        prune(judged, capsys, "--mask", str(mask), "--overwrite")
        keep = json.loads(mask.read_text("utf-8"))["keep_heads"]
        return [(at, h) for at, row in enumerate(keep) for h, stays in enumerate(row) if not stays]

    assert removed() == [(0, 0), (1, 0), (1, 1), (2, 0)]
    rules = load_rules()
    replace(rules, causal=replace(rules.causal, max_harm=0.02)).save(judged.path / "rules.yaml")
    assert removed() == [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0)]


def test_idle_heads_and_repeaters_without_a_measurement(
    scanned: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(scanned.path, folder)
    frame = Run.load(folder).heads
    for name, column, value in (("L0H2", "idle", True), ("L2H1", "repeater_of", "L1H1")):
        frame.loc[frame["name"] == name, column] = value
    from headprobe.results.tables import write_csv

    write_csv(frame, folder / "heads.csv")
    values = prune(Run.load(folder), capsys)
    heads = {row["name"]: (row["verdict"], row["reason"]) for row in values["heads"]}
    assert heads["L0H2"] == ("measure", "idle; effect not measured")
    assert heads["L2H1"] == ("measure", "repeats L1H1; effect not measured")
    error = refused(Run.load(folder), capsys, "--mask", str(tmp_path / "mask.json"))
    assert "no head can go" in error and "ablate --each" in error


def test_the_chosen_heads_are_printed(scanned: Run, capsys: pytest.CaptureFixture[str]) -> None:
    values = prune(scanned, capsys, "--groups", "1", *QUICK)
    assert run_command(["prune", str(scanned.path), "--groups", "1", *QUICK, "-q"]) == 0
    shown = capsys.readouterr().out
    assert "1 KV group per layer" in shown
    chosen = [
        f"L{layer}H{head}"
        for layer, row in enumerate(values["keep_heads"])
        for head, stays in enumerate(row)
        if not stays
    ]
    assert " ".join(chosen) in " ".join(shown.split())


def test_groups_are_removed_and_the_checkpoint_loads(
    scanned: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = tmp_path / "new" / "pruned", tmp_path / "mask.json"
    words = ("--groups", "1", "--save", str(folder), "--mask", str(file), *QUICK)
    values = prune(scanned, capsys, *words)
    model, saved = scanned.manifest.model, values["saved"]
    groups = model.n_kv_heads[0]
    mask = json.loads(file.read_text("utf-8"))
    assert mask == {key: value for key, value in values.items() if key != "saved"}
    assert [row.count(False) for row in mask["keep_groups"]] == [1] * model.n_layers
    assert mask["model"]["weights_sha256"] == model.weights_sha256
    assert mask["groups_removed"] == 1
    assert [row["set"] for row in mask["losses"]] == [
        "chosen", "random", "W_O magnitude", "first-token sink", "output norm",
    ]  # fmt: skip
    for row in mask["losses"]:
        assert row["heads"] == model.n_layers * model.n_heads // groups
        assert row["effect_min"] <= row["effect"] <= row["effect_max"]
        assert row["loss"] == pytest.approx(row["base"] + row["effect"])

    loaded = AutoModelForCausalLM.from_pretrained(folder)
    origin = AutoModelForCausalLM.from_pretrained(DEMO_MODEL)
    assert loaded.config.num_key_value_heads == groups - 1
    sizes = [sum(p.numel() for p in each.parameters()) for each in (origin, loaded)]
    gone = model.n_layers * model.head_dim * origin.config.hidden_size
    assert sizes[0] - sizes[1] == gone * (2 * model.n_heads // groups + 2)
    assert saved["largest_difference"] < 1e-4
    text = "The cat sat down because it was tired."
    tokens = [
        AutoTokenizer.from_pretrained(each)(text)["input_ids"] for each in (DEMO_MODEL, folder)
    ]
    assert tokens[0] == tokens[1]
    assert not list(tmp_path.glob("**/.*"))

    # The mask makes the same checkpoint again
    again = tmp_path / "again"
    prune(scanned, capsys, "--apply", str(file), "--save", str(again), *QUICK)
    with torch.inference_mode():
        ids = torch.tensor([tokens[0]])
        logits = [
            AutoModelForCausalLM.from_pretrained(each)(ids).logits for each in (folder, again)
        ]
    assert torch.equal(*logits)


def test_heads_are_silenced_up_to_a_loss(
    scanned: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pruned"
    values = prune(scanned, capsys, "--max-loss", "0.5", "--save", str(folder), *QUICK)
    gone = [
        (layer, h)
        for layer, row in enumerate(values["keep_heads"])
        for h, x in enumerate(row)
        if not x
    ]
    assert gone
    assert values["replacement"] == "mean"
    assert values["groups_removed"] == 0
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    width = scanned.manifest.model.head_dim
    for layer, head in gone:
        projection = loaded.model.layers[layer].self_attn.o_proj
        assert not projection.weight[:, head * width : (head + 1) * width].any()
        assert projection.bias.any()

    # Only with --overwrite, and never over files of others
    words = ("--max-loss", "0.5", "--save", str(folder), "--by", "zero", *QUICK)
    assert "--overwrite" in refused(scanned, capsys, *words)
    prune(scanned, capsys, *words, "--overwrite")
    assert (
        AutoModelForCausalLM.from_pretrained(folder).model.layers[0].self_attn.o_proj.bias is None
    )
    (folder / "notes.txt").write_text("mine", "utf-8")
    assert "notes.txt" in refused(scanned, capsys, *words, "--overwrite")
    assert (folder / "notes.txt").read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--groups", "0"), "Give 1 to"),
        (("--groups", "99"), "one must remain"),
        (("--groups", "-1"), "one must remain"),
        (("--max-loss", "nan"), "above 0"),
        (("--max-loss", "inf"), "above 0"),
        (("--max-loss", "-0.1"), "above 0"),
        (("--max-loss", "0.1", "--groups", "1"), "different ways"),
        (("--groups", "1", "--by", "mean"), "Leave --by out"),
        (("--groups", "1", "--tokens", "0"), "1 or more"),
        (("--groups", "1", "--sets", "-1"), "0 or more"),
        (("--apply", "nothing.json"), "is not a head mask"),
        (("--max-loss", "0.1", "--mask", "nowhere/mask.json"), "no such folder"),
    ],
)
def test_bad_options_are_one_line_before_the_model_is_loaded(
    scanned: Run,
    words: tuple[str, ...],
    part: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "measured_model", None)
    assert part in refused(scanned, capsys, *words, "--save", "pruned")
    assert not list(tmp_path.iterdir())


def test_without_a_removable_head_the_remedy_is_named(
    scanned: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("--mask", str(tmp_path / "m.json")), ("--save", str(tmp_path / "pruned"))):
        assert "headprobe ablate --each" in refused(scanned, capsys, *words)
    assert not list(tmp_path.iterdir())


def test_targets_of_others_are_never_replaced(
    judged: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder, link = tmp_path / "f.json", tmp_path / "folder", tmp_path / "link"
    file.write_text("{}", "utf-8")
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"theirs")
    link.symlink_to(folder)
    for words in (("--mask", str(file)), ("--save", str(folder)), ("--save", str(link))):
        assert "exists and is not" in refused(judged, capsys, *words, "--overwrite")
    assert "exists and is not" in refused(judged, capsys, "--save", str(file), "--overwrite")
    assert file.read_text("utf-8") == "{}"
    assert (folder / "model.safetensors").read_bytes() == b"theirs"


def test_a_failure_while_saving_leaves_nothing(
    judged: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from headprobe.commands import pruned_checkpoint

    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr(pruned_checkpoint, "stock_losses", lambda _, part: np.zeros(len(part.row)))
    target = tmp_path / "deep" / "pruned"
    assert "something else" in refused(judged, capsys, "--save", str(target), *QUICK)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_masks_of_other_models_and_damaged_ones(judged: Run, tmp_path: Path) -> None:
    model, file = judged.manifest.model, tmp_path / "mask.json"
    keep = ((False,) + (True,) * (model.n_heads - 1),) * model.n_layers
    good = HeadMask(keep, "zero", 0, {}).values(model, "0")
    file.write_text(json.dumps(good), "utf-8")
    assert HeadMask.load(file, model).removed == tuple((at, 0) for at in range(model.n_layers))
    with pytest.raises(HeadprobeError, match="of another model"):
        HeadMask.load(file, replace(model, weights_sha256="0" * 64))
    for change, message in (
        ({"format": "x"}, "its format"),
        ({"version": 2}, "its version"),
        ({"model": None}, "is not a head mask"),
        ({"keep_heads": [[1, 0]]}, "true and false"),
        ({"keep_heads": [[True]]}, "of another model"),
        ({"keep_heads": [[True] * model.n_heads] * model.n_layers}, "keeps all heads"),
        ({"replacement": "median"}, "neither zero nor mean"),
    ):
        file.write_text(json.dumps({**good, **change}), "utf-8")
        with pytest.raises(HeadprobeError, match=message):
            HeadMask.load(file, model)
    file.write_text(json.dumps(good).replace("false", "NaN"), "utf-8")
    with pytest.raises(HeadprobeError, match="NaN"):
        HeadMask.load(file, model)


def test_whole_groups(judged: Run) -> None:
    model = replace(judged.manifest.model, n_layers=2, n_heads=6, n_kv_heads=(3, 3))
    a, b, c = (False, False, True, True, True, True), (True,) * 4 + (False,) * 2, (False,) * 6
    assert HeadMask((a, b), "zero", 0, {}).whole_groups(model) == 1
    assert HeadMask((a, b), "mean", 0, {}).whole_groups(model) == 0
    assert HeadMask((c, c), "zero", 0, {}).whole_groups(model) == 0
    assert HeadMask((a, (False, *b[1:])), "zero", 0, {}).whole_groups(model) == 0
    assert HeadMask((a, (True,) * 6), "zero", 0, {}).whole_groups(model) == 0


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"kind": "memory"}, "save_pretrained"),
        ({"adapter": "lora"}, "merge_and_unload"),
        ({"quantization": "4-bit (bitsandbytes)"}, "quantised from"),
    ],
)
def test_models_that_cannot_be_saved(
    scanned: Run, changes: dict[str, str], part: str, tmp_path: Path
) -> None:
    manifest = replace(scanned.manifest, model=replace(scanned.manifest.model, **changes))
    options = command.PruneOptions(groups=1, save=tmp_path / "pruned")
    with pytest.raises(HeadprobeError, match=part):
        options.check(Run(scanned.path, manifest))


def test_from_python(scanned: Run, tmp_path: Path) -> None:
    result = headprobe.prune(scanned, groups=1, save=tmp_path / "pruned", tokens=200, sets=1)
    assert result.losses["set"].iloc[0] == "chosen"
    assert len(result.heads) == scanned.manifest.model.n_layers * scanned.manifest.model.n_heads
    assert result.saved is not None and result.saved.path.is_dir()
    assert result.mask is not None and result.mask.groups_removed == 1
    with pytest.raises(HeadprobeError, match="one must remain"):
        headprobe.prune(str(scanned.path), groups=99)
    for options in ({"groups": "1"}, {"groups": True}, {"max_loss": "x"}, {"tokens": 1.5}):
        with pytest.raises(HeadprobeError, match="wrong type"):
            headprobe.prune(scanned, **options)
    with pytest.raises(HeadprobeError, match="no such replacement"):
        headprobe.prune(scanned, max_loss=0.1, by="median")
