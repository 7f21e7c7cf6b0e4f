"""Hostile run folders."""

import json
import os
from collections.abc import Sequence

import numpy as np
import pytest

from tests.hostile import spoil
from tests.hostile.driver import OUT, Attack, Case, Workplace, assert_promise, run_here
from tests.hostile.spoil import Arrays, Damage

SHOW = ("show", "run")
SHOW_HEAD = ("show-head", "L1H2", "-r", "run", "-q")
JUDGE = ("judge", "run", "-o", OUT, "-q")
JUDGE_HERE = ("judge", "run", "-q")
EXPORT = ("export", "run", "--csv", OUT, "-q")


def run_file(name: str, damage: Damage, command: Sequence[str] = SHOW) -> Attack:
    """Damage one file of a run, then read the run."""

    def attack(workplace: Workplace) -> Sequence[str]:
        damage(workplace.run() / name)
        return command

    return attack


def manifest(**changes: object) -> Attack:
    return run_file("manifest.json", spoil.json_values(**changes))


def listed(damage: Damage) -> Attack:
    """A damaged run beside a good one: ``runs`` names the one and lists the other."""

    def attack(workplace: Workplace) -> Sequence[str]:
        runs = workplace.here / "runs"
        runs.mkdir()
        workplace.run().rename(runs / "good")
        damaged = workplace.run().rename(runs / "bad")
        damage(damaged / "manifest.json")
        return ("runs", "runs", "-q")

    return attack


def sums(damage: Damage, command: Sequence[str] = JUDGE) -> Attack:
    return run_file("tallies.npz", damage, command)


def instances(damage: Damage) -> Attack:
    return run_file("instances.npz", damage, JUDGE)


def example(**changes: object) -> Damage:
    """One example of L1H2, with other values."""
    values = {
        "layer": 1,
        "head": 2,
        "name": "L1H2",
        "family": "syntax",
        "relation": "nsubj",
        "looks_to": "head",
        "hit": False,
        "words": ["The", "old", "dog", "slept"],
        "glued": [],
        "gaps": [4],
        "query": 3,
        "targets": [2],
        "expected": 2,
        "same_form": [],
        "attended": [[1, 0.5], [2, 0.25]],
    }
    return spoil.content(json.dumps(values | changes) + "\n")


def swapped(first: str, second: str) -> Damage:
    def change(held: Arrays) -> None:
        held[first], held[second] = held[second], held[first]

    return spoil.arrays(change)


def foreign_in_run(workplace: Workplace) -> Sequence[str]:
    (workplace.run() / "thesis.tex").write_text("years of work")
    return workplace.scan("-o", "run", "--overwrite")


def planted_manifest(workplace: Workplace) -> Sequence[str]:
    (workplace.here / "ext").mkdir()
    (workplace.here / "ext" / "manifest.json").write_text("{}")
    (workplace.here / "ext" / "thesis.tex").write_text("years of work")
    return workplace.scan("-o", "ext", "--overwrite")


def linked_table(workplace: Workplace) -> Sequence[str]:
    secret = workplace.here / "secret.csv"
    secret.write_text("layer,head,name,kv_group,secret\n")
    spoil.link("../secret.csv")(workplace.run() / "heads.csv")
    return EXPORT


def export_into_run(workplace: Workplace) -> Sequence[str]:
    workplace.run()
    return ("export", "run", "--csv", "run", "--overwrite", "-q")


def page_over(name: str) -> Attack:
    """A page in place of a file that is no page."""

    def attack(workplace: Workplace) -> Sequence[str]:
        workplace.run()
        path = workplace.here / name
        if not path.exists():
            path.write_text("years of work")
        return ("report", "run", "-o", name, "--overwrite")

    return attack


def page_over_link(workplace: Workplace) -> Sequence[str]:
    workplace.run()
    spoil.link("run/heads.csv")(workplace.here / "page.html")
    return ("report", "run", "-o", "page.html", "--overwrite")


