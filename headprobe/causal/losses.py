"""Losses of single tokens under many interventions, reusing the layers below each of them.

For each chunk of sequences the intact model runs once and leaves its residual stream at the first
layers of the interventions. An intervention then starts from there: the blocks below its first
layer are skipped. All single heads of a model of L layers and H heads so take H (L + 1) / 2 passes
instead of H L.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headprobe.batching.layout import Block, pack_passages, plan_chunks
from headprobe.causal.ablation import FlatSequences, Intervention
from headprobe.measure.memory import BatchLimits
from headprobe.model.attention import Observer, TilePart
from headprobe.model.forward import run_flat, token_losses
from headprobe.model.heads import ObservedModel

RESIDUAL_BYTES = 256 << 20
"""The most memory that the residual streams of a chunk take on a CPU."""

ACCELERATOR_RESIDUAL_BYTES = 2 << 30
"""The same on an accelerator, which is slow on chunks of few tokens."""

MAX_TOKENS = 4096
"""The most tokens of a chunk, unless one sequence has more."""


@dataclass(frozen=True)
class ScoredSequences:
    """Token sequences, and the tokens in them whose loss is wanted.

    ``sequence``, ``row`` and ``target`` [M]: the token id ``target`` is predicted at token ``row``
    of the sequence with this number.
    """

    sequences: tuple[NDArray[np.integer], ...]
    sequence: NDArray[np.int64]
    row: NDArray[np.int64]
    target: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[P]: the number of tokens of each sequence."""
        return np.array([len(each) for each in self.sequences], dtype=np.int64)


def chunks(
    observed: ObservedModel, sequences: Sequence[NDArray[np.integer]], kept_layers: int
) -> Iterator[FlatSequences]:
    """Yield the sequences as flat runs; of ``kept_layers`` layers the residual stream is kept."""
    if not sequences:
        return
    lengths = np.array([len(each) for each in sequences])
    width = observed.model.config.get_text_config().hidden_size
    on_cpu = observed.device.type == "cpu"
    most = RESIDUAL_BYTES if on_cpu else ACCELERATOR_RESIDUAL_BYTES
    room = most // (width * 4 * max(1, kept_layers))
    limits = BatchLimits.of(observed.device)
    planned = plan_chunks(
        np.arange(len(lengths)),
        lengths,
        observed.n_heads,
        tokens=max(int(lengths.max()), min(MAX_TOKENS, room)),
        scores=limits.scores,
    )
    for blocks in planned:
        yield lay_sequences(sequences, blocks, observed.device)


def lay_sequences(
    sequences: Sequence[NDArray[np.integer]], blocks: Sequence[Block], device: torch.device
) -> FlatSequences:
    """Return the sequences of ``blocks`` as one flat run."""
    numbers = list(dict.fromkeys(int(n) for block in blocks for n in block.passages))
    flat = pack_passages({number: sequences[number] for number in numbers}, blocks, device)
    lengths = [len(sequences[number]) for number in numbers]
    return FlatSequences(flat, np.array(numbers), np.concatenate([[0], np.cumsum(lengths)]))


@dataclass(frozen=True)
class InterventionLosses:
    """The losses of S interventions on M tokens of P sequences, as far as they are computed."""

    losses: NDArray[np.float32]
    """[S, M]: cross-entropies in nats; 0 where they are not computed yet."""
    done: NDArray[np.bool_]
    """[S, P]: whether the losses of a sequence are computed."""

    @classmethod
    def empty(cls, interventions: int, scored: ScoredSequences) -> "InterventionLosses":
        """Return arrays for ``interventions`` without any computed loss."""
        return cls(
            np.zeros((interventions, len(scored.row)), dtype=np.float32),
            np.zeros((interventions, len(scored.sequences)), dtype=np.bool_),
        )


