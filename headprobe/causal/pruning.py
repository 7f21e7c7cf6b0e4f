"""Which heads a model can do without: sets chosen by the loss of the whole set, and by scores.

See docs/causal.md, Pruning. Choices by loss use one half of the documents, and the other half gives
the figures. Losses are those of whole sets, never sums of the effects of single heads: heads that
stand in for one another cost nothing one by one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from headprobe.causal.ablation import Ablation, By, FlatSequences, Head, Replacements
from headprobe.causal.losses import ScoredSequences, ablated_losses
from headprobe.errors import HeadprobeError
from headprobe.model.attention import NAME, Observer
from headprobe.model.heads import ObservedModel
from headprobe.model.load import ATTENTION
from headprobe.model.load_errors import is_out_of_memory, out_of_memory
from headprobe.model.surgery import (
    REMEDY,
    Joint,
    has_joint_projection,
    remove_groups,
    smaller_model,
)

ROUNDS = 3
"""In how many rounds heads are chosen. In each round the remaining heads are measured again, each
together with the heads chosen so far, and the set may use up its share of the permitted loss: a
third, two thirds, all of it."""

CHECKED_TOKENS = 64
"""On how many tokens it is checked, before the choice, that key/value heads can be removed."""

LOSS_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
"""``tolerance`` by dtype."""

HALF_LOSS_TOLERANCE = 0.1
"""The same in half precision, in which transformers rounds its probabilities."""

Advance = Callable[[int], None]
"""Called with the number of passes over a sequence that were done since the last call."""


@dataclass(frozen=True)
class Removal:
    """An ablation of which all heads but ``added`` are in effect in the base pass already."""

    ablation: Ablation
    added: frozenset[Head]

    @property
    def first_layer(self) -> int:
        return min(layer for layer, _ in self.added)

    def observer(self, run: FlatSequences) -> Observer:
        return self.ablation.observer(run)


@dataclass(frozen=True)
class RemovalLosses:
    """The mean losses of a text, in nats per token, without sets of heads."""

    observed: ObservedModel
    scored: ScoredSequences
    replacements: Replacements
    by: By
    advance: Advance = lambda _: None

    def without(
        self, sets: Sequence[Sequence[Head]], base: Sequence[Head] = ()
    ) -> tuple[float, NDArray[np.float64]]:
        """Return the loss without the heads of ``base``, and those [S] without each of ``sets``,
        which all contain ``base`` and more; only layers from their first new head on run again."""
        removals = [Removal(self._ablation(each), frozenset(each) - set(base)) for each in sets]
        before, after = ablated_losses(
            self.observed,
            self.scored,
            removals,
            self.advance,
            base=self._ablation(base) if base else None,
        )
        return float(before.mean(dtype=np.float64)), after.mean(1, dtype=np.float64)

    def _ablation(self, heads: Sequence[Head]) -> Ablation:
        return Ablation(tuple(sorted(heads)), self.by, self.replacements)


def heads_of_group(observed: ObservedModel, layer: int, group: int) -> tuple[Head, ...]:
    """Return the query heads that read a key/value head."""
    per_group = observed.n_heads // observed.n_kv_heads
    return tuple((layer, group * per_group + place) for place in range(per_group))


def choose_groups(losses: RemovalLosses, count: int) -> tuple[Head, ...]:
    """Return the query heads of ``count`` key/value heads per layer.

    From the last layer to the first, the key/value head is chosen without which the loss is lowest,
    together with all those chosen before. Passes so begin at the layer in question.
    """
    observed = losses.observed
    chosen: tuple[Head, ...] = ()
    for layer in reversed(range(len(observed.layers))):
        remaining = list(range(observed.n_kv_heads))
        for _ in range(count):
            sets = [chosen + heads_of_group(observed, layer, group) for group in remaining]
            # The layers above are part of every set: the pass below this layer is the intact one
            _, after = losses.without(sets)
            best = int(after.argmin())
            chosen = sets[best]
            del remaining[best]
    return tuple(sorted(chosen))


def choose_heads(
    ranking: RemovalLosses, acceptance: RemovalLosses, limit: float
) -> tuple[Head, ...]:
    """Return heads without which the loss rises by at most ``limit`` nats per token, greedily.

    In each round every remaining head is measured on the text of ``ranking``, together with the
    heads chosen so far. By rising loss, as many are added as the round's share of ``limit`` permits
    for the whole set on the text of ``acceptance``, which is found by halving. Other documents
    decide how many there are because the ranking fits its own text: without them the loss on new
    text rises to several times the limit. A head that exceeds ``limit`` alone is dropped.
    """
    observed = ranking.observed
    chosen: tuple[Head, ...] = ()
    remaining = [
        (layer, head) for layer in range(len(observed.layers)) for head in range(observed.n_heads)
    ]
    intact: float | None = None  # on the text of acceptance
    lowest: float | None = None  # on that of ranking
    for number in range(1, ROUNDS + 1):
        before, after = ranking.without([(*chosen, head) for head in remaining], chosen)
        lowest = before if lowest is None else lowest
        order = [remaining[place] for place in np.argsort(after, kind="stable")]
        order = order[: int((after <= lowest + limit).sum())]
        fits, exceeds = 0, len(order) + 1
        while exceeds - fits > 1:
            middle = (fits + exceeds) // 2
            before, [loss] = acceptance.without([(*chosen, *order[:middle])], chosen)
            intact = before if intact is None else intact
            if loss <= intact + limit * number / ROUNDS:
                fits = middle
            else:
                exceeds = middle
        chosen, remaining = (*chosen, *order[:fits]), order[fits:]
        if not remaining:
            break
    return tuple(sorted(chosen))


def lowest_heads(score: NDArray[np.float64], count: int) -> tuple[Head, ...]:
    """Return the ``count`` heads with the lowest ``score`` [L, H]."""
    places = np.argsort(score, axis=None, kind="stable")[:count]
    return tuple(sorted((int(at) // score.shape[1], int(at) % score.shape[1]) for at in places))


def lowest_groups(
    observed: ObservedModel, score: NDArray[np.float64], count: int
) -> tuple[Head, ...]:
    """Return the query heads of the ``count`` key/value heads of each layer whose heads have the
    lowest mean ``score`` [L, H]."""
    means = score.reshape(len(score), observed.n_kv_heads, -1).mean(-1)
    lowest = np.argsort(means, axis=1, kind="stable")[:, :count]
    return tuple(
        sorted(
            head
            for layer, groups in enumerate(lowest.tolist())
            for group in groups
            for head in heads_of_group(observed, layer, group)
        )
    )


def weight_magnitude(observed: ObservedModel) -> NDArray[np.float64]:
    """Return the Frobenius norm [L, H] of each head's slice of the output projection."""
    # norm_map keeps norms (model.heads.Layer)
    norms = [layer.norm_map.flatten(1).norm(dim=1).double().cpu() for layer in observed.layers]
    return torch.stack(norms).numpy()