def figure_over_foreign_one(workplace: Workplace) -> Sequence[str]:
    workplace.run()
    (workplace.here / "figures").mkdir()
    (workplace.here / "figures" / "roles.svg").write_text("<svg/>")
    return ("export", "run", "--format", "svg", "-o", "figures", "--overwrite", "-q")


def export_over_foreign_table(workplace: Workplace) -> Sequence[str]:
    (workplace.run().with_name(OUT)).mkdir()
    (workplace.here / OUT / "heads.csv").write_text("my,own,heads\n")
    return (*EXPORT, "--overwrite")


def other_models_weights(workplace: Workplace) -> Sequence[str]:
    """The model has changed since the run measured it."""
    workplace.run()
    weights = workplace.model() / "model.safetensors"
    spoil.flip(0.9)(weights)
    return (*SHOW_HEAD, "--text", "The dog saw the cat.")


def typed(**changes: object) -> Attack:
    """A tampered manifest under ``show-head --text``, which loads the model."""

    def attack(workplace: Workplace) -> Sequence[str]:
        workplace.model()
        spoil.json_values(**changes)(workplace.run() / "manifest.json")
        return (*SHOW_HEAD, "--text", "The dog saw the cat.")

    return attack


def run_of_mode_zero(workplace: Workplace) -> Sequence[str]:
    (workplace.run() / "manifest.json").chmod(0)
    return SHOW


MANIFEST = [
    Case("manifest: {}", run_file("manifest.json", spoil.content("{}"))),
    Case("manifest: a list", run_file("manifest.json", spoil.content("[]"))),
    Case("manifest: empty", run_file("manifest.json", spoil.content(""))),
    Case("manifest: truncated", run_file("manifest.json", spoil.cut(0.5))),
    Case("manifest: not UTF-8", run_file("manifest.json", spoil.content(b"{\"a\xff\": 1}"))),
    Case("manifest: nested 100,000 deep", run_file("manifest.json", spoil.nested)),
    Case("manifest: a pipe", run_file("manifest.json", spoil.fifo)),
    Case("manifest: a folder", run_file("manifest.json", spoil.folder)),
    Case("manifest: missing", run_file("manifest.json", spoil.remove)),
    Case("manifest: a link to nothing", run_file("manifest.json", spoil.link("nowhere"))),
    Case("manifest: a link to itself", run_file("manifest.json", spoil.link("manifest.json"))),
    Case("manifest: a device without end", run_file("manifest.json", spoil.link("/dev/zero"))),
    Case("manifest: a terabyte", run_file("manifest.json", spoil.sparse)),
    Case("manifest: NaN", run_file("manifest.json", spoil.text('"seed": 0', '"seed": NaN'))),
    Case(
        "manifest: infinite", run_file("manifest.json", spoil.text('0.035', "Infinity, \"x\": 0"))
    ),
    Case(
        "manifest: a number of 5,000 digits",
        run_file("manifest.json", spoil.text('"seed": 0', f'"seed": {"9" * 5000}')),
    ),
    Case("manifest: newer schema", manifest(schema_version=99), "newer headprobe"),
    Case("manifest: schema in words", manifest(schema_version="one")),
    Case("manifest: no layers", manifest(model__n_layers=0)),
    Case("manifest: layers below zero", manifest(model__n_layers=-3)),
    Case("manifest: layers as text", manifest(model__n_layers="3")),
    Case("manifest: 10**18 heads", manifest(model__n_heads=10**18)),
    Case("manifest: no KV heads", manifest(model__n_kv_heads=[])),
    Case("manifest: KV heads of zero", manifest(model__n_kv_heads=[0, 0, 0])),
    Case("manifest: more KV heads than heads", manifest(model__n_kv_heads=[64, 64, 64])),
    Case("manifest: KV heads of another number of layers", manifest(model__n_kv_heads=[2])),
    Case("manifest: heads of no dimension", manifest(model__head_dim=0)),
    Case("manifest: a context below zero", manifest(model__context=-5)),
    Case("manifest: more layers than the tables", manifest(model__n_layers=50,
         model__n_kv_heads=[2] * 50)),
    Case("manifest: memory of 10**400", manifest(peak_memory_mib=10**400)),
    Case("manifest: a seed of 10**30", manifest(seed=10**30)),
    Case("manifest: a count below zero", manifest(passages=-1)),
    Case("manifest: a share above one", manifest(unusable_words=7.5)),
    Case("manifest: an unknown control", manifest(controls__0__control="zork")),
    Case("manifest: a start that is no time", manifest(started="yesterday")),
    Case("manifest: seconds in words", manifest(seconds={"read": "long"})),
    Case("manifest: versions as a list", manifest(versions=["1"])),
    Case("manifest: a model that is null", manifest(model=None)),
    Case("manifest: rules that are numbers", manifest(measured_with={"idle.output_norm": "x"})),
    Case(
        "manifest: keys of a later version",
        run_file("manifest.json", spoil.json_values(extra={"a": 1})),
        harmless=True,
    ),
]  # fmt: skip

