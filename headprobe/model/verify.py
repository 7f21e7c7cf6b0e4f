"""The proof, made at every load, that what will be measured is the model's own attention."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headprobe.batching.layout import Block, lay_flat
from headprobe.errors import HeadprobeError
from headprobe.model.attention import NAME, Observer, Pass, TilePart, register

ROW_SUM_TOLERANCE = 1e-3
"""Rows sum to one this closely; probabilities are float32 whatever the model is in."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Relative difference that a layer's heads may show against eager attention ..."""

HALF_TOLERANCE = 0.05
"""... and in half precision, where transformers rounds its probabilities."""


class CaptureCheck(Observer):
    """Notes every call of the attention function."""

    def __init__(self) -> None:
        self.modules: list[nn.Module] = []
        self.shapes: list[tuple[int, int, int]] = []
        self.outputs: dict[nn.Module, Tensor] = {}
        self.projections: dict[nn.Module, nn.Module] = {}
        self.returned: set[nn.Module] = set()
        self.blocks: dict[nn.Module, nn.Module] = {}
        self.later_weight = 0.0
        self.row_low, self.row_high = 1.0, 1.0

    @property
    def learned_sinks(self) -> bool:
        """Rows sum to less than one by design."""
        return self.row_low < 1 - ROW_SUM_TOLERANCE

    def begin_layer(self, module: nn.Module, value: Tensor) -> None:
        self.modules.append(module)
        self._groups = value.shape[1]

    def attended(
        self,
        number: int,  # noqa: ARG002
        part: TilePart,  # noqa: ARG002
        weights: Tensor,
        scores: Tensor,  # noqa: ARG002
    ) -> None:
        keys, rows = weights.shape[2] - 1, weights.shape[4]
        later = weights[:, :, :keys].transpose(2, 3).tril(rows - keys - 1)
        self.later_weight = max(self.later_weight, float(later.max()))
        sums = weights.sum(2)
        self.row_low = min(self.row_low, float(sums.min()))
        self.row_high = max(self.row_high, float(sums.max()))

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        self.shapes.append((output.shape[1], self._groups, output.shape[2]))
        self.outputs[module] = output

    def called(self, module: nn.Module, given: Tensor) -> None:
        """A module is called. The first module with weights that is given a layer's heads' outputs
        exactly as they are is taken to project them."""
        if not self.modules or (layer := self.modules[-1]) in self.projections:
            return
        output = self.outputs.get(layer)
        if output is None or given.numel() != output.numel():
            return
        has_weights = any(True for _ in chain(module.parameters(), module.buffers()))
        if has_weights and torch.equal(output.reshape(given.shape).to(given.device), given):
            self.projections[layer] = module

    def answered(self, module: nn.Module, made: Tensor) -> None:
        """A module returns this: ``returned`` are the attention modules that return what their
        projections made."""
        if self.modules and module is self.projections.get(self.modules[-1]):
            self._made = made
        elif module in self.projections and made.numel() == self._made.numel():
            same = torch.equal(made.reshape(-1), self._made.reshape(-1).to(made.device))
            self.returned.update([module] if same else [])


def verify_capture(model: PreTrainedModel, where: str, ids: Tensor) -> CaptureCheck:
    """Switch the model to the observing attention function and check it on ``ids`` [T].

    The model runs twice: with transformers' eager attention on the passage, and observed, in one
    flat run of the passage, its first third, and the passage again, cut into blocks. Checked are:

    1. every layer attends exactly once, no weight lies on a later token, and rows sum to one (to
       less with learned sinks);
    2. a submodule of each attention module receives the heads' outputs as they are, and what it
       makes of them is what the attention module returns: the output projection, whatever its name;
    3. the heads' outputs equal, layer by layer on the same input, those of eager attention for this
       model (its faster kinds have dropped soft caps before);
    4. nothing but attention tells a token where in the run it stands or what stands before it:
       neither its embedding nor a convolution or recurrence beside attention.

    HeadprobeError where any of this fails.
    """
    check = CaptureCheck()
    own, seen = _LayerRecord(model), _LayerRecord(model, check)
    register()
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
            model.set_attn_implementation(NAME)
            instead = own.layer_inputs(flat.positions[0])
            observing = Pass(flat.tiles, check, None).running()
            with seen.recording(instead), observing:
                found = model.base_model(
                    input_ids=flat.token_ids, position_ids=flat.positions, use_cache=False
                )
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            raise refusal(where, "its attention cannot be observed") from error
    if not hasattr(found, "last_hidden_state"):
        raise refusal(where, "its decoder is not set apart from what predicts words")
    _check_calls(model, where, check)
    _check_projections(where, check)
    _check_blocks(model, where, check, seen)
    _check_heads(where, check, own, seen, flat.positions[0])
    _check_passages(where, own, seen, flat.positions[0], found.last_hidden_state)
    return check


