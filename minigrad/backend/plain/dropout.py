"""Dropout from random numbers that are computed from where they stand, not drawn from a generator with a state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace

LOW = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands in the stream of random numbers of a device: which stream, and the how-manieth call it is.

    captured : in a captured step, where on the device its seed and position lie at each replay; else None
    """

    seed: int
    position: int
    captured: Array | None = None


def drop(x: Array, p: float, place: Place) -> Array:
    """x with each element zero with probability p, else divided by 1 - p, by the numbers at a place of the stream.

    Computed in float32 or wider and rounded once. The same place gives the same elements, however x lies in memory.
    """
    wide = np.dtype(np.float64 if x.dtype.itemsize == 8 else np.float32)
    return (x.astype(wide, copy=False) * _factors(x, p, place, wide)).astype(x.dtype, copy=False)


def drop_factors(like: Array, p: float, place: Place) -> Array:
    """What `drop` multiplies an array like this one by."""
    return _factors(like, p, place, like.dtype)


def threshold(p: float) -> int:
    """An element is dropped if its 32 random bits, as a whole number, are below this: p of all that there are."""
    return round(p * 2**32)


def _factors(like: Array, p: float, place: Place, dtype: np.dtype) -> Array:
    kept = _words(like, place) >= threshold(p)
    return kept * dtype.type(1 / (1 - p) if p < 1 else 0)


def _words(like: Array, place: Place) -> Array:
    """32 random bits for each element. Images (N, C, H, W) are counted channels last, as they lie in memory."""
    xp = namespace(like)
    images = like.ndim == 4
    counted = xp.moveaxis(like, 1, -1) if images else like
    i = xp.arange(like.size, dtype=np.uint64)
    numbers: Any = (place.seed, place.position) if place.captured is None else place.captured
    seed, position = numbers[0], numbers[1]
    zero = xp.zeros(like.size, np.uint64)
    four = philox((i // 128 * 32 + i % 32, zero + position), zero + seed)
    word = i // 32 % 4
    chosen = sum(four[k] * (word == k) for k in range(4)).reshape(counted.shape)
    return xp.moveaxis(chosen, -1, 1) if images else chosen


def philox(counter: tuple[Any, Any], key: Any) -> list[Any]:
    """Philox-4x32-10 (Salmon et al. 2011): four words for each counter, two arrays of 64 bits, and each key."""
    a, b, c, d = (part for half in counter for part in (half & LOW, half >> 32))
    k, m = key & LOW, key >> 32
    for _ in range(10):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (q >> 32) ^ b ^ k, q & LOW, (p >> 32) ^ d ^ m, p & LOW
        k, m = (k + 0x9E3779B9) & LOW, (m + 0xBB67AE85) & LOW
    return [a, b, c, d]
