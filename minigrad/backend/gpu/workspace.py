"""Memory that kernels need besides their arrays, and leave as they found it."""

from __future__ import annotations

from typing import Any

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.streams import place

COUNTERS = 4096  # blocks along x of any kernel that counts them

_counters: dict[tuple[Any, ...], Array] = {}
_ones: dict[tuple[Any, ...], Array] = {}


def counters(like: Array, count: int) -> Array:
    """Zeros (uint32) by which blocks find out who comes last; each kernel leaves zeros.

    One array serves every launch on a stream, because these follow each other.
    """
    if count > COUNTERS:
        return namespace(like).zeros(count, "uint32")
    key = place(like)
    if key not in _counters:
        _counters[key] = namespace(like).zeros(COUNTERS, "uint32")
    return _counters[key]


def one(like: Array) -> Array:
    """The number 1 as an array of shape () and the dtype of `like`, to read only: made once for each stream."""
    key = *place(like), like.dtype
    if key not in _ones:
        _ones[key] = namespace(like).ones((), like.dtype)
    return _ones[key]
