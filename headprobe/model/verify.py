"""The check, made at every load, that the attention observed is the model's own.

A model can differ from what headprobe assumes in ways that raise no error: its mask may be lost,
its heads may be gated, or something other than attention may mix tokens. ``verify_capture`` runs
the model twice and compares, so that such a model is refused instead of measured incorrectly.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from headprobe.batching.layout import Block, pack_passages
from headprobe.errors import HeadprobeError
from headprobe.model.attention import NAME, Observer, Pass, TilePart, register
from headprobe.model.load_errors import is_out_of_memory, out_of_memory, quote

ROW_SUM_TOLERANCE = 1e-3
"""How far the sum of a row may be from one. Probabilities are float32 in every model."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""The largest relative difference from eager attention that a layer's heads may have, by dtype."""

HALF_TOLERANCE = 0.05
"""The same in half precision, where transformers rounds its probabilities."""


class CaptureCheck(Observer):
    """An observer that records each layer's attention call, and which submodule projects its heads.

    After a pass ``modules`` holds the attention modules in the order of their calls; the
    dictionaries have them as keys.
    """

    def __init__(self) -> None:
        self.modules: list[nn.Module] = []
        self.shapes: list[tuple[int, int, int]] = []
        """Query heads H, key/value heads G and value width V of each call."""
        self.outputs: dict[nn.Module, Tensor] = {}
        """The heads' outputs [N, H, V]."""
        self.projections: dict[nn.Module, nn.Module] = {}
        """The submodule that receives the heads' outputs unchanged: the output projection."""
        self.returned: set[nn.Module] = set()
        """The attention modules that return the output of their projection."""
        self.blocks: dict[nn.Module, nn.Module] = {}
        """The block around each attention module."""
        self.later_weight = 0.0
        """The largest weight on a later token."""
        self.row_low, self.row_high = 1.0, 1.0

    @property
    def learned_sinks(self) -> bool:
        """Whether rows sum to less than one, as learned sinks make them."""
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
        # The last key is the null key. Rows are the last of the passage's tokens, so row r sees the
        # keys up to r + keys - rows
        keys, rows = weights.shape[2] - 1, weights.shape[4]
        later = weights[:, :, :keys].transpose(2, 3).tril(rows - keys - 1)
        self.later_weight = max(self.later_weight, float(later.max()))
        sums = weights.sum(2)
        self.row_low = min(self.row_low, float(sums.min()))
        self.row_high = max(self.row_high, float(sums.max()))

    def end_layer(self, module: nn.Module, output: Tensor) -> None:
        self.shapes.append((output.shape[1], self._groups, output.shape[2]))
        self.outputs[module] = output

    def module_called(self, module: nn.Module, given: Tensor) -> None:
        """Record that ``module`` is called with ``given``.

        The first module with weights whose input equals the latest layer's heads' outputs is taken
        for that layer's output projection.
        """
        if not self.modules or (layer := self.modules[-1]) in self.projections:
            return
        output = self.outputs.get(layer)
        if output is None or given.numel() != output.numel():
            return
        has_weights = any(True for _ in chain(module.parameters(), module.buffers()))
        if has_weights and torch.equal(output.reshape(given.shape).to(given.device), given):
            self.projections[layer] = module

    def module_returned(self, module: nn.Module, result: Tensor) -> None:
        """Record that ``module`` returns ``result``, and whether an attention module returns the
        result of its projection."""
        if self.modules and module is self.projections.get(self.modules[-1]):
            self._projected = result
        elif module in self.projections and result.numel() == self._projected.numel():
            projected = self._projected.reshape(-1).to(result.device)
            if torch.equal(result.reshape(-1), projected):
                self.returned.add(module)


