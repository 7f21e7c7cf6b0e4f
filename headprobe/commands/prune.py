"""``headprobe prune``: which heads can go, and a checkpoint without them.

1. Read what the run says of each head and key/value head (``results.pruning``).
2. Choose what goes: by these verdicts, by a mask, ``--groups`` per layer, or as many heads as
   ``--max-loss`` permits. Choices by loss use the even document folds (``causal.pruning``).
3. Measure the whole set on the odd folds, beside four baselines of the same size.
4. Write the mask; change the weights (``model.surgery``), save them, load them as stock
   transformers does, and compare their losses with those of the hooked model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

import headprobe
from headprobe.analysis.ablation import is_above_chance
from headprobe.analysis.effects import cluster_sums, mean_effects
from headprobe.batching.corpus import Corpus
from headprobe.causal.ablation import Ablation, Head, Replacements
from headprobe.causal.losses import ScoredSequences, ablated_losses
from headprobe.causal.outcomes import Outcome, OutcomeBuilder
from headprobe.causal.pruning import (
    ROUNDS,
    RemovalLosses,
    choose_groups,
    choose_heads,
    lowest_groups,
    lowest_heads,
    removal_layout,
    weight_magnitude,
)
from headprobe.causal.replacements import collect_replacements
from headprobe.commands.causal_text import passage_tokens, read_run_corpus, split_halves
from headprobe.commands.measured_model import measured_model, measured_source
from headprobe.commands.pruned_checkpoint import (
    SavedCheckpoint,
    check_checkpoint_target,
    save_checkpoint,
)
from headprobe.errors import HeadprobeError
from headprobe.model.heads import ObservedModel
from headprobe.model.load import CheckpointSource, load_encoder
from headprobe.model.surgery import Joint, check_surgery, has_output_bias
from headprobe.progress import Progress
from headprobe.results.pruning import REMOVE, verdicts
from headprobe.roles.rules import run_rules
from headprobe.runs import folder as run_folder
from headprobe.runs.folder import Run
from headprobe.runs.head_mask import HeadMask, Replacement, check_mask_target, write_mask

if TYPE_CHECKING:
    import pandas as pd

TOKENS = 4_000
"""Tokens of the text that chooses, by default."""

FIGURE_TOKENS = 5_000
"""Tokens of the text on which the chosen set and its baselines are measured, or more: these are few
passes."""

MEAN_TOKENS = 10_000
"""Tokens of text over which mean outputs are taken, or more."""

RANDOM_SETS = 5
"""Random sets of the same size, by default."""

CHOSEN = "chosen"
"""The name of the chosen set among the rows of losses; the others are its baselines."""

_MEMORY_REMEDY = "Save it with save_pretrained (the tokenizer, too), scan that folder, and prune it"


@dataclass(frozen=True)
class PruneOptions:
    """The options of one call."""

    groups: int | None = None
    """Key/value heads to remove from each layer."""
    max_loss: float | None = None
    """By how many nats per token the loss may rise."""
    apply: Path | None = None
    """The mask that says what goes."""
    mask: Path | None = None
    """The mask to write."""
    save: Path | None = None
    """The folder of the checkpoint to write."""
    by: str | None = None
    """``zero`` or ``mean``, which takes the place of heads; None for the mean with ``max_loss``
    where the checkpoint can hold it, for that of a mask, and else for zero."""
    sets: int = RANDOM_SETS
    tokens: int = TOKENS
    overwrite: bool = False
    trust_remote_code: bool = False

    @property
    def needs_model(self) -> bool:
        """Whether anything is measured or saved."""
        return any(each is not None for each in (self.groups, self.max_loss, self.apply, self.save))

    def check(self, run: Run) -> None:
        """Raise HeadprobeError for options that do not fit each other or the run."""
        for name, value, kinds in (
            ("groups", self.groups, int | None),
            ("max_loss", self.max_loss, int | float | None),
            ("sets", self.sets, int),
            ("tokens", self.tokens, int),
        ):
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise HeadprobeError(f"{name}={value!r}", "wrong type", "Give a number")
        ways = {"--groups": self.groups, "--max-loss": self.max_loss, "--apply": self.apply}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise HeadprobeError(
                " ".join(given), "are different ways to choose", f"Give {given[0]} alone"
            )
        if self.max_loss is not None and not (math.isfinite(self.max_loss) and self.max_loss > 0):
            raise HeadprobeError(
                f"--max-loss {self.max_loss:g}",
                "is no rise of the loss",
                "Give nats per token above 0, such as 0.05",
            )
        if self.groups is not None:
            self._check_groups(run)
        if self.by not in (None, "zero", "mean"):
            raise HeadprobeError(f"--by {self.by}", "no such replacement", "Give zero or mean")
        for name, number, least in (("--tokens", self.tokens, 1), ("--sets", self.sets, 0)):
            if number < least:
                raise HeadprobeError(f"{name} {number}", "too small", f"Give {least} or more")
        if self.needs_model:
            _check_model(run)
        if self.mask is not None:
            check_mask_target(self.mask, self.overwrite)
        if self.save is not None:
            check_checkpoint_target(self.save, self.overwrite)

    def _check_groups(self, run: Run) -> None:
        groups = min(run.manifest.model.n_kv_heads)
        if groups == 1:
            raise HeadprobeError(
                f"--groups {self.groups}",
                f"the model of {run.path} has one key/value head per layer, and one must remain",
                "Silence heads instead: --max-loss 0.05",
            )
        if not 1 <= (self.groups or 0) < groups:
            raise HeadprobeError(
                f"--groups {self.groups}",
                f"the model of {run.path} has {groups} key/value heads per layer, and one must "
                "remain",
                f"Give 1 to {groups - 1}" if groups > 2 else "Give 1",
            )
        if self.by == "mean":
            raise HeadprobeError(
                "--by mean", "a removed key/value head writes nothing", "Leave --by out"
            )


@dataclass(frozen=True)
class PruneResult:
    """What ``prune`` found and wrote."""

    mask: HeadMask | None
    """What goes; None where nothing was chosen."""
    head_rows: Sequence[Mapping[str, Any]]
    """The verdict of each head."""
    group_rows: Sequence[Mapping[str, Any]]
    """The verdict of each key/value head."""
    loss_rows: Sequence[Mapping[str, Any]] = ()
    """The loss without the chosen set, and without its baselines."""
    saved: SavedCheckpoint | None = None
    """The checkpoint that was written."""

    def values(self, run: Run) -> dict[str, Any]:
        """Return all of it as a JSON object: that of the mask, and of the saved checkpoint."""
        values: dict[str, Any] = {
            "heads": self.head_rows,
            "groups": self.group_rows,
            "losses": self.loss_rows,
        }
        if self.mask is not None:
            values = self.mask.values(run.manifest.model, headprobe.__version__) | values
        return {**values, "saved": None if self.saved is None else asdict(self.saved)}

    @cached_property
    def heads(self) -> "pd.DataFrame":
        """One row per head: a verdict, the reason for it, and the measured effect."""
        return _frame(self.head_rows)

    @cached_property
    def groups(self) -> "pd.DataFrame":
        """One row per key/value head, as ``heads``."""
        return _frame(self.group_rows)

    @cached_property
    def losses(self) -> "pd.DataFrame":
        """One row per set that was measured: the chosen one, then its baselines."""
        return _frame(self.loss_rows)


def _frame(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame([dict(row) for row in rows])


def prune(run: Run, options: PruneOptions, progress: Progress) -> PruneResult:
    """Judge the heads of ``run``; choose, measure and write as ``options`` say.

    Raises HeadprobeError for errors that the user can correct; nothing is written then.
    """
    options.check(run)
    heads, groups = verdicts(run)
    named = None
    if options.apply is not None:
        named = HeadMask.load(options.apply, run.manifest.model)
    elif options.groups is None and options.max_loss is None:
        named = _mask_of_verdicts(run, heads, groups, options)
    if not options.needs_model:
        if named is not None and options.mask is not None:
            named = replace(named, heads=heads, groups=groups)
            write_mask(options.mask, named.values(run.manifest.model, headprobe.__version__))
        return PruneResult(named, heads, groups)
    return _Pruning(run, options, progress, heads, groups).execute(named)


def _check_model(run: Run) -> None:
    """Raise HeadprobeError for a run whose model cannot be loaded and saved again."""
    model = run.manifest.model
    if model.kind == "memory":
        raise HeadprobeError(str(run.path), "its model was in memory", _MEMORY_REMEDY)
    if model.adapter is not None:
        raise HeadprobeError(
            str(run.path),
            "its model has an adapter beside its weights",
            "Merge it (merge_and_unload of peft), save the result, and scan that folder",
        )
    if model.quantization is not None and model.kind != "gguf":
        raise HeadprobeError(
            str(run.path),
            f"its weights are quantised ({model.quantization}), and pruned ones cannot be saved so",
            "Scan and prune the checkpoint that they were quantised from",
        )


def _mask_of_verdicts(
    run: Run,
    heads: Sequence[Mapping[str, Any]],
    groups: Sequence[Mapping[str, Any]],
    options: PruneOptions,
) -> HeadMask | None:
    """The mask of the heads that can go by the verdicts; None where it is not asked for.

    HeadprobeError where there is no such head.
    """
    of_groups = {name for row in groups if row["verdict"] == REMOVE for name in row["heads"]}
    gone = {row["name"] for row in heads if row["verdict"] == REMOVE} | of_groups
    if options.mask is None and options.save is None:
        return None
    if not gone:
        raise HeadprobeError(
            str(run.path),
            "no head can go by what the run knows",
            "Measure: headprobe ablate --each; or choose by loss: --max-loss 0.05",
        )
    model = run.manifest.model
    names = {(row["layer"], row["head"]): row["name"] for row in heads}
    keep = tuple(
        tuple(names[layer, head] not in gone for head in range(model.n_heads))
        for layer in range(model.n_layers)
    )
    replacement: Replacement = "mean" if options.by == "mean" else "zero"
    return HeadMask(keep, replacement, 0, {"verdicts": REMOVE})


@dataclass
class _Pruning:
    """One call that needs the model."""

    run: Run
    options: PruneOptions
    progress: Progress
    heads: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    losses: list[dict[str, Any]] = field(default_factory=list)
    group_count: int = 0
    """Key/value heads that every layer loses; 0 where heads are silenced."""

    def execute(self, named: HeadMask | None) -> PruneResult:
        """Choose unless a mask is ``named``; measure, write, and return the result."""
        run, options, progress = self.run, self.options, self.progress
        source = measured_source(run, options.trust_remote_code)
        encoder = load_encoder(source)
        corpus = read_run_corpus(run, encoder, progress)
        most = max(options.tokens, MEAN_TOKENS)
        even, odd = split_halves(corpus, most, run.manifest.seed, "prune")
        ranking, acceptance = self._split(corpus, even)
        figures = _first(corpus, odd, max(options.tokens, FIGURE_TOKENS))
        builders = [OutcomeBuilder() for _ in range(3)]
        for builder, passages in zip(builders, (ranking, acceptance, figures), strict=True):
            builder.add_text(corpus, passages)
        texts = [builder.scored() for builder in builders]
        judging = texts[2]
        progress.stage("loading the model")
        ids = torch.from_numpy(judging.sequences[0]).long()
        with measured_model(run, source, ids) as observed:
            check_surgery(observed, source.name)
            by = self._replacement(observed, named)
            means = self._means(observed, corpus, even, by)
            choosing = [
                RemovalLosses(observed, text, means, by, progress.advance) for text in texts[:2]
            ]
            self.group_count = options.groups or 0
            if named is not None:
                self.group_count = replace(named, replacement=by).whole_groups(run.manifest.model)
            layout = self._layout(choosing[0], source, is_optional=named is not None)
            chosen = named.removed if named is not None else self._choose(*choosing)
            after = self._measure(observed, builders[2].outcomes[0], judging, means, by, chosen)
            self._compare_with_limit()
            mask = self._mask(observed, chosen, by, named)
            saved = None
            if options.save is not None:
                progress.stage("saving and loading again")
                saved = save_checkpoint(
                    options.save,
                    observed,
                    source,
                    mask,
                    mask.values(run.manifest.model, headprobe.__version__),
                    means.mean if by == "mean" else None,
                    layout,
                    (judging, after),
                    quantization=run.manifest.model.quantization,
                    overwrite=options.overwrite,
                )
        progress.finish()
        if options.mask is not None:
            write_mask(options.mask, mask.values(run.manifest.model, headprobe.__version__))
        return PruneResult(mask, self.heads, self.groups, self.losses, saved)

    def _split(self, corpus: Corpus, even: Sequence[int]) -> tuple[list[int], list[int]]:
        """Split passages of the even folds into those that rank heads and those that say how many
        can go: of other documents, about ``tokens`` of each."""
        folds = corpus.instances.document_fold
        kinds = {place: [p for p in even if folds[p] % 4 == place] for place in (0, 2)}
        if self.options.max_loss is not None and not all(kinds.values()):
            raise HeadprobeError(
                "--max-loss",
                "too few documents: heads are ranked on some and accepted on others",
                "Scan probes with more documents",
            )
        if self.options.max_loss is None:  # nothing is accepted
            kinds = {0: list(even), 2: []}
        return (
            _first(corpus, kinds[0], self.options.tokens),
            _first(corpus, kinds[2], self.options.tokens),
        )

    def _replacement(self, observed: ObservedModel, named: HeadMask | None) -> Replacement:
        """What takes the place of the heads: what the checkpoint can hold."""
        wanted = self.options.by
        if wanted is None and named is not None:
            wanted = named.replacement
        if self.options.groups is not None or wanted == "zero":
            return "zero"
        if has_output_bias(observed):
            return "mean"
        what = "has no bias at its output projections that could hold a mean"
        kind = observed.model.config.model_type
        if wanted == "mean":
            raise HeadprobeError(f"--by mean: {kind}", what, "Replace by zero: --by zero")
        self.progress.warn(f"{kind} {what}: heads are replaced by zero")
        return "zero"

    def _means(
        self, observed: ObservedModel, corpus: Corpus, even: Sequence[int], by: Replacement
    ) -> Replacements:
        """The heads' mean outputs on the even folds; zeros where nothing needs them."""
        if by == "zero":
            shape = len(observed.layers), observed.n_heads, observed.head_dim
            zeros = torch.zeros(shape, device=observed.device)
            return Replacements(zeros, torch.zeros(0, 1, *shape, device=observed.device))
        self.progress.stage("collecting replacement values", len(even), "passages")
        return collect_replacements(
            observed,
            [passage_tokens(corpus, passage) for passage in even],
            corpus.starts,
            advance=self.progress.advance,
        )

    def _layout(
        self, measure: RemovalLosses, source: CheckpointSource, *, is_optional: bool
    ) -> Joint | None:
        """How joint projections lie, where key/value heads are removed; None elsewhere."""
        if not self.group_count:
            return None
        try:
            return removal_layout(measure, self.group_count, source.name)
        except HeadprobeError as error:
            if not is_optional:
                raise
            self.progress.warn(f"{error.what}: the heads are silenced, and all shapes stay")
            self.group_count = 0
            return None

    def _choose(self, measure: RemovalLosses, acceptance: RemovalLosses) -> tuple[Head, ...]:
        observed, groups = measure.observed, self.group_count
        layers, sequences = len(observed.layers), len(measure.scored.sequences)
        tokens = f"{len(measure.scored.row):,} tokens"
        if groups:
            tried = sum(observed.n_kv_heads - place for place in range(groups))
            passes = layers * groups + tried * (layers + 1) / 2
            self.progress.stage(
                f"choosing {groups} of {observed.n_kv_heads} key/value heads per layer on "
                f"{tokens}, as much work as {passes:,.0f} passes",
                tried * layers * sequences,
                "sequences",
            )
            return choose_groups(measure, groups)
        heads = layers * observed.n_heads
        passes = ROUNDS * (observed.n_heads * (layers + 1) / 2 + 2 * math.log2(heads))
        self.progress.stage(
            f"choosing among {heads:,} heads on {tokens}, as much work as {passes:,.0f} passes at "
            "most",
            ROUNDS * heads * sequences,
            "sequences",
        )
        chosen = choose_heads(measure, acceptance, self.options.max_loss or 0.0)
        if not chosen:
            raise HeadprobeError(
                f"--max-loss {self.options.max_loss:g}",
                "no head can go at so small a loss",
                "Give a larger loss, or more text: --tokens",
            )
        return chosen

    def _measure(
        self,
        observed: ObservedModel,
        outcome: Outcome,
        scored: ScoredSequences,
        means: Replacements,
        by: Replacement,
        chosen: tuple[Head, ...],
    ) -> NDArray[np.float32]:
        """Measure the chosen set and its baselines; return the losses [M] without the set."""
        sets = {CHOSEN: [chosen], **self._baselines(observed, chosen)}
        every = [Ablation(heads, by, means) for each in sets.values() for heads in each]
        self.progress.stage(
            f"measuring {len(chosen):,} heads and their baselines on {len(scored.row):,} tokens",
            len(every) * len(scored.sequences),
            "sequences",
        )
        intact, ablated = ablated_losses(observed, scored, every, self.progress.advance)
        base = outcome.values(intact)
        thresholds = run_rules(self.run).causal
        chance = math.log(observed.model.config.get_text_config().vocab_size)
        if not is_above_chance(base, outcome.cluster, 1, chance, thresholds):
            self.progress.warn(
                f"the intact model's loss of {base.mean():.2f} nats is not shown to be below that "
                "of a uniform guess: losses on this text do not say which heads it needs"
            )
        change = outcome.values(ablated) - base
        first = 0
        for name, members in sets.items():
            mine = change[first : first + len(members)]
            first += len(members)
            row = _loss_row(name, mine, change[0], base, outcome, thresholds.confidence)
            self.losses.append({**row, "heads": len(chosen), "by": by})
        without: NDArray[np.float32] = ablated[0]
        return without

    def _compare_with_limit(self) -> None:
        """Warn where the loss on the other half of the documents rises by more than permitted."""
        limit, chosen = self.options.max_loss, self.losses[0]
        if limit is None or chosen["effect"] <= limit:
            return
        interval = ""
        if chosen["effect_low"] is not None:
            interval = f" [{chosen['effect_low']:.3f} {chosen['effect_high']:.3f}]"
        self.progress.warn(
            f"on the other half of the documents the loss rises by {chosen['effect']:.3f}"
            f"{interval} nats, more than {limit:g}; more text chooses better: --tokens"
        )

    def _baselines(
        self, observed: ObservedModel, chosen: tuple[Head, ...]
    ) -> dict[str, list[tuple[Head, ...]]]:
        """Sets of the same size, chosen at random and by scores without any loss."""
        rows = self.run.rows(run_folder.HEADS)
        shape = len(observed.layers), observed.n_heads

        def column(name: str) -> NDArray[np.float64]:
            return np.array([row.number(name) or 0.0 for row in rows]).reshape(shape)

        def lowest(score: NDArray[np.float64]) -> tuple[Head, ...]:
            if self.group_count:
                return lowest_groups(observed, score, self.group_count)
            return lowest_heads(score, len(chosen))

        rng = np.random.default_rng(self.run.manifest.seed)
        sets = {"random": [lowest(self._noise(rng, observed)) for _ in range(self.options.sets)]}
        if not self.options.sets:
            del sets["random"]
        return {
            **sets,
            "W_O magnitude": [lowest(weight_magnitude(observed))],
            "first-token sink": [lowest(-column("sink"))],
            "output norm": [lowest(column("output_norm"))],
        }

    def _noise(self, rng: np.random.Generator, observed: ObservedModel) -> NDArray[np.float64]:
        """Random scores [L, H]; all heads of a key/value head share one where those go together."""
        layers, groups = len(observed.layers), observed.n_kv_heads
        if not self.group_count:
            return rng.random((layers, observed.n_heads))
        return np.repeat(rng.random((layers, groups)), observed.n_heads // groups, axis=1)

    def _mask(
        self,
        observed: ObservedModel,
        chosen: tuple[Head, ...],
        by: Replacement,
        named: HeadMask | None,
    ) -> HeadMask:
        gone = set(chosen)
        keep = tuple(
            tuple((layer, head) not in gone for head in range(observed.n_heads))
            for layer in range(len(observed.layers))
        )
        options = self.options
        how: Mapping[str, Any]
        if named is not None:
            how = named.chosen_by
        elif options.groups is not None:
            how = {"groups": options.groups, "tokens": options.tokens}
        else:
            how = {"max_loss": options.max_loss, "tokens": options.tokens}
        return HeadMask(keep, by, self.group_count, how, self.heads, self.groups, self.losses)


def _first(corpus: Corpus, passages: Sequence[int], tokens: int) -> list[int]:
    """The first passages that together have about ``tokens`` tokens."""
    before = np.cumsum([0, *(corpus.lengths[passage] for passage in passages)])
    return [passage for passage, at in zip(passages, before, strict=False) if at < tokens]


def _loss_row(
    name: str,
    change: NDArray[np.float64],
    chosen: NDArray[np.float64],
    base: NDArray[np.float64],
    outcome: Outcome,
    confidence: float,
) -> dict[str, Any]:
    """The row of some sets with changes [S, U] of the loss, which are averaged, beside those [U]
    of the chosen set; intervals are over document folds."""
    average = change.mean(0)
    effect = mean_effects(*cluster_sums(average[None], outcome.cluster), confidence)
    row = {
        "set": name,
        "sets": len(change),
        "n": len(base),
        "base": float(base.mean()),
        "loss": float(base.mean() + average.mean()),
        **_interval("effect", effect),
        "effect_min": float(change.mean(1).min()),
        "effect_max": float(change.mean(1).max()),
    }
    excess = mean_effects(*cluster_sums((average - chosen)[None], outcome.cluster), confidence)
    nothing = dict.fromkeys(("excess", "excess_low", "excess_high"))
    return row | (nothing if name == CHOSEN else _interval("excess", excess))


def _interval(name: str, effects: Any) -> dict[str, float | None]:
    """The mean and the ends of its interval; None where there are too few clusters."""
    ends = {name: effects.mean, f"{name}_low": effects.low, f"{name}_high": effects.high}
    return {key: None if math.isnan(each[0]) else float(each[0]) for key, each in ends.items()}
