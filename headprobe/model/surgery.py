"""Surgery on a loaded model: heads removed from its weights, as stock transformers loads them.

Two operations. ``remove_groups`` builds a smaller model without some key/value heads and the query
heads that read them, as many in each layer. ``silence_heads`` keeps all shapes: the columns of the
output projection that receive a head become zero, and the head's mean output may go into the
projection's bias.

Nothing here depends on the architecture by name. The configuration says how many heads there are;
the smaller model that transformers builds from it says which weights shrink, and every axis that
shrinks consists of one block per key/value head, because the query heads of a key/value head lie
side by side. Whether the result is right, the caller measures (``commands.prune``).
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headprobe.errors import HeadprobeError
from headprobe.model.heads import ObservedModel
from headprobe.model.load import ATTENTION
from headprobe.model.load_errors import quote

Head = tuple[int, int]
"""A layer and a query head, both 0-based."""

Joint = Literal["parts", "groups"]
"""How a joint projection to queries, keys and values lays out its rows: queries, then keys, then
values; or the queries, key and value of each key/value head in turn."""

_SUBSTITUTES = {"llama": ("mistral", {"sliding_window": None})}
"""Another architecture that computes the same from the same weights, with the settings that it
takes. ``LlamaConfig`` wants the hidden size to be a multiple of the number of query heads."""

REMEDY = "Silence heads instead, which keeps all shapes: --max-loss 0.05"
"""The remedy where key/value heads cannot be removed."""


def check_surgery(observed: ObservedModel, where: str) -> None:
    """Raise HeadprobeError unless the model's attention weights can be changed and saved."""
    model = observed.model
    if getattr(model, "is_quantized", False):
        raise HeadprobeError(
            where,
            "its weights are quantised, so that pruned ones cannot be saved in their format",
            "Scan and prune the checkpoint that it was quantised from",
        )
    if getattr(model, "peft_config", None) is not None:
        raise HeadprobeError(
            where,
            "has an adapter beside its weights",
            "Merge it (peft's merge_and_unload), save the result, and scan that",
        )
    if any(parameter.device.type == "meta" for parameter in model.parameters()):
        raise HeadprobeError(
            where,
            "does not fit into this machine's memory, which surgery needs",
            "Prune it on a larger machine",
        )
    for layer in observed.layers:
        if type(layer.output) not in (nn.Linear, Conv1D):
            raise HeadprobeError(
                where,
                f"its output projection is a {type(layer.output).__name__}, not a plain matrix",
                "Name a checkpoint with ordinary weights",
            )


def silence_heads(
    observed: ObservedModel, heads: Sequence[Head], mean: Tensor | None
) -> PreTrainedModel:
    """Return the model in which ``heads`` write nothing, or their ``mean`` [L, H, V] always.

    The model itself is changed, and attends as transformers does. HeadprobeError where ``mean`` is
    given and the architecture has no bias at its output projection (``has_output_bias``).
    """
    width, model = observed.head_dim, observed.model
    constants = {}  # per layer: what the heads write on average, [E]
    with torch.no_grad():
        for layer in observed.layers:
            here = [head for at, head in heads if at == layer.index]
            weight: Tensor = layer.output.weight  # type: ignore[assignment]
            weight = weight if isinstance(layer.output, Conv1D) else weight.T  # [H * V, E]
            rows = [slice(head * width, (head + 1) * width) for head in here]
            if mean is not None:
                terms = [
                    mean[layer.index, head].to(weight.device).float() @ weight[place].float()
                    for head, place in zip(here, rows, strict=True)
                ]
                constants[layer.index] = sum(terms, torch.zeros_like(weight[0]).float())
            for place in rows:
                weight[place] = 0
        model.set_attn_implementation(ATTENTION)
        if mean is None:
            return model
        if any(getattr(layer.output, "bias", None) is None for layer in observed.layers):
            model = _with_output_bias(observed)
        projections = _output_projections(observed, model)
        for index, constant in constants.items():
            bias: Tensor = projections[index].bias  # type: ignore[assignment]
            bias += constant.to(bias.dtype)
    return model


def has_output_bias(observed: ObservedModel) -> bool:
    """Whether the output projections have a bias, or have one with ``attention_bias`` set."""
    if all(getattr(layer.output, "bias", None) is not None for layer in observed.layers):
        return True
    return _added_biases(observed) is not None


