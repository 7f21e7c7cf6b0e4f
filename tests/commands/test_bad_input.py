"""What a user can get wrong is said in one line, and nothing is left behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub import errors as hub_errors

import headprobe
from headprobe.errors import HeadprobeError
from headprobe.runs.folder import Run
from tests.helpers.checkpoints import save_checkpoint, toy_tokenizer
from tests.helpers.probes import PROBES
from tests.helpers.progress import Remembering
from tests.helpers.tiny import build

Scan = Callable[..., Run]
Breaker = Callable[[Path], None]


def edit(name: str, **changes: object) -> Breaker:
    def change(folder: Path) -> None:
        values = json.loads((folder / name).read_text("utf-8")) | changes
        values = {key: value for key, value in values.items() if value is not None}
        (folder / name).write_text(json.dumps(values))

    return change


def write(name: str, text: str) -> Breaker:
    return lambda folder: (folder / name).write_text(text) and None


def truncate(size: int) -> Breaker:
    def change(folder: Path) -> None:
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:size])

    return change


def remove(*patterns: str) -> Breaker:
    def change(folder: Path) -> None:
        for pattern in patterns:
            for path in folder.glob(pattern):
                path.unlink()

    return change


REMOTE = {"model_type": "zorkmid", "auto_map": {"AutoConfig": "c.C"}}
CHECKPOINTS: dict[str, tuple[Breaker, str]] = {
    "empty": (remove("*"), "the folder is empty"),
    "no config": (remove("config.json"), "has no config.json"),
    "broken config": (write("config.json", '{"a":'), "not valid JSON"),
    "no model type": (write("config.json", "{}"), "does not know its model type"),
    "unknown type": (edit("config.json", model_type="zorkmid"), "does not know its model type"),
    "remote code": (edit("config.json", **REMOTE), "--trust-remote-code"),
    "no weights": (remove("*.safetensors"), "contains no weights"),
    "truncated": (truncate(5000), "truncated or damaged"),
    "stub": (truncate(5), "truncated or damaged"),
    "other shapes": (edit("config.json", hidden_size=64), "do not have the shapes"),
    "too few layers": (edit("config.json", num_hidden_layers=5), r"weights .* are missing \(18"),
    "another tokenizer": (
        edit("config.json", vocab_size=20),
        r"its tokenizer produces token \d+, but its config.json has 20 tokens",
    ),
    "a slow tokenizer": (remove("tokenizer.json"), "its tokenizer has no fast version"),
    "no tokenizer": (remove("tok*"), "has no tokenizer"),
    "broken tokenizer": (write("tokenizer.json", "{}"), "tokenizer cannot be loaded"),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_an_unusable_checkpoint_is_an_error(
    case: str, checkpoint: Path, scanned: Scan, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    spoil, reason = CHECKPOINTS[case]
    spoil(folder)
    refused(lambda: scanned(model=folder), reason, tmp_path)


def refused(attempt: Callable[[], object], reason: str, folder: Path) -> None:
    """One line that gives the reason; no run folder, whole or partial."""
    with pytest.raises(HeadprobeError, match=reason) as error:
        attempt()
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    left = [path.name for path in folder.iterdir()]
    assert not [name for name in left if name.startswith(("run", ".run", ".headprobe"))]


def test_weights_that_are_not_finite_are_an_error(scanned: Scan, tmp_path: Path) -> None:
    model = build("llama", {})
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 3] = float("nan")
    folder = save_checkpoint(tmp_path / "model", model)
    refused(
        lambda: scanned(model=folder), r"layers\.1\.mlp\.up_proj.* not finite numbers", tmp_path
    )


def test_an_overflow_on_a_late_word_is_an_error(scanned: Scan, tmp_path: Path) -> None:
    """Its weights are numbers and the proof at load sees nothing; the sums would all be NaN."""
    model = build("llama", {})
    token = toy_tokenizer()("did")["input_ids"][-1]
    first = model.model.layers[0]
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 0
        model.model.embed_tokens.weight[token, 0] = 1
        first.self_attn.o_proj.weight[0] = 0
        for part in (first.mlp.up_proj, first.mlp.gate_proj):
            part.weight[:, 0] = 1e20
    folder = save_checkpoint(tmp_path / "model", model)
    probes = tmp_path / "late.txt"
    probes.write_text("The dog saw a cat. " * 40 + "They did", encoding="utf-8")
    refused(lambda: scanned(model=folder, probes=probes), "numbers overflow", tmp_path)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [("bert", {}, "later tokens"), ("bloom", {"n_layer": 2, "n_head": 4}, "none of its layers")],
)
def test_unsupported_architectures_are_an_error(
    kind: str, options: dict[str, int], reason: str, scanned: Scan, tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path / "model", build(kind, options))
    refused(lambda: scanned(model=folder), reason, tmp_path)


def test_a_tokenizer_without_a_start_token_is_an_error(scanned: Scan, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", adds_start=False)
    edit("tokenizer_config.json", bos_token=None, eos_token=None)(folder)
    remove("special_tokens_map.json")(folder)
    refused(lambda: scanned(model=folder), "neither a beginning nor an end token", tmp_path)


@pytest.mark.parametrize("name", ["", "./nowhere", "/no/such/folder", "a/b/c"])
def test_unknown_names_are_an_error(name: str, scanned: Scan, tmp_path: Path) -> None:
    refused(lambda: scanned(model=name), "is empty|no such folder", tmp_path)


RESPONSE = Mock(headers={})  # whichever HTTP library the Hub's client uses
HUB_FAULTS = {
    "the Hub cannot be reached": hub_errors.LocalEntryNotFoundError("no network"),
    "its licence must be accepted": hub_errors.GatedRepoError("gated", response=RESPONSE),
    "no such model on the Hub": hub_errors.RepositoryNotFoundError("none", response=RESPONSE),
    "has no such revision": hub_errors.RevisionNotFoundError("none", response=RESPONSE),
}


@pytest.mark.parametrize("reason", HUB_FAULTS)
def test_errors_of_the_hub_are_explained(
    reason: str, scanned: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Hub's own errors, raised where transformers asks it for a file."""
    monkeypatch.setattr(
        "transformers.utils.hub.hf_hub_download", Mock(side_effect=HUB_FAULTS[reason])
    )
    refused(lambda: scanned(model="some/model"), reason, tmp_path)


