"""``--dry-run`` says about how long a scan takes, without the weights."""

from pathlib import Path

import pytest

from headprobe.commands import estimate as estimating
from headprobe.commands.scan import plan, scan
from headprobe.config import ScanConfig
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.probes import PROBES
from tests.helpers.progress import Remembering

FACTOR = 3


@pytest.mark.parametrize("controls", [False, True])
def test_time_and_memory_are_within_a_factor_of_three(tmp_path: Path, controls: bool) -> None:
    def config(out: str) -> ScanConfig:
        """Each in a folder of its own, because controls are reused from runs beside a run."""
        return ScanConfig(
            probes=("natural",),
            device="cpu",
            twin=controls,
            shuffle=controls,
            out=tmp_path / out / "run",
        )

    scan(config("first"), Remembering())  # compiles what is compiled once per installation
    for attempt in range(3):  # other programs may slow down one of the two
        planned = plan(config("planned"), Remembering()).estimate
        assert planned is not None
        assert ("controls" in planned.seconds) is controls
        measured = scan(config(f"measured-{attempt}"), Remembering()).manifest
        seconds, expected = sum(measured.seconds.values()), sum(planned.seconds.values())
        if seconds / FACTOR < expected < seconds * FACTOR:
            break
    else:
        pytest.fail(f"{seconds:.1f} s, and the estimate was {expected:.1f} s")
    assert measured.peak_memory_mib is not None
    assert measured.peak_memory_mib / FACTOR < planned.memory_mib
    assert planned.memory_mib < measured.peak_memory_mib * FACTOR


@pytest.mark.parametrize(
    "family", ["gpt_oss", "gemma2", "smollm3", "deepseek_v2", "gpt2", "modernbert-decoder"]
)
def test_models_of_few_layers_stand_for_the_whole(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "model", family)
    config = ScanConfig(
        model=str(tmp_path / "model"), probes=(str(PROBES),), device="cpu", out=tmp_path / "run"
    )
    layers = []
    observe = estimating.observe_model

    def noted(model, *rest):  # type: ignore[no-untyped-def]
        observed = observe(model, *rest)
        layers.append(len(observed.layers))
        return observed

    monkeypatch.setattr(estimating, "observe_model", noted)
    monkeypatch.setattr(estimating, "ALL_LAYERS_BYTES", 0)
    monkeypatch.setattr(estimating, "LAYERS", 1)
    monkeypatch.setattr(estimating, "VOCABULARY", 64)
    assert plan(config, Remembering()).estimate is not None
    assert layers == [1]


def test_without_room_there_is_no_estimate(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "MODEL_SHARE", 0.0)
    config = ScanConfig(
        model=str(checkpoint), probes=(str(PROBES),), device="cpu", out=tmp_path / "run"
    )
    assert plan(config, Remembering()).estimate is None
