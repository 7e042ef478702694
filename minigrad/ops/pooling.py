"""Pooling: the largest or the average value of each window.

After this file you know that max pooling, once the winners are known, is only a reading of their places, so that its
derivative, and the derivative of that, move gradients to the winners and back. Windows are those of PyTorch with
`ceil_mode=False`: pixels at the border that no full window covers are left out.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.autograd.types import Pair, TensorLike
from minigrad.backend import kernels, namespace
from minigrad.ops.convolution import pair
from minigrad.ops.shapes import expand_dims, is_whole, squeeze

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
def max_pool2d(x: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Tensor:
    """The largest value of each window of x (N, C, H, W); stride None is the kernel's size, padding counts as -inf."""
    if x.ndim == 3:
        return squeeze(max_pool2d(expand_dims(x, 0), kernel_size, stride, padding), 0)
    kernel, stride, padding = _windows("max_pool2d", x.shape, kernel_size, stride, padding)
    return _max_pool2d(x, kernel=kernel, stride=stride, padding=padding)


@composite
def avg_pool2d(
    x: TensorLike, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
) -> Tensor:
    """The mean of each window of x (N, C, H, W); with count_include_pad the zeros of the padding are counted too."""
    if x.ndim == 3:
        return squeeze(avg_pool2d(expand_dims(x, 0), kernel_size, stride, padding, count_include_pad), 0)
    kernel, stride, padding = _windows("avg_pool2d", x.shape, kernel_size, stride, padding)
    return _avg_pool2d(x, kernel=kernel, stride=stride, padding=padding, count_include_pad=bool(count_include_pad))


@composite
def adaptive_avg_pool2d(x: TensorLike, output_size: int | tuple[int | None, int | None] | None) -> Tensor:
    """Means of x (..., H, W) over output_size windows that cover it, whatever its size (as PyTorch).

    Window i of n over H pixels reaches from floor(i H / n) to ceil((i + 1) H / n). An entry None keeps that size.
    """
    if x.ndim not in (3, 4):
        raise ShapeError(f"adaptive_avg_pool2d: input {x.shape}; expected (N, C, H, W) or (C, H, W).")
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(wanted) != 2 or not all(n is None or is_whole(n) for n in wanted):
        raise ShapeError(f"adaptive_avg_pool2d: output_size {output_size!r}; expected an integer or a pair of them.")
    rows, columns = (size if n is None else n for n, size in zip(wanted, x.shape[-2:], strict=True))
    if not (rows >= 1 and columns >= 1 and x.shape[-2] and x.shape[-1]):
        raise ShapeError(
            f"adaptive_avg_pool2d: output_size {output_size} for input {x.shape}; sizes must be at least 1."
        )
    if (rows, columns) == (1, 1):
        return x.mean(axis=(-2, -1), keepdims=True)
    xp = namespace(array_of(x))
    down = xp.asarray(_window_means(x.shape[-2], rows), dtype=x.dtype)
    across = xp.asarray(_window_means(x.shape[-1], columns).T, dtype=x.dtype)
    return down @ x @ across


def _window_means(size: int, windows: int) -> np.ndarray:
    """The matrix (windows, size) that takes means over adaptive windows."""
    matrix = np.zeros((windows, size))
    for i in range(windows):
        start, stop = i * size // windows, math.ceil((i + 1) * size / windows)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _windows(op: str, shape, kernel_size, stride, padding):
    """Kernel, stride and padding as pairs, checked against the image."""
    if len(shape) != 4:
        raise ShapeError(f"{op}: input {shape}; expected (N, C, H, W) or (C, H, W).")
    kernel = pair(f"{op}: kernel_size", kernel_size, 1)
    stride = kernel if stride is None else pair(f"{op}: stride", stride, 1)
    padding = pair(f"{op}: padding", padding, 0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ShapeError(
            f"{op}: padding {padding} is more than half of the kernel {kernel}: some windows would be empty."
        )
    for i, name in enumerate(("height", "width")):
        if kernel[i] > shape[2 + i] + 2 * padding[i]:
            raise ShapeError(
                f"{op}: a kernel of {name} {kernel[i]} for an image of {shape[2 + i]} with padding {padding[i]}: "
                "the window is larger than the image. Use a smaller kernel."
            )
    return kernel, stride, padding
