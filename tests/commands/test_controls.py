"""The controls: measured beside the checkpoint, judged like it, taken over where they are known."""

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel

import headprobe
from headprobe.analysis.shuffled_links import shuffle_links
from headprobe.commands import scan as scan_module
from headprobe.model.twin import build_twin
from headprobe.runs.folder import Run
from headprobe.runs.sums import Tallies
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.progress import Remembering
from tests.helpers.tiny import build

Scan = Callable[..., Run]


def models_alive() -> int:
    gc.collect()
    return sum(type(thing) is LlamaForCausalLM for thing in gc.get_objects())


def test_the_twin_has_the_same_shape_and_other_weights(
    scanned: Scan, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[PreTrainedModel] = []
    of_others = models_alive()

    def watched(*arguments: object, **options: object) -> PreTrainedModel:
        assert models_alive() == of_others, "the checkpoint is still in memory"
        built.append(build_twin(*arguments, **options))
        return built[-1]

    monkeypatch.setattr(scan_module, "build_twin", watched)
    state = torch.random.get_rng_state()
    run = scanned(twin=True)
    assert torch.equal(state, torch.random.get_rng_state())
    (note,) = run.manifest.controls
    assert (note.control, note.taken_from, len(note.key)) == ("twin", None, 64)
    assert "controls" in run.manifest.seconds
    weights = built[0].model.layers[0].self_attn.q_proj.weight
    assert 0.01 < weights.std() < 0.03  # transformers' own initial weights, not the checkpoint's
    twin, own = Tallies.load(run.path / "twin.npz"), run.tallies
    assert {name: sums.shape for name, sums in twin.arrays.items()} == {
        name: sums.shape for name, sums in own.arrays.items()
    }
    assert not np.allclose(twin["mass"], own["mass"])
    assert {path.name for path in run.path.iterdir()} >= {"twin.npz", "controls.csv"}


def test_the_twin_equals_a_scan_of_its_weights(scanned: Scan, tmp_path: Path) -> None:
    run = scanned(twin=True, seed=3)
    torch.manual_seed(3)
    config = LlamaForCausalLM.from_pretrained(run.manifest.model.asked).config
    folder = save_checkpoint(tmp_path / "twin", LlamaForCausalLM(config).eval())
    alone = scanned(model=folder, out=tmp_path / "alone", seed=3)
    twin = Tallies.load(run.path / "twin.npz")
    for name in ("mass", "share_by_form", "profile", "output_square"):
        assert np.allclose(twin[name], alone.tallies[name], rtol=1e-5), name
    differing = np.unpackbits(twin["hits"] ^ alone.tallies["hits"])
    assert differing.mean() < 1e-4
    best = run.controls.dropna(subset=["name"]).iloc[0]
    theirs = alone.relations
    asked = theirs[
        (theirs["relation"] == best["relation"])
        & (theirs["family"] == best["family"])
        & (theirs["looks_to"] == best["looks_to"])
    ]
    assert best["gain_low"] == pytest.approx(asked["gain_low"].max(), abs=1e-5)
    assert best["name"] in set(
        asked.loc[asked["gain_low"] > asked["gain_low"].max() - 1e-5, "name"]
    )


def test_shuffled_links_use_the_same_model(scanned: Scan) -> None:
    run = scanned(shuffle=True)
    (note,) = run.manifest.controls
    shuffled = Tallies.load(run.path / "shuffled.npz")
    for name in ("sink", "entropy", "profile", "output_square"):
        assert np.allclose(shuffled[name], run.tallies[name]), name
    assert not np.allclose(shuffled["mass"], run.tallies["mass"])
    asked = shuffle_links(run.instances, note.seed)
    assert len(shuffled["hits"]) == asked.first_instance[-1]
    assert set(run.controls["control"]) == {"shuffled"}


def test_controls_are_reused_from_other_runs(
    scanned: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scanned(twin=True, shuffle=True, out=tmp_path / "first")
    again = scanned(twin=True, seed=1, out=tmp_path / "other-seed")
    assert again.manifest.controls[0].taken_from is None

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("built although it is known")

    monkeypatch.setattr(scan_module, "build_twin", refuse)
    second = scanned(twin=True, shuffle=True, out=tmp_path / "second", rules=None)
    assert [note.taken_from for note in second.manifest.controls] == ["first", "first"]
    for name in ("twin.npz", "shuffled.npz"):
        ours, theirs = (Tallies.load(run.path / name) for run in (first, second))
        assert all(np.array_equal(sums, theirs[key]) for key, sums in ours.arrays.items())
    assert (first.path / "controls.csv").read_bytes() == (second.path / "controls.csv").read_bytes()
    other = save_checkpoint(tmp_path / "model", build("llama", {"num_key_value_heads": 2}, seed=9))
    third = scanned(model=other, twin=True, shuffle=True, out=tmp_path / "third")
    taken = {note.control: note.taken_from for note in third.manifest.controls}
    assert taken["twin"] is not None  # another training of one configuration has the same twin
    assert taken["shuffled"] is None
    (tmp_path / "first" / "twin.npz").write_bytes(b"no archive")
    (tmp_path / "second" / "twin.npz").unlink()
    (tmp_path / "third" / "twin.npz").unlink()
    with pytest.raises(AssertionError, match="built although"):
        scanned(twin=True, out=tmp_path / "fourth")


@pytest.mark.parametrize("change", [{"budget": 40}, {"max_passages": 1}, {"dtype": "bfloat16"}])
def test_controls_with_other_settings_are_not_reused(
    change: dict[str, object], scanned: Scan, tmp_path: Path
) -> None:
    scanned(twin=True, out=tmp_path / "first")
    run = scanned(twin=True, out=tmp_path / "second", **change)
    assert run.manifest.controls[0].taken_from is None


def test_roles_of_controls_are_reported(
    scanned: Scan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rules that ask for nothing name every head, also those of the controls."""
    from headprobe.cli.printing import print_run

    rules = tmp_path / "none.yaml"
    rules.write_text(
        "margin: 0\nmin_n: 1\nmin_mass: 0\nmax_q: 1\nmin_forms: 0\nmin_form_folds: 0\n"
        "confidence: 0.01\nidle: {residual_share: 0}\nmax_bits: 99\n"
        "min_lift: 0\nmin_share_gain: 0\nunnamed: {agreement: 0, moved: 0, min_attention: 0}\n"
    )
    progress = Remembering()
    story = {"probes": "story", "max_passages": 40, "seed": 1}
    run = scanned(twin=True, shuffle=True, rules=rules, progress=progress, **story)
    assert "measuring the random twin" in progress.stages
    notes = {note.control: note for note in run.manifest.controls}
    assert notes["twin"].named > 0
    assert sum(notes["twin"].roles.values()) >= notes["twin"].named
    print_run(run, quiet=False, as_json=False)
    shown = capsys.readouterr().out
    assert f"random twin     {notes['twin'].named} role" in shown
    print_run(run, quiet=False, as_json=True)
    assert '"control_gains"' in capsys.readouterr().out
    rules.write_text("max_bits: 99\n")
    strict = headprobe.judge(run, rules, out=tmp_path / "strict")
    assert strict.manifest.controls[0].named == 0
    assert strict.manifest.controls[0].key == notes["twin"].key


def test_controls_work_without_annotation(scanned: Scan, tmp_path: Path) -> None:
    text = tmp_path / "plain.txt"
    text.write_text("Two cats sat\n")  # without marks and without repeated words
    run = scanned(probes=text, twin=True, shuffle=True)
    assert [note.named for note in run.manifest.controls] == [0, 0]
    assert not len(run.controls)
