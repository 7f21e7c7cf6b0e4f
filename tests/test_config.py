"""The options of a scan, declared once, and what is derived from them."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headprobe
from headprobe.cli.main import run as run_command
from headprobe.config import Partition, ScanConfig, option_of, parse_size, python_spelling
from headprobe.errors import HeadprobeError

TEXT = st.text("abc./-", min_size=1, max_size=8)
NUMBER = st.integers(8, 10**6)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "model": TEXT,
        "probes": st.lists(TEXT, max_size=3),
        "out": TEXT,
        "dtype": st.sampled_from(["auto", "float32"]),
        "gguf": TEXT,
        "gguf_cache": st.booleans(),
        "max_passages": NUMBER,
        "budget": NUMBER,
        "memory": NUMBER,
        "rules": TEXT,
        "twin": st.booleans(),
        "seed": st.integers(0, 10**6),
        "shard": st.sampled_from(["1/2", "3/8"]),
    },
)


@given(OPTIONS, st.booleans(), st.booleans())
def test_json_restores_everything_but_consent(
    options: dict[str, Any], before: bool, now: bool
) -> None:
    config = ScanConfig.from_options({**options, "trust_remote_code": before})
    stored = json.loads(json.dumps(config.to_json()))
    assert "trust_remote_code" not in stored
    restored = ScanConfig.from_json(stored, trust_remote_code=now)
    assert restored.trust_remote_code is now
    assert restored.to_json() == config.to_json()
    assert restored.fingerprint_values() == config.fingerprint_values()


@pytest.mark.parametrize(
    "options",
    [
        {"seed": "x"},
        {"twin": 1},
        {"budget": 7},
        {"max_passages": 0},
        {"memory": "much"},
        {"memory": -1},
        {"out": 5},
        {"shard": "3/2"},
        {"model": object()},
    ],
)
def test_values_out_of_range_or_of_another_type_are_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(HeadprobeError) as raised:
        ScanConfig.from_options(options)
    assert len(str(raised.value).splitlines()) == 1


def test_python_and_the_command_line_have_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    keywords = inspect.signature(headprobe.scan).parameters
    assert run_command(["scan", "--help"]) == 0
    help_text = capsys.readouterr().out
    for name, each in ScanConfig.__dataclass_fields__.items():
        assert (name in keywords) == option_of(each).python
        assert f"--{name.replace('_', '-')}" in help_text or option_of(each).argument


def test_sizes_and_shards_are_text_or_values() -> None:
    config = ScanConfig.from_options({"memory": "500MiB", "shard": "3/8", "out": "run"})
    assert config.memory == parse_size(500 * 2**20) == 500 * 2**20
    assert config.shard == Partition(2, 8)
    assert config.out == Path("run")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Try --dtype float32", 'Try dtype="float32"'),
        ("Name it: --out RUN", 'Name it: out="RUN"'),
        (
            "Name another one with -o, or replace it: --overwrite",
            "Name another one with out=…, or replace it: overwrite=True",
        ),
        ("Choose one: --gguf 'a \"b.gguf'", 'Choose one: gguf="a \\"b.gguf"'),
        ("add --trust-remote-code for code", "add trust_remote_code=True for code"),
        ("have --budget 8, or --seed 3", "have budget=8, or seed=3"),
        (
            "Resume it with headprobe scan --resume a/b, or wait",
            'Resume it with headprobe.resume("a/b"), or wait',
        ),
        ("no longer saved for --resume", "no longer saved for headprobe.resume"),
        ("torchrun --nproc-per-node 2 -m headprobe scan --resume a", ...),
        ("Make them: headprobe scan --shard 1/8 --out RUN", ...),
        ("name another with --csv, or see --help", ...),
        ("a file called half-o-clock--dtype", ...),
    ],
)
def test_python_spells_options_as_keyword_arguments(message: str, expected: Any) -> None:
    assert python_spelling(message) == (message if expected is ... else expected)


def test_every_option_of_python_has_a_python_spelling() -> None:
    for each in dataclasses.fields(ScanConfig):
        flag = "--" + each.name.replace("_", "-")
        changed = python_spelling(f"Check {flag}, or omit it")
        assert (f"{each.name}=" in changed) == option_of(each).python


def test_errors_name_options_as_their_caller_spells_them(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").touch()
    taken = str(tmp_path / "file")
    with pytest.raises(HeadprobeError) as raised:
        headprobe.scan(out=taken)
    assert str(raised.value).endswith("Name another one with out=….")
    assert run_command(["scan", "-o", taken]) == 2
    assert capsys.readouterr().err.endswith("Name another one with -o.\n")
