"""Pooling, by `max_pool.cu` and `avg_pool.cu`: one launch each.

What they do not take, integers, is pooled by the array code. Images come and go as (N, C, H, W); in memory they are
channels-last.
"""

from __future__ import annotations

import math

import numpy as np
from numpy import int32

from minigrad.backend import plain
from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.launching import THREADS, Source, channels_first, channels_last

MAX_POOL, AVG_POOL = Source("max_pool.cu"), Source("avg_pool.cu")
WINDOWS = np.dtype(
    [
        (name, "i4")
        for name in (
            *("height", "width", "channels", "out_height", "out_width"),
            *("kernel_height", "kernel_width", "down", "across", "above", "before"),
        )
    ]
)
"""The struct `Windows` of pooling_windows.cuh."""

STEPS = np.dtype([(name, "i8") for name in ("image", "row", "column", "channel")])
"""The struct `Steps` of max_pool.cu."""

MOST_ALONG_Y = 65535  # blocks along y that a launch may have
Pair = tuple[int, int]


def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Array]:
    """(maxima, winners) of the windows of x (N, C, H, W); a winner is its place in its window, counted row by row."""
    if not MAX_POOL.takes(x):
        return plain.max_pool2d(x, kernel, stride, padding)
    xp, images = namespace(x), channels_last(x)
    size = _pooled(x.shape, kernel, stride, padding)
    where = _windows(x.shape, size[1:3], kernel, stride, padding)
    y, winners = xp.empty(size, x.dtype), xp.empty(size, xp.uint8 if math.prod(kernel) <= 256 else xp.int32)
    MAX_POOL.launch("max_pool", x, *_a_block_a_row(size), images, where, y, *_pointers(winners))
    return channels_first(y), channels_first(winners)


def max_pool2d_scatter(g: Array, index: Array, x_shape: tuple, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """Each g (N, C, oh, ow) added to its winner's place in an array of x_shape: the backward of `max_pool2d`."""
    if not MAX_POOL.takes(g):
        return plain.max_pool2d_scatter(g, index, x_shape, kernel, stride, padding)
    winners = channels_last(index)
    where = _windows(x_shape, g.shape[2:], kernel, stride, padding)
    dx = namespace(g).empty(_last(x_shape), g.dtype)
    MAX_POOL.launch(
        "max_pool_scatter", g, *_a_block_a_row(dx.shape), g, _steps(g), *_pointers(winners), where, dx
    )  # fmt: skip
    return channels_first(dx)


def max_pool2d_gather(t: Array, index: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    """The winners' values out of t (N, C, H, W): the adjoint of `max_pool2d_scatter`."""
    if not MAX_POOL.takes(t):
        return plain.max_pool2d_gather(t, index, kernel, stride, padding)
    images, winners = channels_last(t), channels_last(index)
    where = _windows(t.shape, winners.shape[1:3], kernel, stride, padding)
    y = namespace(t).empty(winners.shape, t.dtype)
    MAX_POOL.launch("max_pool_gather", t, *_a_block_a_row(y.shape), images, *_pointers(winners), where, y)
    return channels_first(y)


def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool) -> Array:
    """Means of windows of x (N, C, H, W). Padding counts as zero in the sum, and in the count if so asked."""
    if not AVG_POOL.takes(x):
        return plain.avg_pool2d(x, kernel, stride, padding, count_include_pad)
    images, size = channels_last(x), _pooled(x.shape, kernel, stride, padding)
    y = namespace(x).empty(size, x.dtype)
    if kernel == x.shape[2:] and padding == (0, 0):
        images_and_channels = (size[0], -(-size[3] // 32))
        AVG_POOL.launch(
            "mean_of_image", x, images_and_channels, (THREADS,), images, int32(math.prod(kernel)), int32(size[3]), y
        )
        return channels_first(y)
    where = _windows(x.shape, size[1:3], kernel, stride, padding)
    AVG_POOL.launch("avg_pool", x, *_a_block_a_row(size), images, where, np.bool_(count_include_pad), y)
    return channels_first(y)


def avg_pool2d_input_grad(
    g: Array, x_shape: tuple, kernel: Pair, stride: Pair, padding: Pair, count_include_pad: bool
) -> Array:
    """The adjoint of `avg_pool2d`: each g (N, C, oh, ow) shared out over its window, in an array of x_shape."""
    if not AVG_POOL.takes(g):
        return plain.avg_pool2d_input_grad(g, x_shape, kernel, stride, padding, count_include_pad)
    gradients = channels_last(g)
    where = _windows(x_shape, gradients.shape[1:3], kernel, stride, padding)
    dx = namespace(g).empty(_last(x_shape), g.dtype)
    AVG_POOL.launch("avg_pool_spread", g, *_a_block_a_row(dx.shape), gradients, where, np.bool_(count_include_pad), dx)
    return channels_first(dx)


def _pooled(shape: tuple, kernel: Pair, stride: Pair, padding: Pair) -> tuple[int, int, int, int]:
    """The shape of the results, channels-last."""
    rows, columns = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape[2:], kernel, stride, padding, strict=True))
    return shape[0], rows, columns, shape[1]


def _last(shape: tuple) -> tuple:
    """(N, C, H, W) as (N, H, W, C)."""
    return shape[0], *shape[2:], shape[1]


def _windows(shape: tuple, number: tuple, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """The struct `Windows` for images of a shape (N, C, H, W), with so many windows down and across."""
    return np.array((*shape[2:], shape[1], *number, *kernel, *stride, *padding), WINDOWS)


def _steps(x: Array) -> np.ndarray:
    """The struct `Steps` of max_pool.cu for x (N, C, H, W), which may lie in memory in any order."""
    image, channel, row, column = (stride // x.dtype.itemsize for stride in x.strides)  # type: ignore[attr-defined]
    return np.array((image, row, column, channel), STEPS)


def _a_block_a_row(shape: tuple) -> tuple[Pair, tuple[int]]:
    """(grid, block) for an array (N, rows, columns, C): a block takes a row, or a part of one that is long."""
    images, rows, columns, channels = shape
    threads = min(THREADS, max(32, -(-columns * channels // 32) * 32))
    return (images * rows, min(MOST_ALONG_Y, -(-columns * channels // threads))), (threads,)


def _pointers(winners: Array) -> tuple[Array | None, Array | None]:
    """The winners as the kernels take them: as bytes or as ints."""
    return (winners, None) if winners.dtype.itemsize == 1 else (None, winners)