LISTED = [
    Case("runs beside one nested 100,000 deep", listed(spoil.nested), harmless=True),
    Case("runs beside a pipe", listed(spoil.fifo), harmless=True),
    Case("runs beside one of 10**400", listed(spoil.json_values(peak_memory_mib=10**400)),
         harmless=True),
    Case("runs beside one without heads", listed(spoil.json_values(model__n_heads=0)),
         harmless=True),
    Case("runs beside one whose start is no time", listed(spoil.json_values(started="\u202e")),
         harmless=True),
    Case("runs beside a link to itself", listed(spoil.link("manifest.json")), harmless=True),
    Case("runs beside one of hostile names",
         listed(spoil.json_values(model__asked="\x1b[31m[bold]\u202e" * 500)), harmless=True),
]  # fmt: skip

TYPED = [
    Case("text: other weights than the run's", other_models_weights, "not those"),
    Case("text: an unknown dtype", typed(model__dtype="float13"), "dtype"),
    Case("text: another head's model", typed(model__asked="../elsewhere"), "not here"),
    Case("text: another kind of model", typed(model__kind="gguf")),
    Case("text: an unknown kind", typed(model__kind="floppy")),
    Case("text: an adapter that is not there", typed(model__adapter="nowhere")),
    Case("text: fewer heads than the model", typed(model__n_heads=2, model__n_kv_heads=[2] * 3)),
]