def ablated_losses(
    observed: ObservedModel,
    scored: ScoredSequences,
    interventions: Sequence[Intervention],
    advance: Callable[[int], None] = lambda _: None,
    results: InterventionLosses | None = None,
    base: Intervention | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the losses [M] of the intact model and those [S, M] under each of S interventions.

    With ``base`` the first are those under it, and every intervention must include it: from its
    own first layer on it intervenes alone, and below that layer only ``base`` does.

    Losses are cross-entropies in nats. ``advance`` is called with the number of interventions done
    on each sequence since the last call; in total it is S times the number of sequences. With
    ``results``, losses are written into them, and those that they have are not computed again.
    """
    intact = np.zeros(len(scored.row), dtype=np.float32)
    results = results or InterventionLosses.empty(len(interventions), scored)
    layers = sorted({each.first_layer for each in interventions})
    order = np.argsort(scored.sequence, kind="stable")
    edges = np.searchsorted(scored.sequence[order], np.arange(len(scored.sequences) + 1))
    limits = BatchLimits.of(observed.device)
    for run in chunks(observed, scored.sequences, len(layers)):
        mine = np.concatenate([order[edges[n] : edges[n + 1]] for n in run.numbers])
        starts = np.zeros(len(scored.sequences), dtype=np.int64)
        starts[run.numbers] = run.starts[:-1]
        device = run.flat.token_ids.device
        rows = torch.from_numpy(starts[scored.sequence[mine]] + scored.row[mine]).to(device)
        targets = torch.from_numpy(scored.target[mine].astype(np.int64)).to(device)

        def losses(outputs: Any, rows: Tensor = rows, targets: Tensor = targets) -> Any:
            pieces = token_losses(observed.model, outputs, rows, targets, limits.logits)
            return torch.cat(list(pieces)).cpu().numpy()

        with torch.inference_mode():
            start = ResumablePass(observed, run, layers, base)
            intact[mine] = losses(start.outputs)
            for number, intervention in enumerate(interventions):
                if not results.done[number, run.numbers].all():
                    outputs = start.resume(intervention.first_layer, intervention.observer(run))
                    results.losses[number, mine] = losses(outputs)
                    results.done[number, run.numbers] = True
                advance(len(run.numbers))
    return intact, results.losses


class ResumablePass:
    """The intact pass over a run, or the one under ``base``, which other passes resume at one of
    its ``layers``."""

    def __init__(
        self,
        observed: ObservedModel,
        run: FlatSequences,
        layers: Sequence[int],
        base: Intervention | None = None,
    ) -> None:
        self._observed, self._run = observed, run
        self._keeper = _ResidualKeeper(layers, Observer() if base is None else base.observer(run))
        self._results: dict[int, Any] = {}
        with ExitStack() as stack:
            for layer in observed.layers:
                hook = layer.block.register_forward_hook(self._keep_result(layer.index))
                stack.callback(hook.remove)
            self.outputs = run_flat(observed.model.base_model, run.flat, self._keeper, None)

    def _keep_result(self, layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def keep(_: nn.Module, __: Any, result: Any) -> None:
            # The kind of result without its tensor: a block returns it, or a tuple that starts so
            hidden, *rest = result if isinstance(result, tuple) else (result,)
            shape = tuple(rest) if isinstance(result, tuple) else None
            self._results[layer] = (hidden.device, shape)

        return keep

    def resume(self, layer: int, observer: Observer) -> Any:
        """Run the model from ``layer`` on, with the intact model's residual stream as input, and
        return the base model's outputs."""
        with self._skip_below(layer):
            return run_flat(self._observed.model.base_model, self._run.flat, observer, None)

    @contextmanager
    def _skip_below(self, layer: int) -> Iterator[None]:
        hidden = self._keeper.residuals[layer]
        with ExitStack() as stack:
            for each in self._observed.layers[:layer]:
                device, rest = self._results[each.index]
                given = hidden.to(device)

                def skip(
                    *_: Any, given: Tensor = given, rest: tuple[Any, ...] | None = rest, **__: Any
                ) -> Any:
                    copy = given.clone()  # blocks may add to their input in place
                    return copy if rest is None else (copy, *rest)

                stack.enter_context(_replaced_forward(each.block, skip))
            yield


class _ResidualKeeper(Observer):
    """Keeps the residual stream [1, N, E] that enters some layers; another observer may change the
    heads' outputs."""

    def __init__(self, layers: Sequence[int], inner: Observer) -> None:
        self._layers = set(layers)
        self.residuals: dict[int, Tensor] = {}
        self._inner = inner

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        self._inner.begin_layer(module, value)

    def attended(self, number: int, part: TilePart, weights: Tensor, scores: Tensor) -> None:
        self._inner.attended(number, part, weights, scores)

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        self._inner.end_layer(module, output)

    def residual(self, layer: int, hidden: Tensor) -> None:
        if layer in self._layers:
            self.residuals[layer] = hidden.clone()


@contextmanager
def _replaced_forward(block: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    # An attribute of the instance, which may already have one (accelerate sets it)
    before = block.__dict__.get("forward")
    block.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del block.__dict__["forward"]
        else:
            block.__dict__["forward"] = before