class _LayerRecord:
    """What the modules of a model were given in one pass."""

    def __init__(self, model: PreTrainedModel, check: CaptureCheck | None = None) -> None:
        self._modules = list(model.base_model.modules())
        self._witness = check
        self.inputs: dict[nn.Module, Tensor] = {}

    def layer_inputs(self, places: Tensor | None = None) -> dict[nn.Module, Tensor]:
        """The inputs [1, N, E] of the modules that transformers numbers (attention among them), in
        the order of their calls; with ``places`` those of the passage there, repeated: what came
        later did not matter to them."""
        return {
            module: given if places is None else given.index_select(1, places.to(given.device))
            for module, given in self.inputs.items()
            if _is_numbered(module) and given.is_floating_point() and given.ndim == 3
        }

    @contextmanager
    def recording(self, instead: Mapping[nn.Module, Tensor] | None = None) -> Iterator[None]:
        """While open, a pass is noted; ``instead`` replaces inputs of modules, so that small
        differences (an expert chosen otherwise) do not grow from layer to layer."""
        instead = instead or {}

        def take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = args[0] if args else kwargs.get("hidden_states")
            if not isinstance(given, Tensor):
                return None
            # Layers may add to their input in place
            self.inputs[module] = given.clone() if _is_numbered(module) else given
            if self._witness is not None:
                self._witness.called(module, given)
            if (put := instead.get(module)) is None:
                return None
            return ((put, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": put})

        def give(module: nn.Module, _: Any, returned: Any) -> None:
            first = returned[0] if isinstance(returned, tuple) and returned else returned
            if self._witness is not None and isinstance(first, Tensor):
                self._witness.answered(module, first)

        handles = [
            hook
            for module in self._modules
            for hook in (
                module.register_forward_pre_hook(take, with_kwargs=True),
                module.register_forward_hook(give),
            )
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _is_numbered(module: nn.Module) -> bool:
    return isinstance(getattr(module, "layer_idx", None), int)


def _check_calls(model: PreTrainedModel, where: str, check: CaptureCheck) -> None:
    expected = list(range(model.config.get_text_config().num_hidden_layers))
    called = [getattr(module, "layer_idx", None) for module in check.modules]
    if not called:
        raise refusal(where, "none of its layers attends through transformers' functions")
    if None in called:
        raise refusal(where, "its attention layers are not numbered (layer_idx)")
    if called != expected:
        raise refusal(
            where, f"{len(called)} of its {len(expected)} layers attend, not each once in turn"
        )
    if check.later_weight > 0:
        raise refusal(where, "its attention looks at later tokens, as an encoder's does")
    if len(set(check.shapes)) > 1:
        raise refusal(where, "its layers differ in their number or size of heads")
    learned = any(getattr(module, "sinks", None) is not None for module in check.modules)
    if check.row_high > 1 + ROW_SUM_TOLERANCE or (check.learned_sinks and not learned):
        raise refusal(where, "its attention rows do not sum to one")


def _check_projections(where: str, check: CaptureCheck) -> None:
    for module in check.modules:
        projection = check.projections.get(module)
        if projection is None:
            what = "its heads' outputs are changed (gated, say) before they are projected"
            raise refusal(where, what)
        if projection not in set(module.modules()):
            raise refusal(where, "its heads' outputs are projected outside of attention modules")
        if module not in check.returned:
            what = f"{type(projection).__name__} is not all that follows its heads in attention"
            raise refusal(where, what)


def _check_blocks(
    model: PreTrainedModel, where: str, check: CaptureCheck, seen: _LayerRecord
) -> None:
    names = {module: name for name, module in model.named_modules()}
    for module in check.modules:
        block = check.blocks[module] = _block_of(model, names[module])
        given = seen.inputs.get(block)
        if given is None or given.ndim != 3:
            raise refusal(where, f"the residual stream does not pass through {names[block]}")


def _block_of(model: PreTrainedModel, name: str) -> nn.Module:
    """What holds the attention module of this name in the model's list of layers."""
    parts = name.split(".")
    for stop in range(len(parts) - 1, 0, -1):
        if isinstance(model.get_submodule(".".join(parts[: stop - 1])), nn.ModuleList):
            return model.get_submodule(".".join(parts[:stop]))
    return model.get_submodule(".".join(parts[:-1]))


def _check_heads(
    where: str, check: CaptureCheck, own: _LayerRecord, seen: _LayerRecord, places: Tensor
) -> None:
    for module in check.modules:
        projection = check.projections[module]
        if projection not in own.inputs:
            raise refusal(where, "its eager attention joins heads in another way")
        joined, expected = seen.inputs[projection], own.inputs[projection]
        expected = expected.reshape(1, -1, joined.shape[-1]).index_select(
            1, places.to(expected.device)
        )
        apart = _difference(joined.reshape(expected.shape), expected)
        if not apart <= _tolerance(joined):
            raise refusal(where, f"observing it changes layer {module.layer_idx} by {apart:.0e}")


def _check_passages(
    where: str, own: _LayerRecord, seen: _LayerRecord, places: Tensor, last: Tensor
) -> None:
    """The first numbered module is given what eager attention's was given; and the first tokens of
    passages, which see nothing but themselves, are the same in every layer of the flat run. One
    that differs may have met another expert, for rounding differs."""
    inputs, expected = seen.layer_inputs(), own.layer_inputs(places)
    first = next(iter(inputs))
    if not _difference(inputs[first], expected[first]) <= _tolerance(inputs[first]):
        raise refusal(where, "its embeddings do not follow the positions that they are given")
    starts = (places == 0).nonzero()[:, 0]
    for stream in (*inputs.values(), last):
        alone, *others = stream[0].index_select(0, starts.to(stream.device))
        if not min(_difference(other, alone) for other in others) <= _tolerance(stream):
            what = "something beside attention mixes tokens of one passage with those of another"
            raise refusal(where, what)


def _difference(tensor: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to what is expected."""
    expected = expected.float().to(tensor.device)
    return float((tensor.float() - expected).norm() / expected.norm())


def _tolerance(tensor: Tensor) -> float:
    return TOLERANCE.get(tensor.dtype, HALF_TOLERANCE)


def refusal(where: str, what: str) -> HeadprobeError:
    return HeadprobeError(
        where, what, "headprobe cannot measure it rightly; name a Llama-style decoder"
    )