TABLES = [
    Case("heads.csv: missing", run_file("heads.csv", spoil.remove)),
    Case("heads.csv: empty", run_file("heads.csv", spoil.content(""))),
    Case("heads.csv: a header only", run_file("heads.csv", spoil.lines(lambda rows: rows[:1]))),
    Case("heads.csv: bytes", run_file("heads.csv", spoil.content(bytes(range(256))))),
    Case("heads.csv: without a column", run_file("heads.csv", spoil.without_column("role"))),
    Case("heads.csv: a word as number", run_file("heads.csv", spoil.cell("sink", "much"))),
    Case("heads.csv: a word as layer", run_file("heads.csv", spoil.cell("layer", "first"))),
    Case("heads.csv: a layer of 5,000 digits",
         run_file("heads.csv", spoil.cell("layer", "1" * 5000))),
    Case("heads.csv: not a number", run_file("heads.csv", spoil.cell("sink", "nan"))),
    Case("heads.csv: a flag of its own", run_file("heads.csv", spoil.cell("idle", "maybe"))),
    Case("heads.csv: a layer that is not there", run_file("heads.csv", spoil.cell("layer", "77"))),
    Case("heads.csv: a head twice", run_file("heads.csv", spoil.lines(lambda r: [*r, r[-1]]))),
    Case("heads.csv: a head less", run_file("heads.csv", spoil.lines(lambda rows: rows[:-1]))),
    Case("heads.csv: another name", run_file("heads.csv", spoil.cell("name", "L2H2"))),
    Case("heads.csv: a short row",
         run_file("heads.csv", spoil.lines(lambda r: [*r[:-1], r[-1][:20]]))),
    Case("heads.csv: a long row",
         run_file("heads.csv", spoil.lines(lambda r: [*r[:-1], r[-1] + ",1"]))),
    Case("heads.csv: an open quote", run_file("heads.csv", spoil.cell("reason", '"open'))),
    Case("heads.csv: a cell of a megabyte",
         run_file("heads.csv", spoil.cell("reason", "x" * (1 << 20)))),
    Case("heads.csv: NUL", run_file("heads.csv", spoil.cell("sink", "0.\x001"))),
    Case("heads.csv: not UTF-8",
         run_file("heads.csv", lambda path: path.write_bytes(path.read_bytes() + b"\xff\xfe\n"))),
    Case("heads.csv: a pipe", run_file("heads.csv", spoil.fifo)),
    Case("heads.csv: a folder", run_file("heads.csv", spoil.folder)),
    Case("heads.csv: a terabyte", run_file("heads.csv", spoil.sparse)),
    Case("heads.csv: a column twice", run_file("heads.csv", spoil.text("sink,self", "sink,sink"))),
    Case("relations.csv: a word as n", run_file("relations.csv", spoil.cell("n", "many"))),
    Case("relations.csv: a head that is not there",
         run_file("relations.csv", spoil.cell("head", "4"))),
    Case("relations.csv: a word as gain, one head",
         run_file("relations.csv", spoil.cell("gain", "big", 36 * 6 + 2), SHOW_HEAD)),
    Case("relations.csv: without n, one head",
         run_file("relations.csv", spoil.without_column("n"), SHOW_HEAD)),
    Case("relations.csv: missing, one head", run_file("relations.csv", spoil.remove, SHOW_HEAD)),
    Case("pairs.csv: another table", run_file("pairs.csv", spoil.copy_over("heads.csv"))),
    Case("power.csv: a word as forms", run_file("power.csv", spoil.cell("forms", "few"))),
    Case("skipped.csv: a word as count",
         run_file("skipped.csv", spoil.cell("count", "some"), JUDGE)),
    Case("skipped.csv: a count below zero",
         run_file("skipped.csv", spoil.cell("count", "-2"), JUDGE)),
    Case("controls.csv: a word as n", run_file("controls.csv", spoil.cell("n", "none"))),
    Case("controls.csv: missing", run_file("controls.csv", spoil.remove), harmless=True),
    Case("domains.csv: another header",
         run_file("domains.csv", spoil.text("domain", "planet"), SHOW_HEAD)),
    Case("domains.csv: missing", run_file("domains.csv", spoil.remove, SHOW_HEAD), harmless=True),
    Case("a formula in a reason is only text",
         run_file("heads.csv", spoil.cell("reason", "'=1+1")), harmless=True),
    Case("rules.yaml: not YAML", run_file("rules.yaml", spoil.content("{"))),
    Case("rules.yaml: a pipe", run_file("rules.yaml", spoil.fifo)),
    Case("rules.yaml: missing", run_file("rules.yaml", spoil.remove), harmless=True),
]  # fmt: skip

EXAMPLES = [
    Case(f"examples: {name}", run_file("examples.jsonl", damage, SHOW_HEAD), "examples.jsonl")
    for name, damage in {
        "missing": spoil.remove,
        "a pipe": spoil.fifo,
        "a terabyte": spoil.sparse,
        "not JSON": spoil.content('{"layer": 1, "head": 2, \n'),
        "no keys": spoil.content('{"layer": 1, "head": 2, "a": 1}\n'),
        "words that are a number": example(words=5),
        "words that are numbers": example(words=[1, 2, 3, 4]),
        "a query that is a word": example(query="dog"),
        "a query out of range": example(query=99),
        "a target below zero": example(targets=[-1]),
        "weights that are words": example(attended=[[0, "much"]]),
        "a weight of NaN": example(attended=[[0, float("nan")]]),
        "a weight without its word": example(attended=[[0.5]]),
        "a weight on half a word": example(attended=[[0.5, 0.5]]),
        "a family that is null": example(family=None),
        "a hit that is a number": example(hit=1),
        "nested": spoil.content('{"layer": 1, "head": 2, "words": ' + "[" * 100_000 + "\n"),
    }.items()
]
HARMLESS_EXAMPLES = [
    Case("examples: hostile words",
         run_file("examples.jsonl", example(words=["\x1b[2J", "[red]", "\u202e", "="]), SHOW_HEAD),
         harmless=True),
    Case("examples: not JSON, of another head",
         run_file("examples.jsonl", spoil.content('{"layer": 0, "head": 0, "a": '), SHOW_HEAD),
         harmless=True),
]  # fmt: skip

