"""Heads nobody trained earn no name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from headprobe.probes.catalog import find_probe_files
from headprobe.runs.folder import Run
from tests.helpers.checkpoints import save_checkpoint
from tests.helpers.tiny import VOCABULARY


@pytest.mark.parametrize(
    ("seed", "groups", "spread"), [(0, 4, 0.02), (1, 2, 0.02), (2, 1, 0.02), (3, 4, 0.4)]
)
def test_random_weights_earn_no_role(
    seed: int, groups: int, spread: float, scanned: Callable[..., Run], tmp_path: Path
) -> None:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=groups,
        max_position_embeddings=256,
        initializer_range=spread,  # the wider, the stronger the tastes for single tokens
        bos_token_id=1,
        eos_token_id=2,
    )
    folder = save_checkpoint(tmp_path / "model", LlamaForCausalLM(config).eval())
    run = scanned(model=folder, probes=find_probe_files(["story"])[0].path, max_passages=60)
    assert run.relations["n"].max() > 1000
    assert set(run.heads["role"]) <= {"none", "redundant"}
    assert run.heads["strength"].isna().all()
    # it is not for want of rows that nobody is positional, copies, or agrees with itself
    assert run.heads["positional_rows"].min() > 1000
    measured = run.heads[["positional", "duplicate_token", "induction", "agreement"]]
    assert measured.notna().to_numpy().all()
