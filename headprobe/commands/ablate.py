"""``headprobe ablate``: what the model loses without some heads.

1. Read the probes of the run again: even document folds give the replacement values, odd ones the
   losses. Minimal pairs come from files.
2. Run the intact model, and leave out outcomes on which it is not above chance.
3. Run every set of heads and its null sets, each from its first ablated layer on.
4. Where a set does harm, run its label-preserving ablation and the control of that.
5. Compute effects with intervals, p, q, and write ``ablation.csv`` into the run folder.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from headprobe.analysis.ablation import (
    RECOVERY_COLUMNS,
    OutcomeChange,
    SetPlaces,
    add_q,
    has_effect,
    is_above_chance,
    outcome_rows,
    recovery_cells,
)
from headprobe.batching.corpus import Corpus
from headprobe.causal.ablation import Ablation, By, Head, Intervention
from headprobe.causal.losses import InterventionLosses, ScoredSequences, ablated_losses
from headprobe.causal.null_sets import NullSets, layer_sets, matched_sets
from headprobe.causal.outcomes import (
    LOSS,
    Outcome,
    OutcomeBuilder,
    bundled_pairs,
    find_pairs,
    read_pairs,
)
from headprobe.causal.replacements import collect_replacements
from headprobe.commands.ablation_progress import AblationProgress
from headprobe.commands.causal_text import (
    passage_tokens,
    read_run_corpus,
    split_halves,
    text_units,
)
from headprobe.commands.head_labels import HeadLabels
from headprobe.commands.measured_model import measured_model, measured_source
from headprobe.commands.provenance import versions
from headprobe.errors import HeadprobeError
from headprobe.format import count, suggest_names
from headprobe.model.heads import ObservedModel
from headprobe.model.in_memory import InMemoryModel
from headprobe.model.load import load_encoder
from headprobe.progress import Progress
from headprobe.results.tables import write_csv
from headprobe.results.views import AblationPlan
from headprobe.roles.rules import run_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.files import atomic_write
from headprobe.runs.fingerprint import Fingerprint
from headprobe.runs.folder import Run
from headprobe.runs.tables import read_frame
from headprobe.runs.unfinished_ablation import UnfinishedAblation
from headprobe.vocabulary import head_name, parse_head

QUERY_LOSS = "query-loss"
"""The outcome on the text at the query rows of a set's relations only."""


SET_TOKENS, EACH_TOKENS = 5_000, 10_000
"""Tokens of text by default: for named sets of heads, and for every head by itself."""


@dataclass(frozen=True)
class HeadSet:
    """A set of heads to ablate together."""

    name: str
    heads: tuple[Head, ...]
    role: str = ""
    """The role that the set stands for; matched null sets have no head with it."""


def choose_sets(
    run: Run, targets: Sequence[str], each: bool, role: str | None = None
) -> list[HeadSet]:
    """Return the sets that ``targets`` name: heads (one set together), ``role:NAME``,
    ``cluster:N`` and ``group:L3G1``; with ``each``, every head of the model by itself.

    ``role`` is the role that sets without ``role:NAME`` stand for.
    """
    sets = _named_sets(run, targets, each)
    if role is None:
        return sets
    known = {row.text("role") for row in run.rows(run_folder.CLAIMS)}
    if role not in known:
        raise HeadprobeError(
            f"--role {role}", "no head of the run has it", suggest_names(role, known)
        )
    return [replace(each, role=each.role or role) for each in sets]


def _named_sets(run: Run, targets: Sequence[str], each: bool) -> list[HeadSet]:
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


def check_replacement(by: str) -> By:
    """Return a replacement by its name; HeadprobeError for another word."""
    for known in get_args(By):
        if by == known:
            return by  # type: ignore[return-value]
    raise HeadprobeError(f"by {by!r}", "no replacement", suggest_names(by, get_args(By)))


