"""Memory that a kernel needs besides its arrays, and leaves as it found it."""

from __future__ import annotations

from typing import Any

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.streams import place

COUNTERS = 4096  # blocks along x of any kernel that counts them

_counters: dict[tuple[Any, ...], Array] = {}


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