EXPORTS = [
    Case("export: a table is missing", run_file("pairs.csv", spoil.remove, EXPORT), "pairs.csv"),
    Case("export: a table is a link", linked_table, "heads.csv"),
    Case("export: a table is a pipe", run_file("skipped.csv", spoil.fifo, EXPORT), "skipped.csv"),
    Case("export: a table is a folder", run_file("power.csv", spoil.folder, EXPORT), "power.csv"),
    Case("export: a table is another file",
         run_file("heads.csv", spoil.content("root:x:0:0\n"), EXPORT), "heads.csv"),
    Case("export: into the run itself", export_into_run, "run itself"),
    Case("export: over a table of another program", export_over_foreign_table, "heads.csv"),
    Case("overwrite: a planted manifest", planted_manifest, "not a run folder"),
    Case("overwrite: a foreign file in a run", foreign_in_run, "thesis.tex"),
    Case("judge here: a table is a link",
         run_file("pairs.csv", spoil.link("/etc/hostname"), JUDGE_HERE), "pairs.csv"),
    Case("judge here: a table is a folder",
         run_file("pairs.csv", spoil.folder, JUDGE_HERE), "pairs.csv"),
    Case("a page over the manifest", page_over("run/manifest.json"), "not a page"),
    Case("a page over a table of the run", page_over("run/heads.csv"), "not a page"),
    Case("a page over a thesis", page_over("thesis.tex"), "not a page"),
    Case("a page over a link", page_over_link, "not a page"),
    Case("a figure over another program's", figure_over_foreign_one, "roles.svg"),
]  # fmt: skip

