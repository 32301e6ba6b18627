"""What a model computes from its weights alone, the same for every query: made once while nothing is learnt."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")


def kept(module: nn.Module, key: Hashable, make: Callable[[], T]) -> T:
    """`make()`, in inference computed anew only where weights or buffers of `module` are others than when it was kept.

    key: what else the value depends on.  With gradients, or in training mode, nothing is kept.
    """
    if module.training or not torch.is_inference_mode_enabled():
        return make()
    state = _state(module)
    if state is None:
        return make()
    found: tuple[Any, T] | None = _memory(module).get(key)
    if found is not None and found[0] == state:
        return found[1]
    value = make()
    _memory(module)[key] = state, value
    return value


def _state(module: nn.Module) -> tuple[Any, ...] | None:
    """Which tensors there are, how often each was written to, and in what precision products run; None where torch
    does not count what is written."""
    tensors = (*module.parameters(), *module.buffers())
    if any(tensor.is_inference() for tensor in tensors):
        return None
    known = tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)
    kind = tensors[0].device.type if tensors else "cpu"
    return known, torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _memory(module: nn.Module) -> dict[Hashable, Any]:
    """Of the module, outside its state."""
    return module.__dict__.setdefault("_kept", {})
