"""Accelerators that are not there: their tensors lie in the host's memory, and know where they
would be."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

HOST = torch.device("cpu")

MOVING = {"_to_copy", "copy_", "_pin_memory"}
"""Operations that may read on one device and write on another."""

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Operations that may be told on the host where on a device."""


class Elsewhere(Tensor):
    """A tensor that says it is on an accelerator; its numbers are ``held`` by one on the host."""

    held: Tensor

    def __new__(cls, held: Tensor, device: torch.device) -> Self:
        self = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
        )
        self.held = held
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


@contextmanager
def accelerators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """While open, tensors can be made on ``lazy:0`` and so on, and moved there. What mixes devices
    fails, as it would there. Gradients cannot be."""
    with monkeypatch.context() as patched, _Pretending():
        # no views of what was made outside of inference mode, where Python makes them
        patched.setattr("torch.inference_mode", torch.no_grad)
        yield


def put(module: nn.Module, device: str) -> nn.Module:
    """The module, its weights frozen, on an accelerator."""
    return module.requires_grad_(False).to(device)


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on what is held, whose results are where it would put them."""
    name = operation.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    away = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, Elsewhere)}
    devices = {tensor.device for tensor in away.values()}
    on_host = any(tensor.ndim and not isinstance(tensor, Elsewhere) for tensor in tensors)
    if name not in MOVING:
        if len(devices) > 1:
            raise RuntimeError(f"{operation}: tensors on {', '.join(map(str, devices))}")
        if devices and on_host and name not in INDEXING:
            raise RuntimeError(f"{operation}: tensors on {devices.pop()} and on the host")
    if kwargs.get("device") is not None:
        device = torch.device(kwargs["device"])
    else:
        device = args[0].device if name == "copy_" else next(iter(devices), HOST)
    if device.type != "cpu" and device.index is None:
        device = torch.device(device.type, 0)
    args, kwargs = tree_map(_held, (args, kwargs))
    if "device" in kwargs:
        kwargs["device"] = HOST
    if name == "_pin_memory":
        return args[0]

    def place(found: object) -> object:
        if not isinstance(found, Tensor) or device.type == "cpu":
            return found
        return away.get(id(found)) if id(found) in away else Elsewhere(found, device)

    return tree_map(place, operation(*args, **kwargs))


def _held(given: object) -> object:
    return given.held if isinstance(given, Elsewhere) else given