def kept_groups(observed: ObservedModel, removed: Sequence[Head]) -> list[list[int]]:
    """Return per layer the key/value heads [L] of which not all query heads are removed."""
    gone = set(removed)
    return [
        [
            group
            for group in range(observed.n_kv_heads)
            if not gone.issuperset(heads_of_group(observed, layer, group))
        ]
        for layer in range(len(observed.layers))
    ]


def stock_losses(model: PreTrainedModel, scored: ScoredSequences) -> NDArray[np.float32]:
    """Return the losses [M] of the scored tokens as transformers itself computes them."""
    losses = np.zeros(len(scored.row), dtype=np.float32)
    for number, ids in enumerate(scored.sequences):
        mine = np.flatnonzero(scored.sequence == number)
        given = torch.from_numpy(ids.astype(np.int64))[None].to(model.device)
        targets = torch.from_numpy(scored.target[mine].astype(np.int64)).to(model.device)
        with torch.inference_mode():
            logits = model(input_ids=given, use_cache=False).logits[0, scored.row[mine]]
            loss = F.cross_entropy(logits.float(), targets, reduction="none")
        losses[mine] = loss.cpu().numpy()
    return losses


def stock_losses_without(
    observed: ObservedModel, heads: Sequence[Head], scored: ScoredSequences
) -> NDArray[np.float32]:
    """Return the losses [M] as transformers computes them where ``heads`` write nothing.

    The losses of an ablation are the same but for rounding. In half precision, and without heads
    that the model needs, a token's rounding can exceed a nat, because transformers rounds its
    probabilities and ablations do not. A smaller model rounds as this one does.
    """
    width = observed.head_dim
    handles = []
    for layer in observed.layers:
        here = [head for at, head in heads if at == layer.index]

        def silence(_: nn.Module, inputs: tuple[Tensor, ...], here: list[int] = here) -> Tensor:
            outputs = inputs[0].clone()  # [..., H * V]
            for head in here:
                outputs[..., head * width : (head + 1) * width] = 0
            return outputs

        handles.append(layer.output.register_forward_pre_hook(silence))
    try:
        observed.model.set_attn_implementation(ATTENTION)
        return stock_losses(observed.model, scored)
    finally:
        observed.model.set_attn_implementation(NAME)
        for handle in handles:
            handle.remove()