@dataclass(frozen=True)
class AblationOptions:
    """What ``ablate`` takes besides the run and the sets."""

    by: By = "mean"
    """What takes the place of the heads' outputs."""
    null_count: int = 99
    """The number of random sets of each kind."""
    pairs: tuple[Path, ...] = ()
    """Files of minimal pairs, or names of built-in ones."""
    tokens: int = SET_TOKENS
    """About the number of tokens of text on which losses are measured."""

    @classmethod
    def of(
        cls,
        each: bool,
        *,
        by: By,
        null_count: int,
        pairs: Sequence[Path],
        tokens: int | None,
    ) -> "AblationOptions":
        """Fill in defaults: named sets run on all built-in pairs too, and on less text than every
        head by itself (``each``), because they are compared with many random sets."""
        default = () if each else bundled_pairs()
        return cls(
            by, null_count, tuple(pairs or default), tokens or (EACH_TOKENS if each else SET_TOKENS)
        )


@dataclass(frozen=True)
class PreparedAblation:
    """Everything that an ablation knows before the model is loaded."""

    run: Run
    sets: tuple[HeadSet, ...]
    options: AblationOptions
    source: Any
    """The source of the model (``model.load.CheckpointSource``)."""
    corpus: Corpus
    even: list[int]
    """The passages that give replacement values."""
    odd: list[int]
    """The passages on which losses are measured."""
    outcomes: tuple[Outcome, ...]
    scored: ScoredSequences
    nulls: tuple[tuple[NullSets, NullSets], ...]
    """The null sets of each set: by layer, and matched besides."""

    @property
    def interventions(self) -> list[tuple[Head, ...]]:
        """All sets and null sets, each once."""
        every = dict.fromkeys(each.heads for each in self.sets)
        for kinds in self.nulls:
            every |= dict.fromkeys(heads for null in kinds for heads in null.sets)
        return list(every)

    @property
    def plan(self) -> AblationPlan:
        """What the ablation will run."""
        layers = self.run.manifest.model.n_layers
        below = [layers - min(layer for layer, _ in heads) for heads in self.interventions]
        return AblationPlan(
            sets=tuple(each.name for each in self.sets),
            interventions=len(below),
            passes=sum(below) / layers,
            text_tokens=sum(len(passage_tokens(self.corpus, p)) for p in self.odd),
            pair_tokens=int(self.scored.lengths[len(self.odd) :].sum()),
            outcomes=tuple(outcome.name for outcome in self.outcomes),
            pairs=sum(len(outcome.cluster) for outcome in self.outcomes[1:]),
        )


def prepare_ablation(
    run: Run,
    sets: Sequence[HeadSet],
    options: AblationOptions,
    progress: Progress,
    *,
    trust_remote_code: bool = False,
    in_memory: InMemoryModel | None = None,
) -> PreparedAblation:
    """Read pairs and probes, and draw the null sets; HeadprobeError for errors that the user can
    correct."""
    listed = [pair for path in options.pairs for pair in read_pairs(find_pairs(path))]
    source = measured_source(run, trust_remote_code, in_memory)
    encoder = load_encoder(source)
    corpus = read_run_corpus(run, encoder, progress)
    even, odd = split_halves(corpus, options.tokens, run.manifest.seed, "ablate")
    builder = OutcomeBuilder()
    builder.add_text(corpus, odd)
    if left_out := builder.add_pairs(listed, encoder):
        progress.warn(
            f"{left_out} of {len(listed)} minimal pairs are left out: both sides are the same "
            "tokens"
        )
    return PreparedAblation(
        run,
        tuple(sets),
        options,
        source,
        corpus,
        even,
        odd,
        tuple(builder.outcomes),
        builder.scored(),
        tuple(_null_sets(run, sets, options.null_count)),
    )


def ablate(prepared: PreparedAblation, progress: Progress, *, resume: bool = False) -> pd.DataFrame:
    """Ablate each set, write ``ablation.csv`` into the run and return its new rows.

    With ``resume``, an ablation that was interrupted continues. Raises HeadprobeError for errors
    that the user can correct; no row is written then.
    """
    run, scored = prepared.run, prepared.scored
    state_path = run.path / run_folder.UNFINISHED_ABLATION
    fingerprint = _fingerprint(prepared)
    if resume:
        state = UnfinishedAblation.load(state_path, fingerprint)
    else:
        if state_path.exists():
            progress.warn("the unfinished ablation that this run keeps will be replaced")
        state = UnfinishedAblation(state_path, fingerprint)
    progress.stage("loading the model")
    first = torch.from_numpy(scored.sequences[0]).long()
    try:
        with measured_model(run, prepared.source, first) as observed:
            rows = _Attempt(prepared, observed, state, progress).rows()
    except KeyboardInterrupt:
        if not state.arrays:
            raise
        state.save()
        raise KeyboardInterrupt(
            "what was measured is saved. Run the same command again with --resume"
        ) from None
    progress.finish()
    table = pd.DataFrame(rows)[list(COLUMNS)]
    _write(run, table)
    state.remove()
    return table