MEMBER = "mass.npy"
ARCHIVES = [
    Case(f"sums: {name}", sums(damage), "tallies.npz")
    for name, damage in {
        "missing": spoil.remove,
        "empty": spoil.content(b""),
        "text": spoil.content("sums"),
        "truncated": spoil.cut(0.6),
        "a flipped byte": spoil.flip(0.4),
        "a pipe": spoil.fifo,
        "a folder": spoil.folder,
        "an archive without members": spoil.content(b"PK\x05\x06" + bytes(18)),
        "encrypted": spoil.directory(8, b"\x01\x00"),
        "an unknown compression": spoil.directory(10, b"\x63\x00"),
        "a member of 10**18 bytes": spoil.directory(24, b"\xf0\xff\xff\xff"),
        "a member that lies elsewhere": spoil.directory(42, b"\xff\xff\xff\x7f"),
        "pickled objects": spoil.member(MEMBER, spoil.pickled("planted")),
        "10**12 elements": spoil.member(
            MEMBER,
            spoil.header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"),
        ),
        "a header that is no header": spoil.member(MEMBER, b"\x93NUMPY\x01\x00\xff\xff"),
        "a header of an unknown version": spoil.member(MEMBER, spoil.header("{}", version=9)),
        "a header that is an expression": spoil.member(
            MEMBER, spoil.header("__import__('os').mkdir('planted')")
        ),
        "a negative shape": spoil.member(
            MEMBER, spoil.header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}")
        ),
        "a member outside": spoil.member("../outside.npy", b"x"),
        "data after the array": spoil.member(MEMBER, lambda raw: raw + bytes(64)),
        "a bomb": spoil.bomb(MEMBER),
        "text in the place of numbers": spoil.array("mass", lambda a: a.astype(str)),
        "complex numbers": spoil.array("mass", lambda a: a.astype(complex)),
        "counts that are floats": spoil.array("rows_stripped", lambda a: a.astype(float)),
        "sums that are counts": spoil.array("mass", lambda a: a.astype(int)),
        "another byte order": spoil.array("mass", lambda a: a.astype(">f8")),
        "NaN": spoil.entry("profile", 0, np.nan),
        "infinity": spoil.entry("entropy", 3, np.inf),
        "a count below zero": spoil.entry("column_token_rows", 0, -1),
        "a count above 2**63": spoil.array("rows", lambda a: np.array(2**64 - 1, np.uint64)),
        "an attention below zero": spoil.entry("share_norm", 0, -0.5),
        "an array missing": spoil.without("kept"),
        "an array too many": spoil.arrays(lambda held: held.update(zork=np.zeros(3))),
        "an axis less": spoil.array("mass", lambda a: a[0]),
        "an axis more": spoil.array("sink", lambda a: a[None]),
        "a layer less": spoil.array("sink", lambda a: a[:-1]),
        "a head more": spoil.array("self", lambda a: np.pad(a, ((0, 0), (0, 1)))),
        "a relation less": spoil.array("share_norm", lambda a: a[:-1]),
        "a byte of heads less": spoil.array("hits", lambda a: a[:, :-1]),
        "an instance more": spoil.array("hits", lambda a: np.concatenate([a, a[:1]])),
        "a distance less": spoil.array("profile_pairs", lambda a: a[:-1]),
        "two axes exchanged": spoil.array("mass", lambda a: np.swapaxes(a, 0, 2)),
        "no axes": spoil.array("profile", lambda a: np.array(1.0)),
        "rows of examples less": spoil.array("example_word", lambda a: a[:-1]),
        "places beyond the passage": spoil.entry("example_word", 0, 30_000),
        "winners beyond the passage": spoil.entry("sampled_winner", 0, 2**30),
        "the kinds that are present, too few": spoil.array("category.met", lambda a: a[:-1]),
        "the kinds that are present, others": spoil.array("category.met", lambda a: ~a),
        "the kinds that are present, missing": spoil.without("deprel_pairs.met"),
        "cells more": spoil.array("output_rows", lambda a: np.repeat(a, 3)),
        "tokens less": spoil.array("column_token", lambda a: a[:, :-2]),
    }.items()
]  # fmt: skip
SUMS_OF_ONE_HEAD = [
    Case("one head: sums of other layers",
         sums(spoil.array("profile", lambda a: a[:1]), SHOW_HEAD), "tallies.npz"),
    Case("one head: sums without distances",
         sums(spoil.array("profile", lambda a: a[..., :0]), SHOW_HEAD), "tallies.npz"),
    Case("one head: sums of NaN", sums(spoil.entry("profile", 0, np.nan), SHOW_HEAD)),
    Case("one head: sums missing", sums(spoil.without("profile"), SHOW_HEAD), "tallies.npz"),
    Case("controls: sums missing", run_file("shuffled.npz", spoil.remove, JUDGE), "shuffled.npz"),
    Case("controls: sums of other layers",
         run_file("shuffled.npz", spoil.array("mass", lambda a: a[:, :1]), JUDGE), "shuffled.npz"),
    Case("controls: sums of NaN",
         run_file("shuffled.npz", spoil.entry("mass", 0, np.nan), JUDGE), "shuffled.npz"),
    Case("controls: the instances in their place",
         run_file("shuffled.npz", spoil.copy_over("instances.npz"), JUDGE), "shuffled.npz"),
]  # fmt: skip

