"""Pooling: the largest or the average value of each window.

After this file you know that max pooling, once the winners are known, is only a reading of their places, so that its
derivative, and the derivative of that, move gradients to the winners and back. `windows` says where the windows lie.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.autograd.types import Pair, TensorLike
from minigrad.backend import kernels, namespace, wide
from minigrad.ops.arithmetic import maximum
from minigrad.ops.indexing import take_along_axis
from minigrad.ops.reductions import argmax
from minigrad.ops.shapes import expand_dims, is_whole, pad, squeeze, stack
from minigrad.ops.windows import Windows, windows

# --- max ---


@primitive(symbol="max pool", local="1 at the winners", residuals=("index",))
def _max_pool2d(x, *, kernel, stride, padding):
    """(maxima, index): the winner's number inside its window, counted row by row; the first of equals wins."""
    return kernels(x).max_pool2d(x, kernel, stride, padding)


@primitive(symbol="max pool'", local="1 at the winners", kind="linear")
def _max_pool2d_scatter(g, *, index, x_shape, kernel, stride, padding):
    """Each element of g moved to the place of its window's winner."""
    return kernels(g, index).max_pool2d_scatter(g, index, x_shape, kernel, stride, padding)


@primitive(symbol="max pool", local="1 at the winners", kind="linear")
def _max_pool2d_gather(t, *, index, kernel, stride, padding):
    """The element of t at the place of each window's winner."""
    return kernels(t, index).max_pool2d_gather(t, index, kernel, stride, padding)


_max_pool2d.defvjp(
    x=lambda g, index, x_shape, kernel, stride, padding: _max_pool2d_scatter(
        g, index=index, x_shape=x_shape, kernel=kernel, stride=stride, padding=padding
    )
)
_max_pool2d.defjvp(
    x=lambda t, index, kernel, stride, padding: _max_pool2d_gather(
        t, index=index, kernel=kernel, stride=stride, padding=padding
    )
)
_max_pool2d_scatter.defvjp(
    g=lambda c, index, kernel, stride, padding: _max_pool2d_gather(
        c, index=index, kernel=kernel, stride=stride, padding=padding
    )
)
_max_pool2d_gather.defvjp(
    t=lambda c, index, t_shape, kernel, stride, padding: _max_pool2d_scatter(
        c, index=index, x_shape=t_shape, kernel=kernel, stride=stride, padding=padding
    )
)

# --- average ---


@primitive(symbol="avg pool", local="1/n", kind="linear")
def _avg_pool2d(x, *, kernel, stride, padding, count_include_pad):
    return kernels(x).avg_pool2d(x, kernel, stride, padding, count_include_pad)


@primitive(symbol="avg pool'", local="1/n", kind="linear")
def _avg_pool2d_input_grad(g, *, x_shape, kernel, stride, padding, count_include_pad):
    return kernels(g).avg_pool2d_input_grad(g, x_shape, kernel, stride, padding, count_include_pad)


_avg_pool2d.defvjp(
    x=lambda g, x_shape, kernel, stride, padding, count_include_pad: _avg_pool2d_input_grad(
        g, x_shape=x_shape, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad
    )
)
_avg_pool2d_input_grad.defvjp(
    g=lambda c, kernel, stride, padding, count_include_pad: _avg_pool2d(
        c, kernel=kernel, stride=stride, padding=padding, count_include_pad=count_include_pad
    )
)

# --- what a user calls ---