COLUMNS = (
    *("set", "heads", "by", "outcome", "n", "base", "accuracy", "ablated"),
    *("effect", "effect_low", "effect_high", "selectivity", *RECOVERY_COLUMNS),
    *("null", "sets", "random_median", "random_q95", "p", "selectivity_p"),
    *("matched_null", "matched_sets", "matched_random_median", "matched_random_q95"),
    *("matched_p", "matched_selectivity_p", "q", "important", "usable"),
)
"""The columns of ``ablation.csv``, in their order."""


class _Attempt:
    """One ablation with the model loaded."""

    def __init__(
        self,
        prepared: PreparedAblation,
        observed: ObservedModel,
        state: UnfinishedAblation,
        progress: Progress,
    ) -> None:
        self._prepared, self._observed = prepared, observed
        self._state, self._progress = state, progress
        self._labels = HeadLabels.of(prepared.run, prepared.corpus)
        self._thresholds = run_rules(prepared.run).causal
        self._number = {heads: place for place, heads in enumerate(prepared.interventions)}

    def rows(self) -> list[dict[str, Any]]:
        """Run everything and return the rows of all outcomes."""
        prepared = self._prepared
        self._progress.stage("running the intact model")
        intact, _ = ablated_losses(self._observed, prepared.scored, [])
        vocabulary = self._observed.model.config.get_text_config().vocab_size
        chance = {outcome.name: 0.0 for outcome in prepared.outcomes} | {LOSS: np.log(vocabulary)}
        usable = {
            outcome.name: is_above_chance(
                outcome.values(intact),
                outcome.cluster,
                outcome.harm,
                chance[outcome.name],
                self._thresholds,
            )
            for outcome in prepared.outcomes
        }
        chosen = [outcome for outcome in prepared.outcomes if usable[outcome.name]]
        scored, changed = _only(prepared.scored, chosen)
        ablated = None
        if chosen:
            ablated = self._run("sets", scored, self._ablations(scored.lengths.tolist()))
        queries = self._query_units()
        places = [self._places(place) for place in range(len(prepared.sets))]
        rows: list[dict[str, Any]] = []
        for outcome in prepared.outcomes:
            base = outcome.values(intact)
            change = np.zeros((0, len(base)))
            if ablated is not None and usable[outcome.name]:
                change = changed[outcome.name].values(ablated) - base
            whole = OutcomeChange(
                outcome.name, base, change, outcome.cluster, outcome.harm, chance[outcome.name]
            )
            is_text = outcome.name == LOSS
            of_sets = outcome_rows(
                whole,
                places,
                usable[outcome.name],
                queries if is_text else [None] * len(places),
                self._thresholds,
            )
            named = [self._named(row, each) for row, each in zip(of_sets, self._sets, strict=True)]
            rows += named
            if is_text and usable[LOSS]:
                rows += self._query_rows(whole, named, places, queries)
        add_q(rows, self._thresholds.max_p)
        return rows

    @property
    def _sets(self) -> tuple[HeadSet, ...]:
        return self._prepared.sets

    def _named(self, row: dict[str, Any], each: HeadSet) -> dict[str, Any]:
        heads = ";".join(head_name(*head) for head in each.heads)
        nothing = dict.fromkeys(RECOVERY_COLUMNS, float("nan"))
        return {
            "set": each.name,
            "heads": heads,
            "by": self._prepared.options.by,
            **nothing,
            **row,
        }

    def _places(self, place: int) -> SetPlaces:
        kinds = self._prepared.nulls[place]
        return SetPlaces(
            self._number[self._sets[place].heads],
            tuple([self._number[heads] for heads in null.sets] for null in kinds),
            tuple(null.exact for null in kinds),
        )

    def _ablations(self, lengths: list[int]) -> list[Ablation]:
        """The ablations of all sets; ``lengths`` are those of the sequences they run on."""
        prepared, by = self._prepared, self._prepared.options.by
        self._progress.stage("collecting replacement values", len(prepared.even), "passages")
        replacements = collect_replacements(
            self._observed,
            [passage_tokens(prepared.corpus, passage) for passage in prepared.even],
            prepared.corpus.starts,
            donors_for=lengths if by == "resample" else (),
            seed=prepared.run.manifest.seed,
            advance=self._progress.advance,
        )
        return [Ablation(heads, by, replacements) for heads in prepared.interventions]

    def _run(
        self, name: str, scored: ScoredSequences, interventions: Sequence[Intervention]
    ) -> NDArray[np.float32]:
        """Return the losses [S, M] under the interventions, with progress and saved states."""
        empty = InterventionLosses.empty(len(interventions), scored)
        losses = self._state.take(f"{name}_losses", empty.losses)
        done = self._state.take(f"{name}_done", empty.done)
        results = InterventionLosses(losses, done)  # type: ignore[arg-type]
        layers = len(self._observed.layers)
        work = sum(layers - each.first_layer for each in interventions) / layers
        shown = AblationProgress(
            self._progress,
            f"running {count(len(interventions), 'intervention')} on "
            f"{int(scored.lengths.sum()):,} tokens, as much work as "
            f"{count(math.ceil(work), 'pass', 'passes')}",
            len(interventions) * len(scored.sequences),
            int(done.sum()),
        )

        def advance(steps: int) -> None:
            shown.advance(steps)
            self._state.save_sometimes()

        _, ablated = ablated_losses(self._observed, scored, interventions, advance, results)
        return ablated

    def _query_units(self) -> list[NDArray[np.bool_] | None]:
        """[U] of each set: the units of ``loss`` at the query rows of its relations."""
        prepared = self._prepared
        units = text_units(prepared.corpus, prepared.odd)
        tokens = [self._labels.query_tokens(each.heads, each.role) for each in self._sets]
        return [None if each is None else each[units] for each in tokens]

    def _query_rows(
        self,
        whole: OutcomeChange,
        of_text: Sequence[dict[str, Any]],
        places: Sequence[SetPlaces],
        queries: Sequence[NDArray[np.bool_] | None],
    ) -> list[dict[str, Any]]:
        """Return the rows of ``query-loss``, and add recovery to them and to those of ``loss``.

        A set has such a row if its relations have enough query rows. ``of_text`` are the rows of
        ``loss``.
        """
        parts: dict[int, OutcomeChange] = {}
        of_queries: dict[int, dict[str, Any]] = {}
        for place, units in enumerate(queries):
            if units is None or units.sum() < self._thresholds.min_rows:
                continue
            part = parts[place] = whole.only(units, QUERY_LOSS)
            is_usable = is_above_chance(part.base, part.cluster, 1, part.chance, self._thresholds)
            [row] = outcome_rows(part, [places[place]], is_usable, [None], self._thresholds)
            of_queries[place] = self._named(row, self._sets[place])
        if self._prepared.options.by == "mean":
            self._add_recovery(whole, of_text, parts, of_queries, places, queries)
        return list(of_queries.values())

    def _add_recovery(
        self,
        whole: OutcomeChange,
        of_text: Sequence[dict[str, Any]],
        parts: Mapping[int, OutcomeChange],
        of_queries: Mapping[int, dict[str, Any]],
        places: Sequence[SetPlaces],
        queries: Sequence[NDArray[np.bool_] | None],
    ) -> None:
        """Run the label-preserving ablations of the sets that do harm, and add what they recover.

        On ``loss`` and ``query-loss`` of a set with labels whose effect has a lower end above 0.
        """
        prepared = self._prepared
        pairs: dict[int, tuple[Intervention, Intervention]] = {}
        for place, each in enumerate(self._sets):
            rows = [of_text[place], *([of_queries[place]] if place in of_queries else [])]
            if any(has_effect(row) for row in rows):
                pair = self._labels.interventions(each.heads, each.role, prepared.odd)
                if pair is not None:
                    pairs[place] = pair
        if not pairs:
            return
        text = next(outcome for outcome in prepared.outcomes if outcome.name == LOSS)
        scored, changed = _only(prepared.scored, [text])
        ablated = self._run("labels", scored, [each for pair in pairs.values() for each in pair])
        change = changed[LOSS].values(ablated) - whole.base
        confidence = self._thresholds.confidence
        for order, place in enumerate(pairs):
            with_label, with_control = change[2 * order], change[2 * order + 1]
            lost = np.stack([whole.change[places[place].own], with_label, with_control])
            if has_effect(of_text[place]):
                of_text[place].update(recovery_cells(lost, whole.cluster, confidence))
            units = queries[place]
            if place in parts and units is not None and has_effect(of_queries[place]):
                cells = recovery_cells(lost[:, units], parts[place].cluster, confidence)
                of_queries[place].update(cells)