def _added_biases(observed: ObservedModel) -> PreTrainedModel | None:
    """The model with ``attention_bias`` and without weights; None unless this adds nothing but
    biases of attention modules, those of all output projections among them."""
    model = observed.model
    config = _plain_config(model)
    text = config.get_text_config()
    if getattr(text, "attention_bias", None) is not False:
        return None
    text.attention_bias = True
    empty = _empty_model(config)
    before, after = model.state_dict(), empty.state_dict()
    added = after.keys() - before.keys()
    attention = tuple(f"{name}." for name in _attention_names(observed))
    expected = {f"{name}.bias" for name in _output_names(observed)}
    is_plain = all(name.endswith(".bias") and name.startswith(attention) for name in added)
    same = before.keys() <= after.keys() and all(
        after[name].shape == value.shape for name, value in before.items()
    )
    return empty if is_plain and same and expected <= added else None


def _with_output_bias(observed: ObservedModel) -> PreTrainedModel:
    """The model with biases of zero in its attention modules."""
    empty = _added_biases(observed)
    if empty is None:
        raise HeadprobeError(
            type(observed.model).__name__,
            "has no bias at its output projection that could hold a mean",
            "Replace by zero: --by zero",
        )
    state = observed.model.state_dict()
    like = next(iter(state.values()))
    zeros = {
        name: torch.zeros(value.shape, dtype=observed.model.dtype, device=like.device)
        for name, value in empty.state_dict().items()
        if name not in state
    }
    return _filled(empty, {**state, **zeros}, observed.model)


