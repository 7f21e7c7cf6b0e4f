"""A whole scan: what it writes, that it writes it whole, and that each passage passes once."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaModel

import headprobe
import headprobe.commands.show_text as show_text_module
from headprobe.cli import main as command_line
from headprobe.commands.scan import plan
from headprobe.commands.show_text import show_text
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.model.heads import ObservedModel, observe_model
from headprobe.model.load import CheckpointSource
from headprobe.probes.catalog import find_probe_files
from headprobe.runs.folder import Run
from headprobe.vocabulary import LAGS
from tests.helpers.probes import PROBES
from tests.helpers.progress import Remembering

Scan = Callable[..., Run]

FILES = {
    "claims.csv",
    "heads.csv",
    "relations.csv",
    "domains.csv",
    "power.csv",
    "pairs.csv",
    "skipped.csv",
    "examples.jsonl",
    "manifest.json",
    "tallies.npz",
    "instances.npz",
    "rules.yaml",
}


def test_a_run_folder_has_all_files(scanned: Scan) -> None:
    run = scanned()
    assert {path.name for path in run.path.iterdir()} == FILES
    assert len(run.heads) == 12
    assert len(run.relations) == 12 * len(run.instances.judged_relations)
    manifest = run.manifest
    assert manifest.sampled_from is None
    assert (manifest.model.n_layers, manifest.model.n_heads) == (3, 4)
    assert manifest.model.n_kv_heads == (2, 2, 2)
    assert len(manifest.model.weights_sha256) == 64
    assert manifest.probes[0].documents == 2
    assert manifest.probes[0].words == 57
    assert manifest.bits_per_character is not None
    assert manifest.bits_per_character.value > 0
    assert manifest.unusable_words == pytest.approx(2 / 57)  # `!"` is one token here
    assert set(manifest.seconds) == {"read", "load", "measure", "judge"}
    text = (run.path / "manifest.json").read_text("utf-8")
    assert json.loads(text)["schema_version"] == 1


def test_the_model_sees_each_passage_once(scanned: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    forward = LlamaModel.forward

    def counted(self: LlamaModel, input_ids: torch.Tensor, **options: object) -> object:
        starts = torch.nonzero(options["position_ids"][0] == 0).flatten().tolist()
        seen.extend(tuple(ids.tolist()) for ids in input_ids[0].tensor_split(starts[1:]))
        return forward(self, input_ids=input_ids, **options)

    def observed(*of: object) -> ObservedModel:
        """Whatever passes after the proof at load is counted."""
        observed = observe_model(*of)
        monkeypatch.setattr(LlamaModel, "forward", counted)
        return observed

    monkeypatch.setattr("headprobe.commands.scan.observe_model", observed)
    run = scanned(budget=48)
    copied = [ids for ids in seen if (half := len(ids) // 2) and ids[1 : half + 1] == ids[-half:]]
    passages = [ids for ids in seen if ids not in copied]
    assert len(passages) == run.manifest.passages > 2
    assert sum(len(ids) for ids in passages) == run.manifest.tokens
    assert len(set(passages)) == len(passages)
    assert sorted(len(ids) // 2 for ids in copied) == sorted(LAGS)


def test_a_failed_scan_leaves_no_files(scanned: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headprobe.commands.judging.write_judged", fail)
    with pytest.raises(KeyboardInterrupt):
        scanned()
    with pytest.raises(HeadprobeError, match="no such folder"):
        headprobe.load(PROBES.parent / "run")


def test_an_existing_run_is_replaced_only_with_overwrite(scanned: Scan) -> None:
    first = scanned()
    with pytest.raises(HeadprobeError, match="exists already"):
        scanned()
    second = scanned(overwrite=True, seed=1)
    assert second.path == first.path
    assert headprobe.load(first.path).manifest.seed == 1


def test_the_same_scan_gives_the_same_tables(scanned: Scan, tmp_path: Path) -> None:
    one, two = scanned(out=tmp_path / "one"), scanned(out=tmp_path / "two")
    for name in ("heads.csv", "relations.csv", "pairs.csv", "examples.jsonl"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes(), name


def test_plain_text_has_means_marks_and_copies(scanned: Scan, tmp_path: Path) -> None:
    text = tmp_path / "story.txt"
    text.write_text("The dog saw a cat. It ran after the cat.\nThey slept, and slept.\n")
    run = scanned(probes=text)
    assert run.heads["entropy"].gt(0).all()
    assert set(run.relations["relation"]) == {"any", "stop", "comma", "same-word"}
    copies = run.relations[run.relations["relation"] == "same-word"]
    assert set(copies["family"]) == {"repetition"}
    assert set(copies["n"]) == {3}  # the, cat, slept
    assert run.manifest.probes[0].annotation == "none"
    assert run.manifest.annotator is None
    assert command_line.run(["show-head", "L0H0", "-r", str(run.path)]) == 0


def test_a_long_text_has_intervals(scanned: Scan, tmp_path: Path) -> None:
    text = tmp_path / "novel.txt"
    text.write_text("".join(f"The dog saw cat {n}, and it ran.\n" for n in range(400)))
    run = scanned(probes=text)  # 3,600 words
    assert run.manifest.probes[0].documents == 4
    assert run.relations.set_index("relation").loc["any", "gain_low"].notna().all()
    assert run.relations.set_index("relation").loc["same-word", "gain_low"].notna().all()


def test_a_probe_file_can_have_three_lines(scanned: Scan, tmp_path: Path) -> None:
    probes = tmp_path / "negation.yaml"
    probes.write_text(
        "- text: The dog did not see the cat.\n  relation: negation\n  link: see -> not\n"
    )
    run = scanned(probes=probes)
    mine = run.relations[run.relations["relation"] == "negation"]
    assert set(mine["family"]) == {"user"}
    assert set(mine["n"]) == {1}


def test_a_missing_start_token_is_prepended(scanned: Scan, tmp_path: Path) -> None:
    from tests.helpers.checkpoints import save_checkpoint

    bare = save_checkpoint(tmp_path / "bare", adds_start=False)
    run = scanned(model=bare)
    assert run.manifest.tokenizer.start_prepended
    assert not scanned(out=tmp_path / "other").manifest.tokenizer.start_prepended
    assert np.array_equal(run.tallies["sink"], scanned(out=tmp_path / "third").tallies["sink"])


def test_a_dry_run_writes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "run"
    config = ScanConfig(model=str(checkpoint), probes=(str(PROBES),), out=target)
    found = plan(config, Remembering())
    assert (found.n_layers, found.n_heads) == (3, 4)
    assert found.passages == 2
    assert ("verb → its subject (nsubj)", 8) in found.relations
    assert not target.exists()


def test_show_text_returns_the_attention_of_one_head(scanned: Scan) -> None:
    view = show_text(scanned(), 1, 2, "The dog saw [it] and ran.")
    assert view.words[:4] == ("The", "dog", "saw", "[")
    assert all(view.usable)
    for word, row in enumerate(view.weights):
        assert len(row) == word + 1
        assert 0.5 < sum(row) + view.sink[word] < 1 + 1e-5  # lone spaces get the rest
    with pytest.raises(HeadprobeError, match="has no word"):
        show_text(scanned(overwrite=True), 0, 0, "  ")
    with pytest.raises(HeadprobeError, match="longer than the 128 tokens"):
        show_text(scanned(overwrite=True), 0, 0, "word " * 200)


def test_a_sample_of_passages_is_reported(scanned: Scan, tmp_path: Path) -> None:
    for file in find_probe_files(["story", "dialogue"]):
        (tmp_path / "sets" / file.path.name).parent.mkdir(exist_ok=True)
        (tmp_path / "sets" / file.path.name).write_bytes(file.path.read_bytes())
    run = scanned(probes=tmp_path / "sets", max_passages=8)
    assert run.manifest.passages == 8 and (run.manifest.sampled_from or 0) >= 284  # documents
    assert [(note.passages, note.documents) for note in run.manifest.probes] == [(4, 4), (4, 4)]
    assert sum(note.words for note in run.manifest.probes) == len(run.instances.form)


def test_passages_outside_of_a_sample_are_not_skipped_input(scanned: Scan) -> None:
    def cut_off(most: int | None) -> int:
        left_out = scanned(budget=40, max_passages=most, overwrite=True).skipped
        return int(left_out[left_out["reason"].str.contains("before the passage")]["count"].sum())

    few, all_of_them = cut_off(2), cut_off(None)
    assert few < all_of_them


def test_show_text_asks_for_consent_to_remote_code(
    scanned: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def refuse(source: CheckpointSource) -> None:
        asked.append(source.trust_remote_code)
        raise HeadprobeError("here", "stops", "Go on")

    run = scanned()
    monkeypatch.setattr("headprobe.commands.show_text.load_config", refuse)
    for option in ([], ["--trust-remote-code"]):
        words = ["show-head", "L0H0", "-r", str(run.path), "--text", "The dog.", *option]
        assert command_line.run(words) == 2
    assert asked == [False, True]


def test_scan_and_show_head_work_on_the_command_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, tables = tmp_path / "run", tmp_path / "tables"
    words = ["scan", str(checkpoint), "-p", str(PROBES), "-o", str(run), "--csv", str(tables)]
    assert command_line.run(words) == 0
    out, err = capsys.readouterr()
    assert "roles by layer" in out
    assert "\x1b" not in out + err
    assert command_line.run(["show", str(run)]) == 0
    assert capsys.readouterr().out == out
    assert (tables / "heads.csv").read_bytes() == (run / "heads.csv").read_bytes()
    assert command_line.run(["show-head", "l2h3", "-r", str(run)]) == 0
    assert "L2H3" in capsys.readouterr().out
    assert command_line.run(["show-head", "L3H0", "-r", str(run)]) == 2
    assert "L0H0 to L2H3" in capsys.readouterr().err


def test_show_head_reads_text_from_stdin(
    scanned: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = scanned()
    words = ["show-head", "l1h2", "-r", str(run.path), "--json", "--text"]
    assert command_line.run([*words, "The dog ran."]) == 0
    typed = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"The dog ran.\n")))
    assert command_line.run([*words, "-"]) == 0
    assert capsys.readouterr().out == typed
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert command_line.run([*words, "-"]) == 2
    assert "has no word" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9 noir")))
    assert command_line.run([*words, "-"]) == 2
    assert capsys.readouterr().err == (
        "--text -: stdin is not UTF-8 (byte 0xe9 at 3). Convert it, with iconv for example.\n"
    )
    monkeypatch.setattr("sys.stdin", None)
    assert command_line.run([*words, "-"]) == 2
    assert "stdin is closed" in capsys.readouterr().err


def test_text_of_several_heads_takes_one_pass(
    scanned: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = scanned()
    words = ["show-head", "-r", str(run.path), "--json", "--text", "The dog saw it."]
    apart = []
    for name in ("L1H2", "L2H0"):
        assert command_line.run([*words, name]) == 0
        apart.append(json.loads(capsys.readouterr().out))
    with pytest.MonkeyPatch.context() as patch:
        loads = []
        opened = show_text_module.open_model
        patch.setattr(
            show_text_module, "open_model", lambda *a, **k: loads.append(1) or opened(*a, **k)
        )
        assert command_line.run([*words, "L1H2", "l2h0"]) == 0
    assert json.loads(capsys.readouterr().out) == apart
    assert loads == [1]
