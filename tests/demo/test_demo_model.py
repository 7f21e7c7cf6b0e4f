"""The bundled model: it is small, loads in transformers, and has heads with roles."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from headprobe.cli import main as command_line
from headprobe.commands.scan import scan
from headprobe.config import ScanConfig
from headprobe.resources import DEMO_MODEL
from headprobe.runs.folder import Run
from tests.golden.cases import DEMO_PASSAGES, record
from tests.helpers.checkpoints import SHARED
from tests.helpers.once import session_folder
from tests.helpers.progress import Remembering

pytestmark = pytest.mark.xdist_group("demo")  # one scan of the demo model serves all


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The bundled model on bundled probes: the golden case, scanned once for all workers."""
    return Run.load(record("demo", session_folder(tmp_path_factory) / "golden") / "run")


def test_size_and_model_card() -> None:
    files = {path.name: path.stat().st_size for path in DEMO_MODEL.iterdir()}
    assert sum(files.values()) < 8 << 20
    card = (DEMO_MODEL / "README.md").read_text("utf-8").lower()
    for fact in ("licen", "tokens", "bits per character", "seed", "hours", "python -m headprobe"):
        assert fact in card, fact


def test_transformers_loads_it_and_it_generates_english() -> None:
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL)
    model = AutoModelForCausalLM.from_pretrained(DEMO_MODEL, dtype=torch.float32)
    config = model.config
    assert config.num_hidden_layers >= 6
    assert config.num_hidden_layers * config.num_attention_heads >= 36
    assert config.num_key_value_heads < config.num_attention_heads
    prompt = tokenizer("Once upon a time there was a little girl", return_tensors="pt")
    assert prompt["input_ids"][0, 0] == tokenizer.bos_token_id
    written = model.generate(
        input_ids=prompt["input_ids"], max_new_tokens=40, do_sample=False, pad_token_id=0
    )
    text = tokenizer.decode(written[0], skip_special_tokens=True)
    words = text.lower().split()
    assert words[:5] == ["once", "upon", "a", "time", "there"]
    assert len(set(words)) > 20


def test_heads_of_the_bundled_model_have_roles(demo_run: Run) -> None:
    earned = set(";".join(demo_run.heads["roles"].dropna()).split(";"))
    assert {"syntax", "punctuation", "word-class"} <= earned
    assert demo_run.manifest.model.kind == "bundled"
    assert demo_run.manifest.unusable_words < 0.05
    assert [probe.name for probe in demo_run.manifest.probes] == [
        "dialogue",
        "natural",
        "news",
        "semantic",
        "story",
    ]


def test_roles_are_the_same_in_half_precision(demo_run: Run, tmp_path: Path) -> None:
    """Weights, too, are rounded to eight bits: numbers agree within what that allows."""
    passages = int(DEMO_PASSAGES)
    out = tmp_path / "run"
    config = ScanConfig(out=out, device="cpu", dtype="bfloat16", max_passages=passages)
    half = scan(config, Remembering())
    pd.testing.assert_series_equal(half.heads["role"], demo_run.heads["role"])
    for column, most in (("top1", 0.06), ("share", 0.003), ("mass", 0.003)):
        whole = demo_run.relations[column].where(demo_run.relations["n"] >= 50)
        apart = (half.relations[column] - whole).abs()
        assert apart.max() < most, column
        assert apart.mean() < most / 10, column


def test_show_head_reads_the_bundled_model(
    demo_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "The animal didn't cross the street because it was too tired."
    assert command_line.run(["show-head", "L0H0", "-r", str(demo_run.path), "--text", text]) == 0
    assert "animal" in capsys.readouterr().out


def test_random_twin_earns_no_role(demo_run: Run) -> None:
    """The golden scan measured the twin as its control; ``test_controls`` shows that a control is
    what a scan of the twin would be."""
    [twin] = [note for note in demo_run.manifest.controls if note.control == "twin"]
    assert twin.named == 0
    assert set(twin.roles) <= {"redundant"}


@pytest.mark.parametrize(("name", "passages"), [("ewt", 120), ("gum", 60)])
def test_roles_hold_on_unseen_treebanks(name: str, passages: int, tmp_path: Path) -> None:
    """Text of others: a syntax and a punctuation head with gain_low above the margin of a role."""
    probes = SHARED / "treebanks" / f"ud_english_{name}" / f"en_{name}-ud-dev.conllu"
    if not probes.is_file():
        pytest.skip(f"../shared has no {probes.name}")
    out = tmp_path / "run"
    config = ScanConfig(probes=(str(probes),), out=out, device="cpu", max_passages=passages)
    found = scan(config, Remembering()).relations
    assert best(found, "syntax") > 0.10
    assert best(found, "punctuation") > 0.10


def best(relations: pd.DataFrame, family: str) -> float:
    enough = relations[(relations["family"] == family) & (relations["n"] >= 200)]
    return float(enough["gain_low"].max())
