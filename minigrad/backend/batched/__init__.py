"""Batched arrays, what Tensors hold inside `vmap`: a third array library beside NumPy and CuPy, made of either."""

import importlib
from functools import cache
from typing import Any

from minigrad.backend.batched.array import (
    BatchedArray,
    Level,
    bare,
    elementwise,
    enter,
    give_to_all,
    leave,
    newest_level,
    sum_examples,
)
from minigrad.backend.batched.indexing import index_shape, read
from minigrad.backend.batched.numpy_functions import batched_namespace
from minigrad.backend.device import Backend, device_of, register, to_device

__all__ = [
    "BatchedArray",
    "Level",
    "bare",
    "elementwise",
    "enter",
    "give_to_all",
    "index_shape",
    "leave",
    "newest_level",
    "read",
    "sum_examples",
]


def _to_device(x: BatchedArray, device: str = "cpu") -> Any:
    return BatchedArray(to_device(x.array, device), x.level)


register(
    Backend(
        name="batched",
        array_type=BatchedArray,
        namespace=batched_namespace,
        kernels=cache(lambda: importlib.import_module("minigrad.backend.batched.kernels")),
        to_device=_to_device,
        to_numpy=_to_device,
        device_of=lambda x: device_of(x.array),
        inside=lambda x: x.array,
    )
)


def __dir__() -> list[str]:
    return sorted(__all__)
