"""Quantised checkpoints: they are scanned if their library is installed, else refused."""

import importlib.util
import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import headprobe
from headprobe.commands.scan import plan
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.model.load import CheckpointSource, load_config
from headprobe.model.quantization import LIBRARIES, describe_quantization
from headprobe.progress import SilentProgress
from tests.helpers.checkpoints import save_checkpoint, toy_tokenizer
from tests.helpers.probes import PROBES
from tests.helpers.tiny import build

WIDE = {"hidden_size": 64, "intermediate_size": 128}  # bitsandbytes' blocks are of 64 values


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("plain") / "model", build("llama", WIDE))


def quantised(plain: Path, folder: Path, **options: object) -> Path:
    """A copy whose weights bitsandbytes stores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(
            plain, quantization_config=BitsAndBytesConfig(**options), dtype=torch.float32
        )
        model.save_pretrained(folder)
    toy_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("bits", [4, 8])
def test_bitsandbytes_checkpoint_is_scanned(
    bits: int, plain: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = quantised(plain, tmp_path / "model", **{f"load_in_{bits}bit": True})
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*predicts this text badly")
        run = headprobe.scan(folder, probes=PROBES, out=tmp_path / "run", device="cpu", twin=True)
        whole = headprobe.scan(plain, probes=PROBES, out=tmp_path / "plain", device="cpu")
    assert capfd.readouterr() == ("", "")
    note = run.manifest.model
    assert note.quantization == f"{bits}-bit (bitsandbytes)"
    assert note.dtype == "float32"
    assert whole.manifest.model.quantization is None
    assert note.weights_sha256 != whole.manifest.model.weights_sha256
    # the weights are near those that were quantised, so the heads are
    apart = (run.heads["entropy"] - whole.heads["entropy"]).abs().max()
    assert 0 < apart < {4: 0.5, 8: 0.1}[bits]


def test_plan_describes_the_quantization(plain: Path, tmp_path: Path) -> None:
    folder = quantised(plain, tmp_path / "model", load_in_4bit=True)
    config = ScanConfig(str(folder), (str(PROBES),), tmp_path / "run", device="cpu")
    assert plan(config, SilentProgress()).quantization == "4-bit (bitsandbytes)"


CONFIGURATIONS = {
    "awq": {"bits": 4},
    "gptq": {"bits": 4},
    "hqq": {},
    "quanto": {"weights": "int8"},
    "aqlm": {},
    "vptq": {},
    "auto-round": {"bits": 4},
    "bitsandbytes": {"load_in_4bit": True},
    "torchao": {"quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_version": 2}}},
    "compressed-tensors": {"config_groups": {}},
}
CHECKED_BY = {
    "awq": ("awq", "is_gptqmodel_available"),
    "gptq": ("gptq", "is_optimum_available"),
    "hqq": ("hqq", "is_hqq_available"),
    "quanto": ("quanto", "is_optimum_quanto_available"),
    "aqlm": ("aqlm", "is_aqlm_available"),
    "vptq": ("vptq", "is_vptq_available"),
    "auto-round": ("auto_round", "is_auto_round_available"),
    "bitsandbytes": ("bnb_4bit", "is_bitsandbytes_available"),
    "torchao": ("torchao", "is_torchao_available"),
    "compressed-tensors": ("compressed_tensors", "is_compressed_tensors_available"),
}


def declare(folder: Path, quantization: object) -> Path:
    save_checkpoint(folder)
    values = json.loads((folder / "config.json").read_text("utf-8"))
    values["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("method", CONFIGURATIONS)
def test_missing_quantization_library_gives_a_one_line_error(
    method: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = declare(tmp_path / "model", {"quant_method": method, **CONFIGURATIONS[method]})
    module, check = CHECKED_BY[method]
    monkeypatch.setattr(f"transformers.quantizers.quantizer_{module}.{check}", lambda *_: False)
    if method in ("torchao", "compressed-tensors"):
        monkeypatch.setattr(f"transformers.utils.quantization_config.{check}", lambda *_: False)
    capfd.readouterr()
    with pytest.raises(HeadprobeError) as raised:
        load_config(CheckpointSource(str(folder)))
    assert raised.value.what.startswith(f"is quantised by {method}, and a library is not installed")
    assert raised.value.remedy == f"Install it: pip install {LIBRARIES[method]}"
    assert str(raised.value).isprintable()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"quant_method": "zorkmid"},
            "is quantised by 'zorkmid', which the installed transformers",
        ),
        ({"quant_method": "\x1b[31mx"}, r"is quantised by '\\x1b\[31mx'"),
        ({"bits": 4}, "is quantised by an unnamed method"),
        ("x", "gives quantization_config as 'x'"),
    ],
)
def test_unknown_quantization_is_refused(values: object, reason: str, tmp_path: Path) -> None:
    with pytest.raises(HeadprobeError, match=reason):
        load_config(CheckpointSource(str(declare(tmp_path / "model", values))))


DESCRIBED = {
    "4-bit (gptq)": {"quant_method": "gptq", "bits": 4},
    "3-bit (auto-round)": {"quant_method": "auto-round", "bits": 3},
    "8-bit (quanto)": {"quant_method": "quanto", "weights": "int8"},
    "4-bit (torchao)": {"quant_method": "torchao", "quant_type": "int4_weight_only"},
    "8-bit (torchao)": {
        "quant_method": "torchao",
        "quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_data": {}}},
    },
    "4-bit (compressed-tensors)": {
        "quant_method": "compressed-tensors",
        "config_groups": {
            "group_0": {"input_activations": {"num_bits": 8}, "weights": {"num_bits": 4}}
        },
    },
    "2-bit (hqq)": {
        "quant_method": "hqq",
        "quant_config": {"weight_quant_params": {"nbits": 2}},
    },
    "8-bit (fp8)": {"quant_method": "fp8"},
    "4-bit (mxfp4)": {"quant_method": "mxfp4"},
    "8-bit (bitsandbytes)": {"load_in_8bit": True, "load_in_4bit": False},
    "quantised (bitnet)": {"quant_method": "bitnet"},
}


@pytest.mark.parametrize("description", DESCRIBED)
def test_describe_quantization(description: str) -> None:
    config = SimpleNamespace(quantization_config=DESCRIBED[description])
    assert describe_quantization(config) == description


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
def test_torchao_checkpoint_is_scanned(plain: Path, tmp_path: Path) -> None:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(
            plain, quantization_config=TorchAoConfig(Int8WeightOnlyConfig()), dtype=torch.float32
        )
        model.save_pretrained(tmp_path / "model")
        toy_tokenizer().save_pretrained(tmp_path / "model")
        run = headprobe.scan(tmp_path / "model", probes=PROBES, out=tmp_path / "run", device="cpu")
    assert run.manifest.model.quantization == "8-bit (torchao)"
