"""Dropout by `dropout.cu`: one launch, and no mask that would have to be stored."""

from __future__ import annotations

from numpy import float32, float64, int64, uint64

from minigrad.backend import plain
from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.launching import THREADS, Source, blocks_for, channels_first, channels_last
from minigrad.backend.plain.dropout import Place, threshold

DROPOUT = Source("dropout.cu")


def drop(x: Array, p: float, place: Place) -> Array:
    """x with each element zero with probability p, else divided by 1 - p, by the numbers at a place of the stream."""
    if not DROPOUT.takes(x):
        return plain.drop(x, p, place)
    if x.ndim == 4:  # as in `plain`: images are counted as they lie in memory, channels last
        pixels = channels_last(x)
        return channels_first(_launch(pixels, pixels, p, place))
    return _launch(namespace(x).ascontiguousarray(x), x, p, place)


def drop_factors(like: Array, p: float, place: Place) -> Array:
    """What `drop` multiplies an array like this one by."""
    if not DROPOUT.takes(like):
        return plain.drop_factors(like, p, place)
    if like.ndim == 4:
        return channels_first(_launch(None, namespace(like).moveaxis(like, 1, -1), p, place))
    return _launch(None, like, p, place)


def _launch(x: Array | None, like: Array, p: float, place: Place) -> Array:
    y = namespace(like).empty(like.shape, like.dtype)
    wide = float64 if y.dtype.itemsize == 8 else float32
    DROPOUT.launch(
        "dropout", y, blocks_for(-(-y.size // 4)), (THREADS,),
        x, int64(y.size), uint64(place.seed), uint64(place.position), place.captured,
        uint64(threshold(p)), wide(1 / (1 - p) if p < 1 else 0), y,
    )  # fmt: skip
    return y
