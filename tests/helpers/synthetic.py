"""A run made by hand: small, plausible, and hostile where asked."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headprobe.analysis.intervals import find_power
from headprobe.results.tables import write_manifest, write_results, write_sums
from headprobe.results.views import Plan
from headprobe.roles.rules import load_rules
from headprobe.roles.verdict import Pair
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run, new_run
from headprobe.runs.instances import FOLD_HASH, Instances
from headprobe.runs.manifest import BitsNote, Manifest, ModelNote, ProbeNote, TokenizerNote
from headprobe.runs.sums import Tallies
from headprobe.vocabulary import Relation, Skipped
from tests.helpers.judged import RELATIONS, conduct, evidence, shape, verdicts

HOSTILE = '=cmd|"/c calc"!A1 [bold red]x[/] \x1b[31m\u202eevil\x00\r\n\t:smile:'
"""A formula, markup, an ANSI escape, a bidi override, control characters, an emoji code."""

SENTENCES = (
    "The animal did n't cross the street because it was too tired .",
    "Anna gave the book to her brother , who thanked her .",
    '" Where is the key ? " asked the old man .',
)


LINKS = (
    (0, 8, (1,)),
    (1, 4, (1,)),
    (2, 6, (4,)),
    (2, 17, (15,)),
    (3, 1, (0,)),
    (3, 6, (5,)),
    (0, 23, (14,)),
)
"""(relation, query, targets) in word numbers."""


def manifest(n_layers: int = 4, n_heads: int = 8, n_kv_heads: int = 4, name: str = "") -> Manifest:
    return Manifest(
        model=ModelNote(
            asked=name or "models/tiny",
            kind="folder",
            revision=None,
            weights_sha256="ab" * 32,
            architecture="LlamaForCausalLM",
            dtype="float32",
            device="cpu",
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=(n_kv_heads,) * n_layers,
            head_dim=8,
            context=512,
        ),
        tokenizer=TokenizerNote(
            name="LlamaTokenizerFast", start_token="<s>", start_prepended=False
        ),
        sinks_removed=("<s>", "position 0"),
        sinks_flagged=("token '\\n': .41 of the attention in layer 2",),
        probes=(
            ProbeNote(name or "en_gum-ud-dev.conllu", "dev.conllu", "cd" * 32, 30, 76, 1341, 24005),
        ),
        passages=76,
        tokens=39210,
        used=20114,
        skipped=143,
        unusable_words=0.013,
        bits_per_character=BitsNote(2.41, 32, 31842),
        seed=0,
        versions={"headprobe": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        started="2026-11-22T15:13:00+00:00",
        seconds={"read": 2.1, "load": 0.4, "measure": 8.93, "judge": 0.9},
        peak_memory_mib=512.4,
        rules_sha256="ef" * 32,
        fold_hash=FOLD_HASH,
    )


def instances(relations: tuple[Relation, ...] = RELATIONS, hostile: bool = False) -> Instances:
    words = [sentence.split() for sentence in SENTENCES]
    flat = [word for sentence in words for word in sentence]
    forms = sorted(set(flat))
    index = [forms.index(word) for word in flat]
    if hostile:
        forms[forms.index("animal")] = HOSTILE
    sentence = np.concatenate([np.full(len(each), i) for i, each in enumerate(words)])
    marks = np.array([word in '".,?' for word in flat])
    return Instances(
        relations=relations,
        passage_ids=np.array([HOSTILE.replace("\x00", "") if hostile else "story:1"]),
        passage_documents=np.array(["story"]),
        passage_domains=np.array(["fiction"]),
        passage_clusters=np.array(["story"]),
        passage_original=np.array([-1]),
        passage_sentence=np.array([0]),
        passage_first=np.array([0, len(flat)]),
        sentence=sentence,
        upos=np.zeros(len(flat), dtype=np.int64),
        upos_names=np.array(["X"]),
        form=np.array(index),
        forms=np.array(forms),
        tokens=np.ones(len(flat), dtype=np.int64),
        usable=np.ones(len(flat), dtype=np.bool_),
        space=np.array([word not in {"n't", ".", ",", "?"} for word in flat]),
        word_classes=marks.astype(np.int64),
        class_queries=np.ones(len(flat), dtype=np.int64),
        n_all=np.bincount([link[0] for link in LINKS], minlength=len(relations)),
        link_relation=np.array([link[0] for link in LINKS]),
        link_query=np.array([link[1] for link in LINKS]),
        link_first=np.cumsum([0, *(len(link[2]) for link in LINKS)]),
        link_targets=np.array([target for link in LINKS for target in link[2]]),
        deprel=np.zeros(len(flat), dtype=np.int16),
        lemma=np.array(index),
        mention_end=np.full(len(flat), -1, dtype=np.int32),
        example_words=np.array([1, 4, 6, 8, 17, 23, 26, 30]),
        sampled_words=np.zeros(0, dtype=np.int64),
    )


def tallies(n_layers: int, n_heads: int, asked: Instances) -> Tallies:
    """Heads whose number is even look straight at the first target, the others elsewhere."""
    rows = len(asked.example_words)
    word = np.zeros((rows, n_layers, n_heads, 5), dtype=np.int16)
    weight = np.zeros((rows, n_layers, n_heads, 5), dtype=np.float32)
    for row, query in enumerate(asked.example_words.tolist()):
        target = next((link[2][0] for link in LINKS if link[1] == query), max(query - 2, 0))
        other = query - 1
        for place, (number, amount) in enumerate(((target, 0.62), (other, 0.2), (0, 0.05))):
            word[row, :, :, place] = number + 1
            weight[row, :, :, place] = amount - row / 100
        weight[row, :, 1::2, 0] = 0.1
    distance = np.arange(1, 512)
    profile = np.broadcast_to(np.exp(-distance / 6.0), (n_layers, n_heads, 511)).copy()
    return Tallies(
        {
            "example_word": word,
            "example_weight": weight,
            "profile": profile,
            "profile_pairs": np.ones(511, dtype=np.int64),
        }
    )


PAIRS = (
    Pair("L0H1", "L0H7", 0.95, 0.97, False, "repeats"),
    Pair("L1H2", "L1H3", 0.93, -0.98, True, "opposes"),
)

SKIPPED = (
    Skipped("dev.conllu:120", "link", "its query shares a token with another word", 131),
    Skipped("dev.conllu:988", "sentence", "longer than the context of 512 tokens", 2),
)


@dataclass(frozen=True)
class Size:
    n_layers: int = 4
    n_heads: int = 8
    n_kv_heads: int = 4


def write_run(
    target: Path,
    size: Size | None = None,
    hostile: bool = False,
    overwrite: bool = False,
    relations: tuple[Relation, ...] = RELATIONS,
    domains: tuple[str, ...] = ("fiction", "talk"),
) -> Run:
    """A whole run folder, through the same functions that a scan uses."""
    size = size or Size()
    skipped = SKIPPED
    made = manifest(size.n_layers, size.n_heads, size.n_kv_heads)
    if hostile:
        relations = (*RELATIONS, Relation("user", HOSTILE.replace("\x00", ""), "=2+3"))
        skipped = (*SKIPPED, Skipped("@" + HOSTILE, HOSTILE, "-" + HOSTILE, 3))
        made = manifest(size.n_layers, size.n_heads, size.n_kv_heads, HOSTILE)
        made = replace(made, tokenizer=replace(made.tokenizer, start_token=HOSTILE))
    asked = instances(relations, hostile)
    sums = tallies(size.n_layers, size.n_heads, asked)
    found = evidence(size.n_layers, size.n_heads, relations, domains=domains)
    with new_run(target, overwrite) as folder:
        write_sums(folder, asked, sums)
        write_results(
            folder,
            asked,
            sums,
            found,
            find_power(found, load_rules()),
            shape(size.n_layers, size.n_heads),
            conduct(size.n_layers, size.n_heads),
            verdicts(found, HOSTILE),
            PAIRS,
            skipped,
            made.model.n_kv_heads,
        )
        write_manifest(folder, made)
    return Run.load(target)


PLAN = Plan(
    model=HOSTILE,
    architecture="LlamaForCausalLM",
    n_layers=5,
    n_heads=8,
    n_kv_heads=(4,) * 5,
    device="cpu",
    dtype="float32",
    dtype_reason="auto: stored in 32 bits",
    target=run_folder.RUNS / "tiny",
    probes=manifest().probes,
    passages=3,
    tokens=900,
    skipped=2,
    controls=("random twin", "shuffled links"),
    relations=(("obj → head", 109), ("[red]own[/] → \x1b[31m", 1_000)),
)