PROBE_FILES = {
    "latin.conllu": (b"1\tcaf\xe9\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n", "not UTF-8"),
    "short.conllu": (b"1\tdog\tdog\n\n", ":1: 3 columns"),
    "head.conllu": (b"1\tdog\tdog\tNOUN\t_\t_\t7\tnsubj\t_\t_\n\n", "HEAD 7 is out of range"),
    "empty.conllu": (b"", "holds no sentence"),
    "forward.yaml": (b"- text: It slept.\n  relation: r\n  link: It -> slept\n", ":3: .* forward"),
    "long.txt": (b"word " * 400, "no usable word remains .* longer than the 127 tokens"),
    "probes.csv": (b"a,b\n", "no reader for"),
}


@pytest.mark.parametrize("name", PROBE_FILES)
def test_unusable_probes_are_an_error(name: str, scanned: Scan, tmp_path: Path) -> None:
    content, reason = PROBE_FILES[name]
    probes = tmp_path / name
    probes.write_bytes(content)
    refused(lambda: scanned(probes=probes), reason, tmp_path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "zork"}, "no such device"),
        ({"dtype": "int8"}, "does not run models in it"),
        ({"dtype": "float64"}, "does not run models in it"),
        ({"out": Path("/proc/nothing/run")}, "cannot be written"),
    ],
)
def test_impossible_options_are_an_error(
    options: dict[str, object], reason: str, scanned: Scan, tmp_path: Path
) -> None:
    refused(lambda: scanned(**options), reason, tmp_path)


def test_unused_weights_are_a_warning(checkpoint: Path, scanned: Scan, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    edit("config.json", num_hidden_layers=2, layer_types=None)(folder)
    progress = Remembering()
    run = scanned(model=folder, progress=progress)
    assert run.manifest.model.n_layers == 2
    assert "does not use 9 of its weights" in progress.warnings[0]
    with pytest.warns(UserWarning) as warned:
        headprobe.scan(folder, probes=[PROBES], out=tmp_path / "again", device="cpu")
    said = [str(warning.message) for warning in warned]
    assert any("does not use 9 of its weights" in text for text in said)
    assert any("predicts this text badly" in text for text in said)


def test_many_unusable_words_are_a_warning(scanned: Scan, tmp_path: Path) -> None:
    rows = "\n".join(f"{i}\tw{i}\t_\tX\t_\t_\t_\t_\t_\t_" for i in (1, 2))
    probes = tmp_path / "fused.conllu"
    probes.write_text(
        f"1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n{rows}\n3\tchat\t_\tX\t_\t_\t_\t_\t_\t_\n\n"
    )
    progress = Remembering()
    run = scanned(probes=probes, progress=progress)
    assert run.manifest.unusable_words == pytest.approx(2 / 3)
    assert "67% of the words are unusable" in progress.warnings[0]
