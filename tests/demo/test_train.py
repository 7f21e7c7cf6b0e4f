from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from headprobe.demo.display import Display
from headprobe.demo.schedule import is_checkpoint_step, rate_factor
from headprobe.demo.settings import Settings
from headprobe.demo.train import train
from headprobe.demo.trainer import Trainer
from headprobe.errors import HeadprobeError

pytestmark = pytest.mark.usefixtures("tiny_shape")


def losses(folder: Path) -> list[dict[str, str]]:
    with (folder / "loss.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder).state_dict())


def test_training_lowers_the_loss_and_saves_a_loadable_model(settings: Settings) -> None:
    final = train(settings, Display(), command="the command")
    rows = losses(final)
    first, last = (float(rows[at]["held_out_bits_per_character"]) for at in (0, -1))
    assert last < 0.8 * first

    model = AutoModelForCausalLM.from_pretrained(final)
    tokenizer = AutoTokenizer.from_pretrained(final)
    encoded = tokenizer("Tom saw the", return_tensors="pt")
    assert encoded.input_ids[0, 0] == tokenizer.bos_token_id
    assert model.dtype == torch.bfloat16
    assert model(**encoded).logits.isfinite().all()
    card = (final / "README.md").read_text("utf-8")
    assert "the command" in card
    assert "| tiny.train.txt | ours | CC0 | 1 | 1.0 |" in card
    assert str(settings.out) not in card


def test_checkpoints_follow_the_log_schedule(settings: Settings) -> None:
    train(settings, Display())
    names = sorted(path.name for path in (settings.out / "checkpoints").iterdir())
    assert names[:5] == [f"step-{step:06d}" for step in (0, 1, 2, 4, 8)]
    untrained, trained = (weights(settings.out / "checkpoints" / names[at]) for at in (0, -1))
    assert any(not torch.equal(untrained[name], trained[name]) for name in trained)
    assert [step for step in range(2100) if is_checkpoint_step(step)][-3:] == [512, 1024, 2048]


def test_killed_training_resumes_to_the_same_weights(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(replace(settings, out=settings.out.with_name("other")), Display())

    class KilledError(Exception):
        pass

    step = Trainer.step

    def killed_at_twelve(self: Trainer, fraction: float) -> None:
        if self.steps == 12:
            raise KilledError
        step(self, fraction)
        self.save(settings.out / "state.safetensors", 0.0) if self.steps == 9 else None

    monkeypatch.setattr(Trainer, "step", killed_at_twelve)
    with pytest.raises(KilledError):
        train(settings, Display())
    monkeypatch.setattr(Trainer, "step", step)
    (settings.out / "state.part").write_bytes(b"half a state")
    resumed = train(settings, Display(), resume=True)

    expected, got = weights(undisturbed), weights(resumed)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    curves = [
        [(row["step"], row["tokens"], row["held_out_bits_per_character"]) for row in losses(folder)]
        for folder in (undisturbed, resumed)
    ]
    assert curves[0] == curves[1]


def test_bad_input_gives_a_one_line_error(settings: Settings) -> None:
    with pytest.raises(HeadprobeError, match="exactly one budget"):
        train(replace(settings, minutes=1.0), Display())
    with pytest.raises(HeadprobeError, match="holds no run to resume"):
        train(settings, Display(), resume=True)
    settings.out.mkdir()
    (settings.out / "state.safetensors").touch()
    with pytest.raises(HeadprobeError, match="Add --resume"):
        train(settings, Display())
    settings.keep()
    with pytest.raises(HeadprobeError, match="--seed: is 1, but this run began with 0"):
        train(replace(settings, seed=1), Display(), resume=True)


def test_learning_rate_warms_up_stays_and_decays() -> None:
    assert rate_factor(0.0) < rate_factor(0.01) < rate_factor(0.02) == rate_factor(0.5) == 1.0
    assert rate_factor(0.6) > rate_factor(0.8) > rate_factor(1.0) > 0.0