INSTANCES = [
    Case(f"instances: {name}", instances(damage), "instances.npz")
    for name, damage in {
        "missing": spoil.remove,
        "truncated": spoil.cut(0.5),
        "pickled objects": spoil.member("forms.npy", spoil.pickled("planted")),
        "an array missing": spoil.without("form"),
        "words of another number": spoil.array("upos", lambda a: a[:-1]),
        "forms that are numbers": spoil.array("forms", lambda a: np.arange(len(a))),
        "numbers that are floats": spoil.array("form", lambda a: a + 0.5),
        "flags that are numbers": spoil.array("usable", lambda a: a.astype(int) * 7),
        "a form out of range": spoil.entry("form", 0, 45),
        "a form below zero": spoil.entry("form", 3, -1),
        "a part of speech out of range": spoil.entry("upos", 0, 99),
        "a deprel out of range": spoil.entry("deprel", 0, 999),
        "passages that overlap": spoil.array("passage_first", lambda a: a[[0, 2, 1]]),
        "passages that start late": spoil.entry("passage_first", 0, 5),
        "passages that end early": spoil.entry("passage_first", -1, 50),
        "no passages": spoil.arrays(
            lambda held: held.update(
                passage_first=np.zeros(1, int),
                **{f"passage_{n}": np.array([], str) for n in ("ids", "domains", "documents")},
            )
        ),
        "passages without clusters": spoil.array("passage_clusters", lambda a: a[:1]),
        "a sentence below zero": spoil.entry("sentence", 0, -2),
        "sentences that go back": spoil.array("sentence", lambda a: a[::-1].copy()),
        "tokens below zero": spoil.entry("tokens", 0, -1),
        "a link of no relation": spoil.entry("link_relation", 0, 99),
        "a link from no word": spoil.entry("link_query", 0, 57),
        "a link to no word": spoil.entry("link_targets", 0, 57),
        "a link to a later word": spoil.entry("link_targets", 0, 56),
        "links whose targets go back": spoil.array("link_first", lambda a: a[::-1].copy()),
        "links without targets": spoil.array("link_targets", lambda a: a[:0]),
        "links of another number": spoil.array("link_query", lambda a: a[:-1]),
        "classes of no relation": spoil.entry("word_classes", 0, 2**40),
        "a mention that ends beyond the text": spoil.entry("mention_end", 0, 10**6),
        "a mention that ends before it starts": spoil.entry("mention_end", 9, 2),
        "examples out of range": spoil.entry("example_words", -1, 1000),
        "examples that go back": spoil.array("example_words", lambda a: a[::-1].copy()),
        "samples below zero": spoil.entry("sampled_words", 0, -1),
        "samples twice": spoil.array("sampled_words", lambda a: np.repeat(a[:1], len(a))),
        "relations of five columns": spoil.array("relations", lambda a: a[:, :5]),
        "relations of no scope": spoil.array(
            "relations", lambda a: np.where(a == "sentence", "planet", a)
        ),
        "relations strict by 2": spoil.array("relations", lambda a: np.where(a == "1", "2", a)),
        "no relations": spoil.array("relations", lambda a: a[:0]),
        "a relation twice": spoil.array("relations", lambda a: a[[0, *range(len(a) - 1)]]),
        "an axis more": spoil.array("upos", lambda a: a[None]),
    }.items()
]  # fmt: skip

RIGHTS = [Case("a manifest of mode 000", run_of_mode_zero, "Permission denied")]

CASES = [
    *(MANIFEST + LISTED + TYPED + TABLES + EXAMPLES + HARMLESS_EXAMPLES + EXPORTS + ARCHIVES),
    *(SUMS_OF_ONE_HEAD + INSTANCES),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_run_folders(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)


@pytest.mark.skipif(os.geteuid() == 0, reason="rights do not bind root")
@pytest.mark.parametrize("case", RIGHTS, ids=lambda case: case.name)
def test_rights(case: Case, workplace: Workplace) -> None:
    assert_promise(case, workplace)


def test_runs_lists_the_good_ones(workplace: Workplace) -> None:
    """Beside damaged runs, the good ones are listed and the damaged ones are named."""
    outcome = run_here(listed(spoil.nested)(workplace))
    assert outcome.out == "runs/good\n"
    assert "runs/bad" in outcome.err
