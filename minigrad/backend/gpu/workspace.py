"""Memory that a kernel needs besides its arrays, and leaves as it found it."""

from __future__ import annotations

from typing import Any

from minigrad.backend.arrays import Array
from minigrad.backend.device import device_of, namespace

COUNTERS = 4096  # blocks along x of any kernel that counts them

_counters: dict[tuple[Any, str], Array] = {}


def counters(like: Array, count: int) -> Array:
    """Zeros (uint32) by which blocks find out who comes last; each kernel leaves zeros.

    One array for each device serves every launch, because launches on one stream follow each other.
    """
    if count > COUNTERS:
        return namespace(like).zeros(count, "uint32")
    key = namespace(like), device_of(like)
    if key not in _counters:
        _counters[key] = namespace(like).zeros(COUNTERS, "uint32")
    return _counters[key]