@composite
def max_pool2d(
    x: TensorLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The largest value of each window of x (N, C, H, W); stride None is the kernel's size, padding counts as -inf.

    `dilation` is the distance of a window's pixels. With `ceil_mode` the last windows may reach over the border, if
    they begin before it. With `return_indices` the result is (values, indices); an index is the winner's place in its
    image, counted row by row.
    """
    if x.ndim == 3:
        pooled = max_pool2d(expand_dims(x, 0), kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return tuple(squeeze(part, 0) for part in pooled) if return_indices else squeeze(pooled, 0)  # type: ignore
    where = windows("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    x = _over_the_border(x, where, _lowest(x.dtype))
    if where.dilation == (1, 1):
        values = _max_pool2d(x, kernel=where.kernel, stride=where.stride, padding=where.padding)
        return (values, _places(_winners(x, where), where)) if return_indices else values
    pixels = _pixels(x, where)
    winners = argmax(pixels, axis=0)
    values = take_along_axis(pixels, winners[None], axis=0)[0]
    return (values, _places(winners, where)) if return_indices else values


@composite
def avg_pool2d(
    x: TensorLike,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of x (N, C, H, W); with count_include_pad the zeros of the padding are counted too.

    With `ceil_mode` the last windows may reach over the border, if they begin before it; what lies beyond the padding
    is not counted. With `divisor_override` the result is each window's sum over that number. Of integers it is taken in
    float64.
    """
    if x.ndim == 3:
        options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return squeeze(avg_pool2d(expand_dims(x, 0), *options), 0)
    if divisor_override == 0:
        raise ValueError("avg_pool2d: divisor_override=0; expected a number to divide by, or None.")
    where = windows("avg_pool2d", x.shape, kernel_size, stride, padding, 1, ceil_mode)
    plain = divisor_override is None and where.beyond == (0, 0)
    means = _avg_pool2d(
        _over_the_border(_float(x), where, 0),
        kernel=where.kernel,
        stride=where.stride,
        padding=where.padding,
        count_include_pad=bool(count_include_pad) or not plain,
    )
    return means if plain else means * _share(means, where, count_include_pad, divisor_override)


def _share(means, where: Windows, count_include_pad: bool, divisor: int | None):
    """What makes the mean over a whole kernel the sum over `divisor`, or the mean over what a window counts."""
    whole = where.kernel[0] * where.kernel[1]
    if divisor is not None:
        return whole / divisor
    rows, columns = (where.counted(axis, count_include_pad) for axis in (0, 1))
    return namespace(array_of(means)).asarray(whole / np.outer(rows, columns), dtype=means.dtype)


def _over_the_border(x, where: Windows, value):
    """x with as many further rows and columns as the last windows reach over it."""
    if where.beyond == (0, 0):
        return x
    return pad(x, ((0, 0), (0, 0), *((0, n) for n in where.beyond)), constant_values=value)


def _lowest(dtype):
    """What never wins."""
    return -math.inf if dtype.kind == "f" else 0 if dtype.kind == "b" else np.iinfo(dtype).min


def _winners(x, where: Windows):
    """The number of each window's largest pixel inside its window, as `_max_pool2d` finds it."""
    x = array_of(x)
    return Tensor(kernels(x).max_pool2d(x, where.kernel, where.stride, where.padding)[1].astype(np.int64))


def _pixels(x, where: Windows):
    """The pixels of all windows, those with one number in a window together: (kernel size, N, C, H', W')."""
    (above, left), value = where.padding, _lowest(x.dtype)
    padded = pad(x, ((0, 0), (0, 0), (above, above), (left, left)), constant_values=value)
    down, across = (
        [slice(i * d, i * d + (n - 1) * s + 1, s) for i in range(k)]
        for k, d, n, s in zip(where.kernel, where.dilation, where.number, where.stride, strict=True)
    )
    return stack([padded[:, :, rows, columns] for rows in down for columns in across])


def _places(winners, where: Windows):
    """Where in its image each winner lies, counted row by row."""
    xp, across = namespace(array_of(winners)), where.kernel[1]
    rows, columns = (Tensor(xp.asarray(where.starts(axis))) for axis in (0, 1))
    rows = rows[:, None] + winners // across * where.dilation[0]
    columns = columns + winners % across * where.dilation[1]
    # Where all of a window is -inf, the winner is its first pixel, which may lie in the padding before the image.
    return maximum(rows, 0) * where.image[1] + maximum(columns, 0)


@composite
def adaptive_avg_pool2d(x: TensorLike, output_size: int | tuple[int | None, int | None] | None) -> Tensor:
    """Means of x (..., H, W) over output_size windows that cover it, whatever its size (as PyTorch).

    Window i of n over H pixels reaches from floor(i H / n) to ceil((i + 1) H / n). An entry None keeps that size. Of
    integers the means are taken in float64.
    """
    if x.ndim not in (3, 4):
        raise ShapeError(f"adaptive_avg_pool2d: input {x.shape}; expected (N, C, H, W) or (C, H, W).")
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(wanted) != 2 or not all(n is None or is_whole(n) for n in wanted):
        raise ShapeError(f"adaptive_avg_pool2d: output_size {output_size}; expected an int or a pair (height, width).")
    rows, columns = (size if n is None else n for n, size in zip(wanted, x.shape[-2:], strict=True))
    if not (rows >= 1 and columns >= 1 and x.shape[-2] and x.shape[-1]):
        raise ShapeError(
            f"adaptive_avg_pool2d: output_size {output_size} for input {x.shape}; sizes must be at least 1."
        )
    if max(rows, columns) > MOST_WINDOWS:
        raise ShapeError(f"adaptive_avg_pool2d: output_size {output_size}; an image of this size is not meant.")
    x = _float(x)
    if (rows, columns) == (1, 1) and x.device == "cpu":  # a GPU has a kernel for this window too, below
        return x.mean(axis=(-2, -1), keepdims=True)
    if x.shape[-2] % rows == 0 and x.shape[-1] % columns == 0:  # windows side by side
        return avg_pool2d(x, (x.shape[-2] // rows, x.shape[-1] // columns))
    return _means_along(_means_along(x, -2, rows), -1, columns)


MOST_WINDOWS = 100_000  # along an axis; each is a slice of its own


def _means_along(x, axis: int, windows: int):
    """The means of so many windows that cover an axis. A window reads its own pixels only: a NaN stays in its own."""
    size = x.shape[axis]
    if size == windows:
        return x
    behind = (slice(None),) * (-1 - axis)
    edges = [(i * size // windows, -(-(i + 1) * size // windows)) for i in range(windows)]
    return stack([x[(..., slice(*edge), *behind)].mean(axis=axis) for edge in edges], axis=axis)


def _float(x):
    """Integers, which have no means of their own, as float64."""
    return x if x.dtype.kind == "f" else wide(x)
