"""``headprobe takeover``: do other heads take over from ablated ones?

1. Choose the heads to ablate: those named, or the leaders of clusters of repeaters and the heads
   that matter most.
2. *Running*: ablate each of them, its partners, and both; where the harm is more than the sum,
   compare it with pairs in which a matched head takes the partner's place.
3. *Starts*: with one head ablated, measure the role scores and direct effects of all later heads;
   where they rise, compare that with ablations of matched heads.
4. Write ``takeover.csv`` into the run folder.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from headprobe.analysis.ablation import is_above_chance
from headprobe.analysis.effects import min_sets
from headprobe.analysis.takeover import (
    Responders,
    Running,
    clustered,
    interaction,
    is_material,
    judge_interaction,
    judge_responders,
    norm_share,
    starts,
)
from headprobe.batching.corpus import Corpus
from headprobe.causal.ablation import Ablation, Head, Replacements
from headprobe.causal.losses import ablated_losses
from headprobe.causal.outcomes import OutcomeBuilder
from headprobe.causal.replacements import collect_replacements
from headprobe.causal.takeover import Request, Response, ResponseMeasurement
from headprobe.commands.ablate import choose_sets
from headprobe.commands.ablation_progress import AblationProgress
from headprobe.commands.causal_text import (
    passage_tokens,
    read_run_corpus,
    split_halves,
    text_units,
)
from headprobe.commands.head_labels import HeadLabels, TextInstances
from headprobe.commands.measured_model import measured_model, measured_source
from headprobe.format import count, relation_name
from headprobe.model.heads import ObservedModel
from headprobe.model.in_memory import InMemoryModel
from headprobe.model.load import load_encoder
from headprobe.progress import Progress
from headprobe.results.importance import NEITHER, RUNNING, STARTS, UNUSABLE, single_effects
from headprobe.results.tables import write_csv
from headprobe.roles.rules import run_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.files import atomic_write
from headprobe.runs.folder import Run
from headprobe.vocabulary import head_name, parse_head

MOST_IMPORTANT = 12
"""The number of heads that are ablated by default, besides leaders of clusters."""

MAX_ROWS = 256
"""The most rows at which the direct effects of an ablation are computed."""

COLUMNS = (
    *("ablated", "responder", "relation", "top1_before", "top1_after", "change_low"),
    *("direct_effect_change", "direct_effect_change_low", "reaction", "reaction_low", "q"),
    *("response_control_q95", "response_control_q"),
    *("interaction", "interaction_low", "interaction_control_q95", "controls", "norm_share"),
    "verdict",
)
"""The columns of ``takeover.csv``, in their order."""

_NOTHING = float("nan")


def choose_heads(run: Run, names: Sequence[str]) -> dict[Head, list[Head]]:
    """Return the heads that ``names`` name, each with the others as partners.

    Names are heads, ``role:NAME``, ``cluster:N`` or ``group:L3G1``. Without names: the leaders of
    clusters of repeaters, with their repeaters as partners; the heads that matter most are added
    when the model is loaded (``takeover``).
    """
    if names:
        heads = dict.fromkeys(
            head for each in choose_sets(run, names, False) for head in each.heads
        )
        return {head: [other for other in heads if other != head] for head in heads}
    chosen: defaultdict[Head, list[Head]] = defaultdict(list)
    for row in run.rows(run_folder.HEADS):
        if row.text("repeater_of"):
            leader = parse_head(row.text("repeater_of"))
            chosen[leader].append((row.whole("layer"), row.whole("head")))
    return dict(chosen)


def takeover(
    run: Run,
    names: Sequence[str],
    progress: Progress,
    *,
    tokens: int = 4_000,
    trust_remote_code: bool = False,
    in_memory: InMemoryModel | None = None,
) -> pd.DataFrame:
    """Test whether other heads take over, write ``takeover.csv`` and return its rows.

    ``tokens`` is about the number of tokens of text. Raises HeadprobeError for errors that the user
    can correct; nothing is written then.
    """
    chosen = choose_heads(run, names)
    source = measured_source(run, trust_remote_code, in_memory)
    encoder = load_encoder(source)
    corpus = read_run_corpus(run, encoder, progress)
    even, odd = split_halves(corpus, tokens, run.manifest.seed, "takeover")
    progress.stage("loading the model")
    first = torch.from_numpy(passage_tokens(corpus, odd[0])).long()
    with measured_model(run, source, first) as observed:
        progress.stage("collecting replacement values", len(even), "passages")
        replacements = collect_replacements(
            observed,
            [passage_tokens(corpus, passage) for passage in even],
            corpus.starts,
            seed=run.manifest.seed,
            advance=progress.advance,
        )
        attempt = _Attempt(run, corpus, odd, observed, replacements, progress)
        if not names:
            for head in most_important(run) or attempt.measure_importance(even):
                chosen.setdefault(head, [])
            chosen = attempt.add_partners(chosen)
        rows = attempt.rows(chosen)
    progress.finish()
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    with atomic_write(run.path / run_folder.TAKEOVER) as file:
        write_csv(table, Path(file.name))
    return table


def most_important(run: Run) -> list[Head]:
    """Return the heads with the largest effect on the loss in ``ablation.csv``; none unless every
    head was ablated by itself."""
    effects = {
        parse_head(name): rows["loss"].number("effect")
        for name, rows in single_effects(run).items()
        if "loss" in rows
    }
    known = {head: effect for head, effect in effects.items() if effect is not None}
    model = run.manifest.model
    if len(known) < model.n_layers * model.n_heads:
        return []
    return sorted(known, key=lambda head: -known[head])[:MOST_IMPORTANT]


@dataclass(frozen=True)
class _Rows:
    """The rows of text on which one ablation is judged."""

    units: NDArray[np.int64]
    """The units of the text's loss: those at the query rows of the head's relation, or all."""
    sample: NDArray[np.int64]
    """At most ``MAX_ROWS`` of them, for direct effects."""


class _Attempt:
    """One test of takeover with the model loaded."""

    def __init__(
        self,
        run: Run,
        corpus: Corpus,
        odd: Sequence[int],
        observed: ObservedModel,
        replacements: Replacements,
        progress: Progress,
    ) -> None:
        self._run, self._corpus, self._odd = run, corpus, odd
        self._observed, self._replacements, self._progress = observed, replacements, progress
        self._labels = HeadLabels.of(run, corpus)
        self._thresholds = run_rules(run).causal
        builder = OutcomeBuilder()
        builder.add_text(corpus, odd)
        self._scored, [self._text] = builder.scored(), builder.outcomes
        rows = run.rows(run_folder.HEADS)
        self._norms = {
            (row.whole("layer"), row.whole("head")): row.number("output_norm") or 0.0
            for row in rows
        }
        self._cluster = {
            (row.whole("layer"), row.whole("head")): row.text("cluster") for row in rows
        }

    def measure_importance(self, even: Sequence[int]) -> list[Head]:
        """Return the heads with the largest effect on the loss of the even document folds."""
        builder = OutcomeBuilder()
        builder.add_text(self._corpus, even)
        scored = builder.scored()
        heads = list(self._norms)
        ablations = [Ablation((head,), "mean", self._replacements) for head in heads]
        shown = AblationProgress(
            self._progress,
            f"ablating each of {len(heads):,} heads, to find those that matter most",
            len(heads) * len(scored.sequences),
        )
        intact, ablated = ablated_losses(self._observed, scored, ablations, shown.advance)
        order = np.argsort(-(ablated - intact).mean(1), kind="stable")
        return [heads[int(place)] for place in order[:MOST_IMPORTANT]]

    def add_partners(self, chosen: Mapping[Head, Sequence[Head]]) -> dict[Head, list[Head]]:
        """Give each head the strongest other head of its relation as a partner.

        Relations are those by which heads earned roles, the strongest claim first.
        """
        best: dict[int, list[Head]] = defaultdict(list)
        claims = self._run.rows(run_folder.CLAIMS)
        strength = {
            (row.text("name"), row.text("relation")): row.number("gain") or 0.0 for row in claims
        }
        for head in self._norms:
            for number in self._labels.relations(head):
                best[number].append(head)
        partners = {}
        for head, known in chosen.items():
            others = list(known)
            for number in self._labels.relations(head)[:1]:
                relation = self._corpus.instances.judged_relations[number]

                def gain(other: Head, name: str = relation_name(relation)) -> float:
                    return strength.get((head_name(*other), name), 0.0)

                rest = [each for each in best[number] if each != head and each not in others]
                others += sorted(rest, key=gain, reverse=True)[:1]
            partners[head] = others
        return partners

    def rows(self, chosen: Mapping[Head, Sequence[Head]]) -> list[dict[str, Any]]:
        """Run everything and return the rows of ``takeover.csv``."""
        self._progress.stage("running the intact model")
        intact, _ = ablated_losses(self._observed, self._scored, [])
        base = self._text.values(intact)
        vocabulary = self._observed.model.config.get_text_config().vocab_size
        chance = float(np.log(vocabulary))
        if not is_above_chance(base, self._text.cluster, 1, chance, self._thresholds):
            return [
                self._row(head, other, verdict=UNUSABLE)
                for head, partners in chosen.items()
                for other in partners or [head]
            ]
        rows_of = {head: self._rows_of(head) for head in chosen}
        pairs = [(head, other) for head, partners in chosen.items() for other in partners]
        losses = self._losses([*((head,) for head in chosen), *((o,) for _, o in pairs), *pairs])
        running = self._running(pairs, rows_of, base, losses)
        responses = self._responses(list(chosen), rows_of, base, losses)
        rows: list[dict[str, Any]] = []
        for head in chosen:
            cells = dict(responses[head])
            for other in dict.fromkeys([*chosen[head], *cells]):
                pair = running.get((head, other))
                row = self._row(head, other, **cells.get(other, {}))
                if pair is not None:
                    row |= {
                        "interaction": pair.value,
                        "interaction_low": pair.low,
                        "interaction_control_q95": pair.control_q95,
                        "controls": pair.controls,
                    }
                    # What starts does not run yet, though the pair interacts as well
                    if pair.runs and row["verdict"] != STARTS:
                        row["verdict"] = RUNNING
                rows.append(row)
        return rows

    def _row(self, head: Head, other: Head, **cells: Any) -> dict[str, Any]:
        relations = self._labels.relations(head)[:1]
        named = [relation_name(self._corpus.instances.judged_relations[n]) for n in relations]
        row: dict[str, Any] = dict.fromkeys(COLUMNS, _NOTHING)
        row |= {
            "ablated": head_name(*head),
            "responder": head_name(*other),
            "relation": "".join(named),
            "controls": 0,
            "verdict": NEITHER,
        }
        return row | cells

    def _rows_of(self, head: Head) -> _Rows:
        """The units at the query rows of the head's relations, if there are enough; else all."""
        units = np.arange(len(self._text.cluster))
        is_query = self._labels.query_tokens([head])
        if is_query is not None:
            at_queries = np.flatnonzero(is_query[text_units(self._corpus, self._odd)])
            units = at_queries if len(at_queries) >= self._thresholds.min_rows else units
        rng = np.random.default_rng(self._run.manifest.seed)
        size = min(MAX_ROWS, len(units))
        return _Rows(units, np.sort(rng.choice(units, size, replace=False)))

    def _losses(
        self, sets: Sequence[tuple[Head, ...]]
    ) -> dict[frozenset[Head], NDArray[np.float64]]:
        """Return the units' losses [U] without each set of heads."""
        every = list(dict.fromkeys(map(frozenset, sets)))
        ablations = [Ablation(tuple(sorted(heads)), "mean", self._replacements) for heads in every]
        shown = AblationProgress(
            self._progress,
            f"running {count(len(every), 'intervention')} on "
            f"{int(self._scored.lengths.sum()):,} tokens",
            len(every) * len(self._scored.sequences),
        )
        _, ablated = ablated_losses(self._observed, self._scored, ablations, shown.advance)
        return dict(zip(every, self._text.values(ablated), strict=True))

    def _running(
        self,
        pairs: Sequence[tuple[Head, Head]],
        rows_of: Mapping[Head, _Rows],
        base: NDArray[np.float64],
        losses: dict[frozenset[Head], NDArray[np.float64]],
    ) -> dict[tuple[Head, Head], Running]:
        """Return the interactions of pairs, those with a lower end above 0 beside controls."""

        def units(head: Head, other: Head) -> NDArray[np.float64]:
            one, two, both = (
                losses[frozenset(each)] for each in ((head,), (other,), (head, other))
            )
            every = interaction(base, one, two, both)
            return np.asarray(every[rows_of[head].units])

        confidence, min_share = self._thresholds.confidence, self._thresholds.min_share
        effects = {
            pair: clustered(
                units(*pair)[None], self._text.cluster[rows_of[pair[0]].units], confidence
            )
            for pair in pairs
        }
        joint = {
            (head, other): clustered(
                (losses[frozenset((head, other))] - base)[None, rows_of[head].units],
                self._text.cluster[rows_of[head].units],
                confidence,
            )
            for head, other in pairs
        }
        doubtful = [
            pair for pair, effect in effects.items() if is_material(effect, joint[pair], min_share)
        ]
        controls = {
            (head, other): self._controls(other, {head, other}, len(self._observed.layers))
            for head, other in doubtful
        }
        wanted = [
            heads
            for (head, _), others in controls.items()
            for each in others
            for heads in ((each,), (head, each))
            if frozenset(heads) not in losses
        ]
        if wanted:
            losses |= self._losses(wanted)
        return {
            pair: judge_interaction(
                effect,
                joint[pair],
                np.array([units(pair[0], each).mean() for each in controls.get(pair, ())]),
                self._thresholds,
            )
            for pair, effect in effects.items()
        }

    def _controls(self, head: Head, taken: set[Head], below: int) -> list[Head]:
        """Return heads that can take the place of ``head``: of its layer, else of the nearest ones.

        At least ``min_sets`` where there are so many in the layers before ``below``. Those with a
        similar output norm (``matched_norm``) come first; none is in the cluster of a head in
        ``taken``.
        """
        clusters = {self._cluster[each] for each in taken} - {""}
        free = [
            each
            for each in self._norms
            if each not in taken and each[0] < below and self._cluster[each] not in clusters
        ]

        matched = self._thresholds.matched_norm

        def distance(each: Head) -> float:
            one, other = self._norms[each], self._norms[head]
            return abs(float(np.log(one / other))) if one > 0 and other > 0 else np.inf

        own = [each for each in free if each[0] == head[0] and distance(each) <= matched]
        order = sorted(
            (each for each in free if each not in own),
            key=lambda each: (
                distance(each) > matched,
                abs(each[0] - head[0]),
                distance(each),
            ),
        )
        return [*own, *order][: max(min_sets(self._thresholds.max_p), len(own))]

    def _responses(
        self,
        heads: Sequence[Head],
        rows_of: Mapping[Head, _Rows],
        base: NDArray[np.float64],
        losses: Mapping[frozenset[Head], NDArray[np.float64]],
    ) -> dict[Head, dict[Head, dict[str, Any]]]:
        """Return the cells of each ablated head's later heads."""
        relation = {head: next(iter(self._labels.relations(head)), None) for head in heads}
        prepared = self._labels.text_instances(
            {n for n in relation.values() if n is not None}, self._odd
        )
        measurement = ResponseMeasurement(
            self._observed,
            self._scored,
            self._replacements,
            {number: each.by_sequence for number, each in prepared.items()},
            {number: len(each.cluster) for number, each in prepared.items()},
        )
        later = {
            head: tuple(other for other in self._norms if other[0] > head[0]) for head in heads
        }
        requests = [
            request
            for head in heads
            for request in (
                Request(None, rows_of[head].sample, relation[head], later[head]),
                Request(head, rows_of[head].sample, relation[head], later[head], compare=True),
            )
        ]
        responses = self._measure(measurement, requests, "measuring what later heads do")
        judged: dict[Head, Responders] = {}
        for place, head in enumerate(heads):
            before, after = responses[2 * place : 2 * place + 2]
            harm = (losses[frozenset((head,))] - base)[rows_of[head].sample]
            request = requests[2 * place]
            judged[head] = self._judge(measurement, prepared, request, before, after, harm)
        controls = self._response_controls(measurement, prepared, requests, responses, judged)
        cells: dict[Head, dict[Head, dict[str, Any]]] = {}
        for place, head in enumerate(heads):
            responders = judged[head]
            started = starts(responders, controls[head])
            sample = rows_of[head].sample
            share = _NOTHING
            if measurement.has_direct and later[head]:
                share = norm_share(
                    losses[frozenset((head,))][sample] - base[sample],
                    responses[2 * place + 1].frozen.astype(np.float64) - base[sample],
                    self._text.cluster[sample],
                    self._thresholds.confidence,
                )
            cells[head] = {
                other: {
                    "top1_before": responders.top1_before[k],
                    "top1_after": responders.top1_after[k],
                    "change_low": responders.change_low[k],
                    "direct_effect_change": responders.direct[k],
                    "direct_effect_change_low": responders.direct_low[k],
                    "reaction": responders.reaction[k],
                    "reaction_low": responders.reaction_low[k],
                    "q": responders.q[k],
                    "response_control_q95": started.control_q95[k],
                    "response_control_q": started.control_q[k],
                    "norm_share": share,
                    "verdict": STARTS if started.starts[k] else NEITHER,
                }
                for k, other in enumerate(later[head])
            }
        return cells

    def _measure(
        self, measurement: ResponseMeasurement, requests: Sequence[Request], name: str
    ) -> list[Response]:
        shown = AblationProgress(self._progress, name, len(requests) * len(self._scored.sequences))
        return measurement.run(requests, shown.advance)

    def _judge(
        self,
        measurement: ResponseMeasurement,
        prepared: Mapping[int, TextInstances],
        request: Request,
        before: Response,
        after: Response,
        harm: NDArray[np.float64],
    ) -> Responders:
        hits_before = hits_after = None
        cluster = np.zeros(0, np.int64)
        if request.relation is not None and request.responders:
            cluster = prepared[request.relation].cluster
            layers, numbers = np.array(request.responders).T
            hits_before, hits_after = (
                each.hits.numpy()[layers, numbers].astype(np.float64) for each in (before, after)
            )
        direct = reaction = None
        if measurement.has_direct:
            direct, reaction = after.direct - before.direct, after.reaction
        return judge_responders(
            direct,
            reaction,
            harm,
            self._text.cluster[request.tokens],
            hits_before,
            hits_after,
            cluster,
            len(request.responders),
            self._thresholds,
        )

    def _response_controls(
        self,
        measurement: ResponseMeasurement,
        prepared: Mapping[int, TextInstances],
        measured: Sequence[Request],
        measurements: Sequence[Response],
        judged: Mapping[Head, Responders],
    ) -> dict[Head, NDArray[np.float64]]:
        """Return for each ablated head [C, K]: the responders' statistic without control heads.

        Only responders that rise need controls; those of the others are NaN.
        """
        requests, owners = [], []
        for request, (head, responders) in zip(measured[1::2], judged.items(), strict=True):
            ups = zip(request.responders, responders.rises, strict=True)
            rising = [each for each, up in ups if up]
            if rising:
                last = max(layer for layer, _ in rising)
                for control in self._controls(head, {head, *rising}, last):
                    some = tuple(each for each in rising if each[0] > control[0])
                    requests.append(Request(control, request.tokens, request.relation, some))
                    owners.append(head)
        responses = self._measure(measurement, requests, "ablating controls") if requests else []
        tables: dict[Head, list[NDArray[np.float64]]] = {head: [] for head in judged}
        place_of = {request.ablated: place for place, request in enumerate(measured)}
        for head, request, response in zip(owners, requests, responses, strict=True):
            whole = measured[place_of[head]]
            keep = [whole.responders.index(each) for each in request.responders]
            intact = measurements[place_of[head] - 1]
            compared = Response(
                intact.frozen, intact.without[keep], intact.unmoved[keep], intact.hits
            )
            nothing = np.zeros(len(request.tokens))
            own = self._judge(measurement, prepared, request, compared, response, nothing)
            line = np.full(len(whole.responders), np.nan)
            change = own.top1_after - own.top1_before
            line[keep] = np.where(judged[head].by_role[keep], change, own.direct)
            tables[head].append(line)
        return {
            head: np.array(lines).reshape(len(lines), len(judged[head].q))
            for head, lines in tables.items()
        }
