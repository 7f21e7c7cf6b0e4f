"""``headprobe ablate``: what the model loses without some heads.

1. Read the probes of the run again: even document folds give the replacement values, odd ones the
   losses. Minimal pairs come from files.
2. Run the intact model, and leave out outcomes on which it is not above chance.
3. Run every set of heads and its null sets, each from its first ablated layer on.
4. Compute effects with intervals, p, q, and write ``ablation.csv`` into the run folder.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from headprobe.analysis.effects import (
    NullComparison,
    above_half,
    adjust,
    cluster_sums,
    compare_with_null,
    mean_effects,
    selectivity,
)
from headprobe.batching.corpus import Corpus
from headprobe.causal.ablation import Ablation, By, Head
from headprobe.causal.losses import ablated_losses
from headprobe.causal.null_sets import NullSets, layer_sets, matched_sets
from headprobe.causal.outcomes import LOSS, Outcome, OutcomeBuilder, bundled_pairs, read_pairs
from headprobe.causal.replacements import collect_replacements
from headprobe.commands.measured_model import measured_model, measured_source
from headprobe.commands.prepare import read_corpus
from headprobe.errors import HeadprobeError
from headprobe.format import relation_name
from headprobe.model.load import load_encoder
from headprobe.probes.file import ProbeFile
from headprobe.progress import Progress
from headprobe.results.tables import write_csv
from headprobe.runs import folder as run_folder
from headprobe.runs.files import atomic_write
from headprobe.runs.folder import Run
from headprobe.runs.tables import read_frame
from headprobe.vocabulary import head_name, parse_head

MIN_SIDE_ROWS = 50
"""Rows of text that selectivity needs among the query rows of a relation, and among the others."""

CONFIDENCE = 0.95
"""Confidence level of the intervals."""

SIGNIFICANT = 0.05
"""The largest p and q with which a set counts as important."""

EVERY_WORD = frozenset({"punctuation", "word-class"})
"""Families whose queries are all words: there are no other rows to compare them with."""


@dataclass(frozen=True)
class HeadSet:
    """A set of heads to ablate together."""

    name: str
    heads: tuple[Head, ...]
    role: str = ""
    """The role that the set stands for; matched null sets have no head with it."""


def choose_sets(run: Run, targets: Sequence[str], each: bool) -> list[HeadSet]:
    """Return the sets that ``targets`` name: heads (one set together), ``role:NAME``,
    ``cluster:N`` and ``group:L3G1``; with ``each``, every head of the model by itself."""
    rows = run.rows(run_folder.HEADS)
    if each:
        if targets:
            raise HeadprobeError("--each", "takes no heads", "Name heads, or give --each alone")
        places = [(row.whole("layer"), row.whole("head")) for row in rows]
        return [HeadSet(head_name(*place), (place,)) for place in places]
    sets, named = [], []
    for target in targets:
        kind, colon, value = target.partition(":")
        if not colon:
            head = parse_head(target)
            run.check_head(*head)
            named.append(head)
            continue
        if kind == "role":
            members = [row for row in rows if value in row.text("roles").split(";")]
        elif kind == "cluster":
            members = [row for row in rows if row.cells.get("cluster", "") == value]
        elif kind == "group":
            groups = [f"L{row.whole('layer')}G{row.whole('kv_group')}" for row in rows]
            members = [
                row for row, group in zip(rows, groups, strict=True) if group == value.upper()
            ]
        else:
            raise HeadprobeError(
                target, "names no heads", "Write L12H5, role:NAME, cluster:N or group:L3G1"
            )
        if not members:
            raise HeadprobeError(
                target, "no head of the run is in it", "List heads: headprobe show"
            )
        heads = tuple((row.whole("layer"), row.whole("head")) for row in members)
        sets.append(HeadSet(target, heads, value if kind == "role" else ""))
    if named:
        heads = tuple(sorted(dict.fromkeys(named)))
        sets.insert(0, HeadSet(" ".join(head_name(*head) for head in heads), heads))
    if not sets:
        raise HeadprobeError(
            "ablate", "no heads are named", "Name heads (L12H5, role:NAME), or give --each"
        )
    return sets


def ablate(
    run: Run,
    sets: Sequence[HeadSet],
    progress: Progress,
    *,
    by: By = "mean",
    null_count: int = 99,
    pairs: Sequence[Path] = (),
    tokens: int = 10_000,
    trust_remote_code: bool = False,
) -> pd.DataFrame:
    """Ablate each of ``sets``, write ``ablation.csv`` into the run and return its new rows.

    ``tokens`` is about the number of tokens of text on which losses are measured. Raises
    HeadprobeError for errors that the user can correct; nothing is written then.
    """
    listed = [pair for path in pairs or bundled_pairs() for pair in read_pairs(path)]
    source = measured_source(run, trust_remote_code)
    encoder = load_encoder(source)
    corpus = _corpus(run, encoder, progress)
    even, odd = _halves(corpus, tokens, run.manifest.seed)
    builder = OutcomeBuilder()
    builder.add_text(corpus, odd)
    builder.add_pairs(listed, encoder)
    scored = builder.scored()
    progress.stage("loading the model")
    with measured_model(run, source, torch.from_numpy(scored.sequences[0]).long()) as observed:
        progress.stage("collecting replacement values", len(even), "passages")
        donors_for = scored.lengths.tolist() if by == "resample" else ()
        replacements = collect_replacements(
            observed,
            [_tokens(corpus, passage) for passage in even],
            corpus.starts,
            donors_for=donors_for,
            seed=run.manifest.seed,
            advance=progress.advance,
        )
        nulls = _null_sets(run, sets, null_count)
        every = dict.fromkeys(each.heads for each in sets)
        for kinds in nulls:
            every |= dict.fromkeys(heads for null in kinds for heads in null.sets)
        number = {heads: place for place, heads in enumerate(every)}
        ablations = [Ablation(heads, by, replacements) for heads in every]
        layers = sum(len(observed.layers) - each.first_layer for each in ablations)
        total = int(scored.lengths.sum())
        progress.stage(
            f"ablating {len(ablations):,} sets of heads on {total:,} tokens, as much work as "
            f"{layers / len(observed.layers):,.0f} passes",
            len(ablations) * len(scored.sequences),
            "sequences",
        )
        intact, ablated = ablated_losses(observed, scored, ablations, progress.advance)
        vocabulary = observed.model.config.get_text_config().vocab_size
    progress.finish()
    masks = [_query_rows(run, corpus, odd, each) for each in sets]
    rows: list[dict[str, Any]] = []
    for outcome in builder.outcomes:
        rows += _rows(outcome, sets, nulls, number, intact, ablated, masks, vocabulary)
    table = pd.DataFrame(rows)
    table.insert(2, "by", by)
    _write(run, table)
    return table


def _corpus(run: Run, encoder: Any, progress: Progress) -> Corpus:
    """Read the probes of the run again; HeadprobeError where a file has changed."""
    files = []
    for note in run.manifest.probes:
        path = Path(note.path)
        if not path.is_file():
            raise HeadprobeError(
                note.path, f"the probe file of {run.path} is not here", "Restore it, or scan again"
            )
        file = ProbeFile(path, note.name)
        if file.sha256 != note.sha256:
            raise HeadprobeError(
                note.path, f"is not as {run.path} measured it", "Restore it, or scan again"
            )
        files.append(file)
    probes = read_corpus(
        files,
        encoder,
        context=run.manifest.model.context,
        budget=None,
        max_passages=None,
        seed=run.manifest.seed,
        progress=progress,
    )
    return probes.corpus


def _halves(corpus: Corpus, tokens: int, seed: int) -> tuple[list[int], list[int]]:
    """Return passages of even and of odd document folds, each of about ``tokens`` tokens, in a
    random order; HeadprobeError where there is none of either."""
    is_odd = corpus.instances.document_fold % 2 == 1
    order = np.random.default_rng(seed).permutation(len(is_odd))
    halves = []
    for wanted in (False, True):
        passages = order[is_odd[order] == wanted]
        before = np.cumsum(corpus.lengths[passages]) - corpus.lengths[passages]
        halves.append([int(passage) for passage in passages[before < tokens]])
    if not all(halves):
        raise HeadprobeError(
            "ablate",
            "one half of the documents is empty: values and losses need a half each",
            "Scan probes with more documents",
        )
    return halves[0], halves[1]


def _tokens(corpus: Corpus, passage: int) -> NDArray[np.int32]:
    return corpus.token_ids[corpus.token_first[passage] : corpus.token_first[passage + 1]]


def _null_sets(run: Run, sets: Sequence[HeadSet], count: int) -> list[tuple[NullSets, NullSets]]:
    """Return the null sets of each set: by layer, and matched by output norm besides."""
    rows, rng = run.rows(run_folder.HEADS), np.random.default_rng(run.manifest.seed)
    n_heads = run.manifest.model.n_heads
    places = [(row.whole("layer"), row.whole("head")) for row in rows]
    norms = {at: row.number("output_norm") or 0.0 for at, row in zip(places, rows, strict=True)}
    nulls = []
    for each in sets:
        with_role = [
            at
            for at, row in zip(places, rows, strict=True)
            if each.role and each.role in row.text("roles").split(";")
        ]
        nulls.append(
            (
                layer_sets(each.heads, n_heads, count, rng),
                matched_sets(each.heads, n_heads, norms, with_role, count, rng),
            )
        )
    return nulls


def _query_rows(
    run: Run, corpus: Corpus, passages: Sequence[int], heads: HeadSet
) -> NDArray[np.bool_]:
    """[U]: the units of the outcome ``loss`` that are predicted at query rows of the relations by
    which the heads earned roles (only the set's role, where it has one)."""
    instances = corpus.instances
    names = {
        (row.text("family"), row.text("relation"), row.text("looks_to"))
        for row in run.rows(run_folder.CLAIMS)
        if (row.whole("layer"), row.whole("head")) in heads.heads
        and (not heads.role or row.text("role") == heads.role)
    }
    is_query = np.zeros(int(corpus.token_first[-1]), dtype=bool)
    for number, relation in enumerate(instances.relations):
        if (relation.family, relation_name(relation), relation.looks_to) in names:
            if relation.family in EVERY_WORD:
                continue
            words = instances.of(number).query
            first = corpus.token_first[instances.passage[words]]
            is_query[first + corpus.last_token[words]] = True
    starts = corpus.starts
    # The unit of a token is predicted at the row before it
    spans = [
        is_query[corpus.token_first[p] + starts - 1 : corpus.token_first[p + 1] - 1]
        for p in passages
    ]
    return np.concatenate(spans)


def _is_usable(outcome: Outcome, values: NDArray[np.float64], vocabulary: int) -> bool:
    """Whether the intact model is above chance: its loss is below that of a uniform guess, or it
    prefers the good sentence in more than half of these pairs."""
    if outcome.name != LOSS:
        return above_half(int((values > 0).sum()), len(values)) <= SIGNIFICANT
    sums, sizes = cluster_sums(math.log(vocabulary) - values[None], outcome.cluster)
    return bool(mean_effects(sums, sizes, CONFIDENCE).p[0] <= SIGNIFICANT)


def _rows(
    outcome: Outcome,
    sets: Sequence[HeadSet],
    nulls: Sequence[tuple[NullSets, NullSets]],
    number: dict[tuple[Head, ...], int],
    intact: NDArray[np.float32],
    ablated: NDArray[np.float32],
    masks: Sequence[NDArray[np.bool_]],
    vocabulary: int,
) -> list[dict[str, Any]]:
    """Return the rows of one outcome; effects of an unusable one are empty."""
    base = outcome.values(intact)
    usable = _is_usable(outcome, base, vocabulary)
    change = outcome.values(ablated) - base
    sums, sizes = cluster_sums(change, outcome.cluster)
    effects = mean_effects(sums, sizes, CONFIDENCE)
    harm = outcome.harm * effects.mean
    own = np.array([number[each.heads] for each in sets])
    p_own = mean_effects(outcome.harm * sums, sizes, CONFIDENCE).p[own]
    q = adjust(p_own) if usable else np.full(len(sets), np.nan)
    rows = []
    for place, (each, kinds) in enumerate(zip(sets, nulls, strict=True)):
        at = own[place]
        compared = [
            compare_with_null(harm[at], harm[[number[heads] for heads in null.sets]], null.exact)
            for null in kinds
        ]
        row: dict[str, Any] = {
            "set": each.name,
            "heads": ";".join(head_name(*head) for head in each.heads),
            "outcome": outcome.name,
            "n": len(base),
            "base": base.mean(),
        }
        nothing = float("nan")
        row |= {
            "ablated": base.mean() + effects.mean[at] if usable else nothing,
            "effect": effects.mean[at] if usable else nothing,
            "effect_low": effects.low[at] if usable else nothing,
            "effect_high": effects.high[at] if usable else nothing,
            "selectivity": (
                selectivity(change[[at]], masks[place], MIN_SIDE_ROWS)[0]
                if usable and outcome.name == LOSS
                else nothing
            ),
        }
        for prefix, null in zip(("", "matched_"), compared, strict=True):
            row |= _null_cells(prefix, null, outcome.harm, usable)
        row |= {
            "q": q[place],
            "important": usable and _is_important(float(q[place]), compared),
            "usable": usable,
        }
        rows.append(row)
    return rows


def _null_cells(prefix: str, null: NullComparison, harm: int, usable: bool) -> dict[str, Any]:
    nothing = float("nan")
    return {
        f"{prefix}null": null.kind,
        f"{prefix}sets": null.sets,
        f"{prefix}random_median": harm * null.median if usable else nothing,
        f"{prefix}random_q95": harm * null.q95 if usable else nothing,
        f"{prefix}p": null.p if usable else nothing,
    }


def _is_important(q: float, nulls: Sequence[NullComparison]) -> bool:
    """By q and by each null that has enough sets; by q alone where there are too few."""
    return q <= SIGNIFICANT and all(math.isnan(null.p) or null.p <= SIGNIFICANT for null in nulls)


def _write(run: Run, table: pd.DataFrame) -> None:
    """Write the rows beside earlier ones of other sets, replacements and outcomes."""
    path, keys = run.path / run_folder.ABLATION, ["set", "by", "outcome"]
    if path.exists():
        earlier = read_frame(path)
        known = set(table[keys].itertuples(index=False, name=None))
        others = [row not in known for row in earlier[keys].itertuples(index=False, name=None)]
        if any(others):
            table = pd.concat([earlier[others], table], ignore_index=True)
    with atomic_write(path) as file:
        write_csv(table, Path(file.name))
