"""On a GPU, a layer and the ReLU behind it are run as one.

A ReLU alone reads and writes all activations for one comparison each, and is a launch of its own each way. Fused, it is
done where the layer before it writes its result, and its backward where that layer's reads the gradient. So the layers
named here have a method `followed_by_relu`, and `Sequential` calls it for a pair. The ops do not know of it: what is
fused is chosen where the neighbours are known. It stays out of the way of hooks, of subclasses, and of `vmap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import minigrad as mg
from minigrad import Tensor

from .module import Module

FUSED = ("Linear", "Conv2d", "BatchNorm1d", "BatchNorm2d")
"""The layers, of this package, that have `followed_by_relu`."""


def lies_on_gpu(x: Any) -> bool:
    """Whether x is a Tensor on a GPU, and no example of a `vmap`."""
    return isinstance(x, Tensor) and x.device != "cpu" and not is_batched(x)


def is_batched(x: Tensor) -> bool:
    """Whether x is an example of a `vmap`."""
    return mg.transforms.all_examples(x).ndim > x.ndim


def with_relus_fused(modules: Sequence[Module], x: Tensor) -> Tensor:
    """The output of modules in a chain, each pair of a layer and a ReLU run as one."""
    place = 0
    while place < len(modules):
        layer, following = modules[place], modules[place + 1 : place + 2]
        if following and _is_pair(layer, following[0]):
            x = _followed_by_relu(layer, x)
            place += 2
        else:
            x = layer(x)
            place += 1
    return x


def _is_pair(layer: Module, following: Module) -> bool:
    return (
        _is_ours(layer, FUSED) and _is_ours(following, ("ReLU",)) and not layer._forward_hooks
        and not following._forward_hooks
    )  # fmt: skip


def _is_ours(module: Module, names: tuple[str, ...]) -> bool:
    kind = type(module)
    return kind.__name__ in names and kind.__module__.startswith("minigrad.nn.")


def _followed_by_relu(layer: Any, x: Tensor) -> Tensor:
    try:
        return layer.followed_by_relu(x)
    except Exception as error:
        return mg.autograd.layer_failure(layer, (x,), {}, error)