def smaller_model(observed: ObservedModel, count: int, where: str) -> PreTrainedModel:
    """Return a model with ``count`` key/value heads fewer in each layer, without its weights.

    HeadprobeError where transformers builds none, or where its weights differ in anything but the
    blocks of key/value heads.
    """
    model, groups = observed.model, observed.n_kv_heads
    if not 1 <= count < groups:
        what = f"a layer has {groups} key/value heads, and one must remain"
        if groups == 1:
            raise HeadprobeError(where, "has one key/value head per layer: none can go", REMEDY)
        raise HeadprobeError(f"--groups {count}", what, f"Give 1 to {groups - 1}")
    reasons = []
    for config in _smaller_configs(observed, count):
        try:
            smaller = _empty_model(config())
        except (StrictDataclassError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            reasons.append(quote(error.__cause__ or error))
            continue
        wrong = _unexpected(model, smaller, groups, groups - count, _attention_names(observed))
        if wrong is None:
            return smaller
        reasons.append(f"{wrong} does not consist of key/value heads")
    raise HeadprobeError(
        where,
        f"transformers has no such model with {groups - count} key/value heads ({reasons[-1]})",
        REMEDY,
    )


def _smaller_configs(observed: ObservedModel, count: int) -> Iterator[Any]:
    """Functions that make the configurations to try: the model's own kind first."""
    per_group = observed.n_heads // observed.n_kv_heads
    groups = observed.n_kv_heads - count
    changes = {"num_attention_heads": groups * per_group, "num_key_value_heads": groups}
    own = _plain_config(observed.model)
    width = getattr(own.get_text_config(), "head_dim", None)
    if width is None:
        width = own.get_text_config().hidden_size // observed.n_heads

    def with_changes(kind: str, settings: Mapping[str, Any]) -> Any:
        values = own.to_dict()
        if own.get_text_config() is not own:
            raise ValueError("its configuration is nested")
        for name in ("model_type", "transformers_version", "architectures"):
            values.pop(name, None)
        return AutoConfig.for_model(kind, **{**values, "head_dim": width, **changes, **settings})

    yield lambda: with_changes(own.model_type, {})
    if own.model_type in _SUBSTITUTES:
        kind, settings = _SUBSTITUTES[own.model_type]
        yield lambda: with_changes(kind, settings)


def _unexpected(
    model: PreTrainedModel,
    smaller: PreTrainedModel,
    groups: int,
    kept: int,
    attention: Sequence[str],
) -> str | None:
    """The first weight that is missing, new, or smaller otherwise than by key/value heads."""
    before, after = model.state_dict(), smaller.state_dict()
    for name in sorted(before.keys() ^ after.keys()):
        return name
    for name, value in before.items():
        new = after[name].shape
        if value.shape == new:
            continue
        inside = any(name.startswith(f"{each}.") for each in attention)
        if (
            not inside
            or value.ndim != len(new)
            or any(
                old != size and (old % groups or size != old // groups * kept)
                for old, size in zip(value.shape, new, strict=True)
            )
        ):
            return name
    return None


def remove_groups(
    observed: ObservedModel,
    smaller: PreTrainedModel,
    kept: Sequence[Sequence[int]],
    joint: Joint,
) -> PreTrainedModel:
    """Fill ``smaller`` with the weights of the key/value heads ``kept`` [L] of each layer.

    ``joint`` is the layout to assume for projections to queries, keys and values in one.
    """
    groups, per_group = observed.n_kv_heads, observed.n_heads // observed.n_kv_heads
    layer_of = {name: index for index, name in enumerate(_attention_names(observed))}
    shapes = {name: value.shape for name, value in smaller.state_dict().items()}
    state = {}
    for name, value in observed.model.state_dict().items():
        new = shapes[name]
        for axis, (old, size) in enumerate(zip(value.shape, new, strict=True)):
            if old != size:
                layer = next(at for prefix, at in layer_of.items() if name.startswith(f"{prefix}."))
                is_joint = joint == "parts" and _is_joint(observed, old) and axis == 0
                parts = (per_group, 1, 1) if is_joint else (1,)
                places = _places(old, groups, parts, kept[layer])
                value = value.index_select(axis, places.to(value.device))  # noqa: PLW2901
        state[name] = value
    return _filled(smaller, state, observed.model)


def has_joint_projection(observed: ObservedModel, smaller: PreTrainedModel) -> bool:
    """Whether one module projects to queries, keys and values, so that its layout is unknown."""
    before = observed.model.state_dict()
    return any(
        value.shape[:1] != before[name].shape[:1] and _is_joint(observed, before[name].shape[0])
        for name, value in smaller.state_dict().items()
        if value.ndim
    )


def _is_joint(observed: ObservedModel, rows: int) -> bool:
    return rows == (observed.n_heads + 2 * observed.n_kv_heads) * observed.head_dim


def _places(length: int, groups: int, parts: Sequence[int], kept: Sequence[int]) -> Tensor:
    """The places to keep along an axis that consists of ``parts``, each of ``groups`` blocks; the
    blocks' sizes are in the ratio of ``parts``."""
    unit = length // groups // sum(parts)
    start, places = 0, []
    for part in parts:
        block = unit * part
        places += [torch.arange(block) + start + group * block for group in kept]
        start += block * groups
    return torch.cat(places)


def _plain_config(model: PreTrainedModel) -> Any:
    config = deepcopy(model.config)
    config._attn_implementation = ATTENTION
    return config


def _empty_model(config: Any) -> PreTrainedModel:
    """A model without weights, but with its buffers."""
    with init_empty_weights(include_buffers=False):
        built: Any = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION)
    model: PreTrainedModel = built.eval()
    return model


def _filled(
    empty: PreTrainedModel, state: Mapping[str, Tensor], origin: PreTrainedModel
) -> PreTrainedModel:
    """Give ``empty`` the weights of ``state``, and what else belongs to the checkpoint."""
    devices = {value.device for value in state.values()}
    home = devices.pop() if len(devices) == 1 else torch.device("cpu")
    empty.load_state_dict(
        {name: value.to(home).contiguous() for name, value in state.items()}, assign=True
    )
    nn.Module.to(empty, home)  # its buffers
    empty.tie_weights()
    empty.config.dtype = origin.dtype
    empty.generation_config = deepcopy(origin.generation_config)
    return empty


def _attention_names(observed: ObservedModel) -> list[str]:
    """The name of each layer's attention module."""
    names = {module: name for name, module in observed.model.named_modules()}
    return [names[layer.module] for layer in observed.layers]


def _output_names(observed: ObservedModel) -> list[str]:
    """The name of each layer's output projection."""
    names = {module: name for name, module in observed.model.named_modules()}
    return [names[layer.output] for layer in observed.layers]


def _output_projections(observed: ObservedModel, model: PreTrainedModel) -> list[nn.Module]:
    return [model.get_submodule(name) for name in _output_names(observed)]