def _only(
    scored: ScoredSequences, outcomes: Sequence[Outcome]
) -> tuple[ScoredSequences, dict[str, Outcome]]:
    """Return the sequences and tokens of some outcomes, and the outcomes with the places of their
    tokens among these."""
    spans = [np.arange(o.tokens.start, o.tokens.stop) for o in outcomes]
    tokens = np.concatenate([np.zeros(0, np.int64), *spans])
    used, sequence = np.unique(scored.sequence[tokens], return_inverse=True)
    starts = np.cumsum([0, *(o.tokens.stop - o.tokens.start for o in outcomes)])
    moved = {
        o.name: replace(o, tokens=slice(int(start), int(stop)))
        for o, start, stop in zip(outcomes, starts[:-1], starts[1:], strict=True)
    }
    part = ScoredSequences(
        tuple(scored.sequences[number] for number in used),
        sequence.astype(np.int64),
        scored.row[tokens],
        scored.target[tokens],
    )
    return part, moved


def _fingerprint(prepared: PreparedAblation) -> Fingerprint:
    """Return everything that the losses of an ablation depend on."""
    run, scored = prepared.run, prepared.scored
    texts = hashlib.sha256()
    for ids in (*scored.sequences, *(passage_tokens(prepared.corpus, p) for p in prepared.even)):
        texts.update(np.asarray(ids, dtype=np.int64).tobytes() + b";")
    sets = ";".join(" ".join(head_name(*head) for head in h) for h in prepared.interventions)
    return Fingerprint(
        {
            "the heads": hashlib.sha256(sets.encode()).hexdigest(),
            "the replacement": prepared.options.by,
            "the texts": texts.hexdigest(),
            "the rules": run.manifest.rules_sha256,
            "the weights": run.manifest.model.weights_sha256,
            **{f"the version of {name}": value for name, value in versions().items()},
            "the number of threads (OMP_NUM_THREADS)": str(torch.get_num_threads()),
        }
    )


def _null_sets(run: Run, sets: Sequence[HeadSet], count: int) -> list[tuple[NullSets, NullSets]]:
    """Return the null sets of each set: by layer, and matched by output norm besides."""
    rows, rng = run.rows(run_folder.HEADS), np.random.default_rng(run.manifest.seed)
    n_heads = run.manifest.model.n_heads
    distance = run_rules(run).causal.matched_norm
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
                matched_sets(each.heads, n_heads, norms, with_role, count, rng, distance),
            )
        )
    return nulls


def _write(run: Run, table: pd.DataFrame) -> None:
    """Write the rows beside earlier ones of other sets, replacements and outcomes."""
    path, keys = run.path / run_folder.ABLATION, ["set", "by", "outcome"]
    if path.exists():
        earlier = read_frame(path)
        known = set(table[keys].itertuples(index=False, name=None))
        others = [row not in known for row in earlier[keys].itertuples(index=False, name=None)]
        earlier = earlier[others].reindex(columns=list(COLUMNS))
        if len(earlier):
            table = pd.concat([earlier, table], ignore_index=True)
    with atomic_write(path) as file:
        write_csv(table, Path(file.name))
