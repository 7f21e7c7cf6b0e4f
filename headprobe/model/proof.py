"""The proof, made at every load, that what will be measured is the model's own attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headprobe.align.flat import Block, lay_flat
from headprobe.errors import HeadprobeError
from headprobe.model.attention import NAME, Observer, Part, Pass, register

ROW_SUM = 1e-3
"""Rows sum to one this closely; probabilities are float32 whatever the model is in."""

DIFFERENCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Relative difference that a layer's heads may show against eager attention ..."""

HALF_DIFFERENCE = 0.05
"""... and in half precision, where transformers rounds its probabilities."""


class Witness(Observer):
    """Notes every call of the attention function."""

    def __init__(self) -> None:
        self.modules: list[nn.Module] = []
        self.shapes: list[tuple[int, int, int]] = []
        self.outputs: dict[nn.Module, Tensor] = {}
        self.future = 0.0
        self.row_low, self.row_high = 1.0, 1.0

    @property
    def learned_sinks(self) -> bool:
        """Rows sum to less than one by design."""
        return self.row_low < 1 - ROW_SUM

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        self.modules.append(module)
        self._groups = value.shape[1]

    def attended(
        self,
        number: int,  # noqa: ARG002
        part: Part,  # noqa: ARG002
        weights: Tensor,
        scores: Tensor,  # noqa: ARG002
    ) -> None:
        keys, rows = weights.shape[2] - 1, weights.shape[4]
        later = weights[:, :, :keys].transpose(2, 3).tril(rows - keys - 1)
        self.future = max(self.future, float(later.max()))
        sums = weights.sum(2)
        self.row_low = min(self.row_low, float(sums.min()))
        self.row_high = max(self.row_high, float(sums.max()))

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        self.shapes.append((output.shape[1], self._groups, output.shape[2]))
        self.outputs[module] = output


def prove(model: PreTrainedModel, where: str, ids: Tensor) -> Witness:
    """Switch the model to the observing attention function and check it on ``ids`` [T].

    Observed are, in one flat run, a passage of these tokens, one of their first third, and theirs
    once more, cut into blocks. Every layer attends exactly once; no weight lies on a later token;
    rows sum to one (to less with learned sinks); each ``o_proj`` reads the heads' outputs as they
    are; and these equal, layer by layer on the same input, those of transformers' eager attention
    for this model (its faster kinds have dropped soft caps before).
    HeadprobeError where any of this fails.
    """
    own, seen = _Record(model), _Record(model)
    register()
    witness = Witness()
    tokens, some = ids.cpu().numpy(), -(-len(ids) // 3)
    blocks = [
        Block(np.array([0, 1]), 0, len(ids)),
        *(Block(np.array([2]), a, b) for a, b in ((0, some), (some, len(ids)))),
    ]
    flat = lay_flat({0: tokens, 1: tokens[:some], 2: tokens}, blocks, ids.device)
    with torch.inference_mode():
        try:
            model.set_attn_implementation("eager")
            with own.recording():
                model.base_model(input_ids=ids[None], use_cache=False)
            own.select(flat.positions[0])
            model.set_attn_implementation(NAME)
            with seen.recording(instead=own.inputs):
                model.base_model(
                    input_ids=flat.token_ids,
                    position_ids=flat.positions,
                    use_cache=False,
                    flat=Pass(flat.rectangles, witness, None),
                )
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise _refusal(where, "its attention cannot be observed") from error
    _check_calls(model, where, witness)
    _check_heads(where, witness, own, seen)
    return witness


class _Record:
    """What each attention module (those with an ``o_proj``) was given, and what it joined."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._modules = [
            (module, o_proj)
            for module in model.modules()
            if isinstance(o_proj := getattr(module, "o_proj", None), nn.Module)
        ]
        self.inputs: dict[nn.Module, Tensor] = {}
        self.joined: dict[nn.Module, Tensor] = {}

    def select(self, places: Tensor) -> None:
        """Repeat what was noted of these places of a passage: what came later did not matter."""
        for noted in (self.inputs, self.joined):
            for module, tensor in noted.items():
                noted[module] = tensor.index_select(1, places.to(tensor.device))

    @contextmanager
    def recording(self, instead: dict[nn.Module, Tensor] | None = None) -> Iterator[None]:
        """While open, passes are noted; ``instead`` replaces the modules' inputs, so that small
        differences (an expert chosen otherwise) do not grow from layer to layer."""

        def take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = args[0] if args else kwargs["hidden_states"]
            self.inputs[module] = given
            put = given if instead is None else instead[module]
            return ((put, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": put})

        def join(module: nn.Module) -> Any:
            return lambda _, args: self.joined.update({module: args[0]})

        handles = [
            module.register_forward_pre_hook(take, with_kwargs=True) for module, _ in self._modules
        ]
        handles += [
            o_proj.register_forward_pre_hook(join(module)) for module, o_proj in self._modules
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _check_calls(model: PreTrainedModel, where: str, witness: Witness) -> None:
    expected = list(range(model.config.get_text_config().num_hidden_layers))
    called = [getattr(module, "layer_idx", None) for module in witness.modules]
    if not called:
        raise _refusal(where, "none of its layers attends through transformers' functions")
    if called != expected:
        raise _refusal(
            where, f"{len(called)} of its {len(expected)} layers attend, not each once in turn"
        )
    if witness.future > 0:
        raise _refusal(where, "its attention looks at later tokens, as an encoder's does")
    if len(set(witness.shapes)) > 1:
        raise _refusal(where, "its layers differ in their number or size of heads")
    learned = any(getattr(module, "sinks", None) is not None for module in witness.modules)
    if witness.row_high > 1 + ROW_SUM or (witness.learned_sinks and not learned):
        raise _refusal(where, "its attention rows do not sum to one")


def _check_heads(where: str, witness: Witness, own: _Record, seen: _Record) -> None:
    for module in witness.modules:
        if module not in seen.joined or module not in own.joined:
            raise _refusal(where, "its heads are not joined by an o_proj")
        joined, expected = seen.joined[module], own.joined[module]
        observed = witness.outputs[module].to(joined.device)
        if not torch.equal(observed.reshape(joined.shape), joined):
            raise _refusal(where, "something changes its heads' outputs before o_proj")
        apart = (joined.float() - expected.float()).norm() / expected.float().norm()
        if not float(apart) <= DIFFERENCE.get(joined.dtype, HALF_DIFFERENCE):
            raise _refusal(where, f"observing it changes layer {module.layer_idx} by {apart:.0e}")


def _refusal(where: str, what: str) -> HeadprobeError:
    return HeadprobeError(
        where, what, "headprobe cannot measure it rightly; name a Llama-style decoder"
    )