def some_sequences(scored: ScoredSequences, tokens: int) -> tuple[ScoredSequences, int]:
    """Return the first sequences, with at least ``tokens`` scored tokens where there are so many,
    and the number M' of scored tokens, which are the first of the M of ``scored``."""
    if not np.all(np.diff(scored.sequence) >= 0):
        raise ValueError("scored tokens must be in the order of their sequences")
    last = scored.sequence[min(tokens, len(scored.sequence)) - 1]
    count = int(np.searchsorted(scored.sequence, last, side="right"))
    part = ScoredSequences(
        scored.sequences[: int(last) + 1],
        scored.sequence[:count],
        scored.row[:count],
        scored.target[:count],
    )
    return part, count


def tolerance(model: PreTrainedModel) -> float:
    """Return how far, on average, losses of a token may be from those that hooks give, in nats:
    rounding only."""
    return LOSS_TOLERANCE.get(model.dtype, HALF_LOSS_TOLERANCE)


def removal_layout(losses: RemovalLosses, count: int, where: str) -> Joint:
    """Return the layout with which the removal of ``count`` key/value heads per layer computes what
    their ablation by zero computes, on some tokens; HeadprobeError if there is none.

    This is checked before anything is chosen. Some architectures normalise over all heads together,
    or compute the size of a head from the number of heads: those only lose the outputs of heads.
    """
    observed, groups = losses.observed, losses.observed.n_kv_heads
    # Other key/value heads in each layer, so that a mistake about any of them shows
    gone = [
        [(layer + place) % groups for place in range(count)]
        for layer in range(len(observed.layers))
    ]
    kept = [[group for group in range(groups) if group not in each] for each in gone]
    heads = [
        head
        for layer, each in enumerate(gone)
        for group in each
        for head in heads_of_group(observed, layer, group)
    ]
    text, _ = some_sequences(losses.scored, CHECKED_TOKENS)
    expected = stock_losses_without(observed, heads, text)
    layouts: tuple[Joint, ...] = ("parts", "groups")
    for layout in layouts:
        smaller = smaller_model(observed, count, where)
        is_joint = has_joint_projection(observed, smaller)
        try:
            losses_now = stock_losses(remove_groups(observed, smaller, kept, layout), text)
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            if is_out_of_memory(error):
                raise out_of_memory(where) from error
            break  # its modules do not fit together
        if np.abs(losses_now - expected).mean() <= tolerance(observed.model):
            return layout
        if not is_joint:
            break
    kind = observed.model.config.model_type
    what = f"a {kind} with fewer key/value heads computes something else"
    raise HeadprobeError(where, what, REMEDY)
