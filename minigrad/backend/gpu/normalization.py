"""Batch normalisation, ReLU included.

By the batch's statistics it is two launches each way, in which running statistics move too (`batch_norm.cu`); by given
ones it is one launch each way (`batch_norm_inference.cu`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import plain
from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.channels import Shares
from minigrad.backend.gpu.launching import NULL, THREADS, Source, channels_first, channels_last
from minigrad.backend.gpu.streams import address
from minigrad.backend.running_statistics import Observer, RunningStatistics

BATCH_NORM, INFERENCE = Source("batch_norm.cu"), Source("batch_norm_inference.cu")


def batch_norm(
    x: Array, weight: Array | None, bias: Array | None, eps: float, relu: bool = False, observe: Observer | None = None
) -> tuple[Array, Array, Array, Array]:
    """As `plain.batch_norm`; running statistics given as `observe` move on the device, in the same launches."""
    if not BATCH_NORM.takes(x, weight, bias):
        return plain.batch_norm(x, weight, bias, eps, relu, observe)
    xp, pixels = namespace(x), channels_last(x)
    shares, wide = Shares(pixels), _wide(x)
    mean, variance, inv_std = (xp.empty(shares.channels, wide) for _ in range(3))
    moved = observe if isinstance(observe, RunningStatistics) and observe.mean.dtype == x.dtype else None
    BATCH_NORM.launch(
        "batch_norm_moments", x, shares.of_sum, (THREADS,),
        pixels, *shares.sizes, wide.type(eps), *shares.workspace(x, 3), mean, variance, inv_std, _running(wide, moved),
    )  # fmt: skip
    y = xp.empty(pixels.shape, x.dtype)
    BATCH_NORM.launch(
        "batch_norm_apply", x, shares.of_each, (THREADS,),
        pixels, *shares.sizes, mean, inv_std, weight, bias, np.bool_(relu), moved and moved.batches, y,
    )  # fmt: skip
    if observe is not None and moved is None:
        observe(mean, variance)
    return channels_first(y), mean, variance, inv_std


def batch_norm_backward(
    g: Array, x: Array, weight: Array | None, mean: Array, inv_std: Array, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of `batch_norm`, given g for its result; after a ReLU that result y too."""
    if not BATCH_NORM.takes(g, x, weight, y) or mean.dtype != _wide(x):
        return plain.batch_norm_backward(g, x, weight, mean, inv_std, y)
    xp, gradients, pixels = namespace(g), channels_last(g), channels_last(x)
    results = None if y is None else channels_last(y)
    shares = Shares(pixels)
    sums = xp.empty((2, shares.channels), _wide(x))
    dweight, dbias = xp.empty(shares.channels, x.dtype), xp.empty(shares.channels, x.dtype)
    BATCH_NORM.launch(
        "batch_norm_sums", x, shares.of_sum, (THREADS,),
        gradients, results, pixels, *shares.sizes, mean, inv_std, *shares.workspace(x, 2), sums, dweight, dbias,
    )  # fmt: skip
    dx = xp.empty(pixels.shape, x.dtype)
    BATCH_NORM.launch(
        "batch_norm_backward", x, shares.of_each, (THREADS,),
        gradients, results, pixels, *shares.sizes, mean, inv_std, weight, sums, dx,
    )  # fmt: skip
    return channels_first(dx), dweight, dbias


def batch_norm_inference(
    x: Array, mean: Array, variance: Array, weight: Array | None, bias: Array | None, eps: float, relu: bool = False
) -> Array:
    """As `plain.batch_norm_inference`: x (N, C, ...) normalised by given statistics (C,)."""
    if not INFERENCE.takes(x, mean, variance, weight, bias):
        return plain.batch_norm_inference(x, mean, variance, weight, bias, eps, relu)
    pixels = channels_last(x)
    shares, y = Shares(pixels), namespace(x).empty(pixels.shape, x.dtype)
    INFERENCE.launch(
        "batch_norm_inference", x, shares.of_each, (THREADS,), pixels, *shares.sizes,
        *_contiguous(mean, variance, weight, bias), _wide(x).type(eps), np.bool_(relu), y,
    )  # fmt: skip
    return channels_first(y)


def batch_norm_inference_backward(
    g: Array, x: Array, mean: Array, variance: Array, weight: Array | None, eps: float, y: Array | None = None
) -> tuple[Array, Array, Array, Array, Array]:
    """Gradients (dx, dmean, dvariance, dweight, dbias), given g for the result; after a ReLU that result y too."""
    if not INFERENCE.takes(g, x, mean, variance, weight, y):
        return plain.batch_norm_inference_backward(g, x, mean, variance, weight, eps, y)
    xp, gradients, pixels = namespace(g), channels_last(g), channels_last(x)
    results = None if y is None else channels_last(y)
    shares, dx = Shares(pixels), xp.empty(pixels.shape, x.dtype)
    of_channels = [xp.empty(shares.channels, x.dtype) for _ in range(4)]
    INFERENCE.launch(
        "batch_norm_inference_backward", x, shares.of_sum, (THREADS,),
        gradients, results, pixels, *shares.sizes, *_contiguous(mean, variance, weight), _wide(x).type(eps),
        *shares.workspace(x, 2), dx, *of_channels,
    )  # fmt: skip
    return channels_first(dx), *of_channels  # type: ignore[return-value]


def _contiguous(*arrays: Array | None) -> list[Array | None]:
    """The numbers of the channels, without gaps in memory."""
    return [None if array is None else namespace(array).ascontiguousarray(array) for array in arrays]


def _wide(x: Array) -> np.dtype[Any]:
    """What is computed with: float64 for float64, float32 for all else."""
    return np.dtype(np.float64 if x.dtype.itemsize == 8 else np.float32)


def _running(wide: np.dtype[Any], moved: RunningStatistics | None) -> np.ndarray:
    """The struct `Running` of batch_norm.cu."""
    fields = [("mean", "u8"), ("variance", "u8"), ("batches", "u8"), ("momentum", wide)]
    struct = np.zeros((), np.dtype(fields, align=True))
    if moved is not None:
        struct["mean"], struct["variance"] = address(moved.mean), address(moved.variance)
        struct["batches"] = NULL if moved.batches is None else address(moved.batches)
        struct["momentum"] = -1 if moved.momentum is None else moved.momentum
    return struct