def verify_capture(model: PreTrainedModel, where: str, ids: Tensor) -> CaptureCheck:
    """Switch the model to the observing attention function and check it on ``ids`` [T].

    The model runs twice: with transformers' eager attention on the passage, and observed, in one
    packed sequence of the passage, its first third, and the passage again, cut into blocks. It is
    checked that

    1. every layer attends exactly once, no weight lies on a later token, and rows sum to one (to
       less with learned sinks);
    2. a submodule of each attention module receives the heads' outputs unchanged, and the attention
       module returns its result: this is the output projection, whatever its name;
    3. the heads' outputs equal those of eager attention, layer by layer on the same input (faster
       implementations have omitted soft caps before);
    4. only attention depends on where in the sequence a token is and on the tokens before it; the
       embeddings do not, and there is no convolution or recurrence beside attention.

    Raises HeadprobeError where any of this fails.
    """
    check = CaptureCheck()
    eager, observed = _LayerRecord(model), _LayerRecord(model, check)
    register()
    tokens, third = ids.cpu().numpy(), -(-len(ids) // 3)
    blocks = [
        Block(np.array([0, 1]), 0, len(ids)),
        *(Block(np.array([2]), a, b) for a, b in ((0, third), (third, len(ids)))),
    ]
    flat = pack_passages({0: tokens, 1: tokens[:third], 2: tokens}, blocks, ids.device)
    positions = flat.positions[0]
    with torch.inference_mode(), refuse_on_error(where, "its attention cannot be observed"):
        model.set_attn_implementation("eager")
        with eager.recording():
            model.base_model(input_ids=ids[None], use_cache=False)
        model.set_attn_implementation(NAME)
        replacements = eager.layer_inputs(positions)
        with observed.recording(replacements), Pass(flat.tiles, check, None).running():
            outputs = model.base_model(
                input_ids=flat.token_ids, position_ids=flat.positions, use_cache=False
            )
    if not hasattr(outputs, "last_hidden_state"):
        raise refusal(where, "its decoder is not separate from its output layer")
    if not torch.isfinite(outputs.last_hidden_state).all():
        raise HeadprobeError(
            where,
            "its outputs are not finite numbers",
            "Its files are damaged, or it overflows in this dtype; get another copy, or try "
            "--dtype float32",
        )
    _check_calls(model, where, check)
    _check_projections(where, check, observed)
    _check_blocks(model, where, check, observed)
    _check_heads(where, check, eager, observed, positions)
    _check_passages(where, eager, observed, positions, outputs.last_hidden_state)
    return check


class _LayerRecord:
    """The inputs of a model's modules in one pass."""

    def __init__(self, model: PreTrainedModel, check: CaptureCheck | None = None) -> None:
        self._modules = list(model.base_model.modules())
        self._check = check
        self.inputs: dict[nn.Module, Tensor] = {}

    def layer_inputs(self, places: Tensor | None = None) -> dict[nn.Module, Tensor]:
        """The inputs [1, N, E] of the modules that transformers numbers (attention modules among
        them), in the order of their calls.

        With ``places`` [N] the inputs at these places of the passage, which may repeat: a causal
        model's inputs do not depend on later tokens, so they hold for shortened passages too.
        """
        return {
            module: given if places is None else given.index_select(1, places.to(given.device))
            for module, given in self.inputs.items()
            if _is_numbered(module) and given.is_floating_point() and given.ndim == 3
        }

    @contextmanager
    def recording(self, replacements: Mapping[nn.Module, Tensor] | None = None) -> Iterator[None]:
        """Record the inputs of all modules while open.

        ``replacements`` take the place of modules' inputs, so that small differences (which may
        select another expert) do not grow from layer to layer.
        """
        replacements = replacements or {}

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            given = args[0] if args else kwargs.get("hidden_states")
            if not isinstance(given, Tensor):
                return None
            # Layers may add to their input in place
            self.inputs[module] = given.clone() if _is_numbered(module) else given
            if self._check is not None:
                self._check.module_called(module, given)
            if (new := replacements.get(module)) is None:
                return None
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

        def after(module: nn.Module, _: Any, result: Any) -> None:
            first = result[0] if isinstance(result, tuple) and result else result
            if self._check is not None and isinstance(first, Tensor):
                self._check.module_returned(module, first)

        handles = [
            hook
            for module in self._modules
            for hook in (
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after),
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
    """Check 1: one call per layer, a causal mask, rows that sum to one."""
    expected = list(range(model.config.get_text_config().num_hidden_layers))
    called = [getattr(module, "layer_idx", None) for module in check.modules]
    if not called:
        raise refusal(where, "none of its layers calls transformers' attention functions")
    if None in called:
        raise refusal(where, "its attention layers have no numbers (layer_idx)")
    if called != expected:
        raise refusal(
            where,
            f"{len(called)} of its {len(expected)} layers attend, but each must once, in order",
        )
    if check.later_weight > 0:
        raise refusal(where, "its attention looks at later tokens, as an encoder's does")
    if len(set(check.shapes)) > 1:
        raise refusal(where, "its layers differ in the number or size of their heads")
    learned = any(getattr(module, "sinks", None) is not None for module in check.modules)
    if check.row_high > 1 + ROW_SUM_TOLERANCE or (check.learned_sinks and not learned):
        raise refusal(where, "its attention rows do not sum to one")


def _check_projections(where: str, check: CaptureCheck, observed: _LayerRecord) -> None:
    """Check 2: each layer's heads are concatenated, projected, and nothing follows."""
    heads, _, width = check.shapes[0]
    for module in check.modules:
        projection = check.projections.get(module)
        if projection is None:
            what = "its heads' outputs are changed (gated, for example) before they are projected"
            raise refusal(where, what)
        if projection not in set(module.modules()):
            raise refusal(where, "its heads' outputs are projected outside of attention modules")
        if observed.inputs[projection].shape[-1] != heads * width:
            what = f"{type(projection).__name__} takes its heads' outputs without joining them"
            raise refusal(where, what)
        if module not in check.returned:
            what = f"its attention does more after its heads than {type(projection).__name__}"
            raise refusal(where, what)


def _check_blocks(
    model: PreTrainedModel, where: str, check: CaptureCheck, observed: _LayerRecord
) -> None:
    """Find the block around each attention module, through which the residual stream passes."""
    names = {module: name for name, module in model.named_modules()}
    for module in check.modules:
        block = check.blocks[module] = _block_of(model, names[module])
        given = observed.inputs.get(block)
        if given is None or given.ndim != 3:
            raise refusal(where, f"its residual stream does not pass through {names[block]}")


def _block_of(model: PreTrainedModel, name: str) -> nn.Module:
    """The entry of the model's list of layers that contains the attention module ``name``, or the
    attention module's parent where there is no such list."""
    parts = name.split(".")
    for stop in range(len(parts) - 1, 0, -1):
        if isinstance(model.get_submodule(".".join(parts[: stop - 1])), nn.ModuleList):
            return model.get_submodule(".".join(parts[:stop]))
    return model.get_submodule(".".join(parts[:-1]))


def _check_heads(
    where: str, check: CaptureCheck, eager: _LayerRecord, observed: _LayerRecord, positions: Tensor
) -> None:
    """Check 3: the input of each projection equals eager attention's at the same ``positions``."""
    length = int(positions.max()) + 1
    for module in check.modules:
        projection = check.projections[module]
        heads, expected = observed.inputs[projection], eager.inputs.get(projection)
        if expected is None or expected.numel() * len(positions) != heads.numel() * length:
            raise refusal(where, "its eager attention joins its heads differently")
        expected = expected.reshape(1, length, heads.shape[-1]).index_select(
            1, positions.to(expected.device)
        )
        difference = _difference(heads.reshape(expected.shape), expected)
        if not difference <= _tolerance(heads):
            what = f"observing it changes the heads' outputs of layer {module.layer_idx}"
            raise refusal(where, f"{what} by {difference:.0e} of their norm")


def _check_passages(
    where: str, eager: _LayerRecord, observed: _LayerRecord, positions: Tensor, last: Tensor
) -> None:
    """Check 4, on the sequence's ``positions`` [N] and the ``last`` hidden states [1, N, E].

    The first numbered module must receive what it received with eager attention. The first tokens
    of passages see only themselves, so they must be equal in every layer; one that differs
    may have been sent to another expert, because rounding differs.
    """
    inputs, expected = observed.layer_inputs(), eager.layer_inputs(positions)
    first = next(iter(inputs), None)
    if first is None:
        raise refusal(where, "its layers do not take hidden states of shape [1, tokens, width]")
    if not _difference(inputs[first], expected[first]) <= _tolerance(inputs[first]):
        raise refusal(where, "its embeddings do not follow the position ids")
    starts = (positions == 0).nonzero()[:, 0]
    for stream in (*inputs.values(), last):
        reference, *others = stream[0].index_select(0, starts.to(stream.device))
        if not min(_difference(other, reference) for other in others) <= _tolerance(stream):
            what = "something other than attention mixes tokens of different passages"
            raise refusal(where, what)


def _difference(tensor: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to the norm of ``expected``."""
    expected = expected.float().to(tensor.device)
    return float((tensor.float() - expected).norm() / expected.norm())


def _tolerance(tensor: Tensor) -> float:
    return TOLERANCE.get(tensor.dtype, HALF_TOLERANCE)


def refusal(where: str, what: str) -> HeadprobeError:
    """The error for a model that headprobe does not support."""
    return HeadprobeError(
        where, what, "headprobe cannot measure it correctly; name a Llama-style decoder"
    )


@contextmanager
def refuse_on_error(where: str, what: str) -> Iterator[None]:
    """Turn the errors that a model raises where its code does not fit into one refusal.

    An unusual model may fail at any line. Running out of memory says nothing about the model, so it
    has a message of its own.
    """
    try:
        yield
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        if is_out_of_memory(error):
            raise out_of_memory(where) from error
        reason = quote(f"{type(error).__name__}: {error}")
        raise refusal(where, f"{what} ({reason})") from error
