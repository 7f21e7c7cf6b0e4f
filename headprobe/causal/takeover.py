"""What other heads do when one head is ablated: their direct effects and their role scores.

For each request the model runs once over the text, from the ablated head's layer on. At some rows
it leaves the final residual stream and the heads' outputs, from which direct effects are computed
(``causal.direct_effects``); the attention of every pass decides the hits on a relation
(``causal.role_scores``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headprobe.causal.ablation import Ablation, FlatSequences, Head, Replacements
from headprobe.causal.direct_effects import DirectEffects, StreamKeeper
from headprobe.causal.losses import ResumablePass, ScoredSequences, chunks
from headprobe.causal.role_scores import HitCounter, PassageInstances
from headprobe.model.attention import Observer
from headprobe.model.forward import run_flat
from headprobe.model.heads import ObservedModel

CHECK_TOKENS = 64
"""The tokens on which it is checked that heads have direct effects: the check keeps what every
module returns, which for whole chunks of text were gigabytes."""


@dataclass(frozen=True)
class Request:
    """One pass whose responders are observed."""

    ablated: Head | None
    """The head that is replaced by its mean; None for the intact model."""
    tokens: NDArray[np.int64]
    """[N]: the scored tokens at which direct effects are computed."""
    relation: int | None
    """The relation whose hits are decided; None for none."""
    responders: tuple[Head, ...]
    """[K]: the heads whose direct effects are wanted."""
    compare: bool = False
    """Whether the request before is of the intact model and the same tokens, so that the effect of
    each responder's reaction can be computed."""


@dataclass
class Response:
    """What a request found; arrays are filled chunk by chunk."""

    frozen: NDArray[np.float32]
    """[N]: the losses with the final norm's scale as in the intact run."""
    without: NDArray[np.float32]
    """[K, N]: the same without each responder's term."""
    unmoved: NDArray[np.float32]
    """[K, N]: the same with each responder's term as in the intact run, where asked for."""
    hits: Tensor
    """[L, H, I]: the hits on the relation; not decided in layers below the ablated head."""

    @property
    def direct(self) -> NDArray[np.float64]:
        """[K, N]: the direct effect of each responder."""
        return np.asarray(self.without.astype(np.float64) - self.frozen)

    @property
    def reaction(self) -> NDArray[np.float64]:
        """[K, N]: what the change of each responder's term saves: the loss without it, minus the
        loss with it."""
        return np.asarray(self.unmoved.astype(np.float64) - self.frozen)


@dataclass
class ResponseMeasurement:
    """Runs requests on the same text."""

    observed: ObservedModel
    scored: ScoredSequences
    replacements: Replacements
    instances: Mapping[int, Mapping[int, PassageInstances]]
    """By relation and sequence."""
    counts: Mapping[int, int]
    """The number of instances of each relation."""
    has_direct: bool = field(default=False, init=False)
    """Whether the model's heads have direct effects."""
    _direct: DirectEffects | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        start = self.scored.sequences[0][:CHECK_TOKENS]
        with torch.inference_mode():
            [run] = chunks(self.observed, [start], 1)
            self._direct = DirectEffects.of(self.observed, run, self.replacements.mean)
        self.has_direct = self._direct is not None

    def run(
        self, requests: Sequence[Request], advance: Callable[[int], None] = lambda _: None
    ) -> list[Response]:
        """Return the response to each request. ``advance`` is called with the number of requests
        done on each sequence since the last call."""
        observed = self.observed
        responses = [self._empty(request) for request in requests]
        layers = sorted({each.ablated[0] for each in requests if each.ablated is not None})
        for run in chunks(observed, self.scored.sequences, len(layers) or 1):
            with torch.inference_mode():
                start = ResumablePass(observed, run, layers)
                intact = None if self._direct is None else self._scales(self._direct, run)
                before: Tensor | None = None
                for request, response in zip(requests, responses, strict=True):
                    known = before if request.compare else None
                    before = self._run_one(run, start, intact, request, response, known)
                    advance(len(run.numbers))
        return responses

    def _empty(self, request: Request) -> Response:
        rows, layers = len(request.tokens), len(self.observed.layers)
        count = 0 if request.relation is None else self.counts[request.relation]
        return Response(
            np.zeros(rows, np.float32),
            np.zeros((len(request.responders), rows), np.float32),
            np.zeros((len(request.responders), rows), np.float32),
            torch.zeros(layers, self.observed.n_heads, count, dtype=torch.bool),
        )

    def _run_one(
        self,
        run: FlatSequences,
        start: ResumablePass,
        intact: Tensor | None,
        request: Request,
        response: Response,
        before: Tensor | None,
    ) -> Tensor | None:
        """Run a request on one chunk; return the heads' outputs [N, L, H, V] at its rows there."""
        place, rows, targets = self.rows_of(run, request.tokens)
        of_relation = {} if request.relation is None else self.instances[request.relation]
        if not len(place) and not any(int(number) in of_relation for number in run.numbers):
            return None
        observer: Observer | None = None
        if request.ablated is not None:
            ablation = Ablation((request.ablated,), "mean", self.replacements)
            observer = ablation.observer(run)
        if of_relation:
            observer = HitCounter(run, of_relation, response.hits, observer)
        keeper = StreamKeeper(self.observed, rows, observer)
        with keeper.listening():
            if request.ablated is None:
                outputs = run_flat(self.observed.model.base_model, run.flat, keeper, None)
            else:
                outputs = start.resume(request.ablated[0], keeper)
        if self._direct is None or intact is None or not len(place) or not request.responders:
            return None
        first = min(keeper.terms)
        missing = [torch.zeros_like(keeper.terms[first])] * first
        terms = torch.stack([*missing, *(keeper.terms[at] for at in sorted(keeper.terms))], 1)
        frozen, without = self._direct.losses(
            outputs, keeper.stream, terms, None, request.responders, intact[rows], targets
        )
        response.frozen[place] = frozen.cpu().numpy()
        response.without[:, place] = without.cpu().numpy()
        if before is not None:
            _, unmoved = self._direct.losses(
                outputs, keeper.stream, terms, before, request.responders, intact[rows], targets
            )
            response.unmoved[:, place] = unmoved.cpu().numpy()
        return terms

    def rows_of(
        self, run: FlatSequences, tokens: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], Tensor, Tensor]:
        """Return which of the scored ``tokens`` [N] are in a run, their rows there, and the tokens
        predicted there."""
        starts = np.full(len(self.scored.sequences), -1, dtype=np.int64)
        starts[run.numbers] = run.starts[:-1]
        start = starts[self.scored.sequence[tokens]]
        place = np.flatnonzero(start >= 0)
        device = run.flat.token_ids.device
        rows = torch.from_numpy(start[place] + self.scored.row[tokens[place]]).to(device)
        targets = torch.from_numpy(self.scored.target[tokens[place]].astype(np.int64)).to(device)
        return place, rows, targets

    def _scales(self, direct: DirectEffects, run: FlatSequences) -> Tensor:
        """[N]: the final norm's scale at every row of the intact run."""
        every = torch.arange(run.flat.token_ids.shape[1], device=run.flat.token_ids.device)
        keeper = StreamKeeper(self.observed, every[:0], None)
        keeper.stream_rows = every
        with keeper.listening():
            outputs = run_flat(self.observed.model.base_model, run.flat, keeper, None)
        return direct.scale(keeper.stream, outputs.last_hidden_state.dtype)
