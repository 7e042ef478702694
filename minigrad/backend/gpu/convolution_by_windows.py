"""Convolution by `windows.cu` and a product of matrices: what serves where there is no cuDNN, and for float64.

Two launches each: for the result and for the weight's gradient the windows and then the product, for the images'
gradient the product and then the sums over windows. Images are contiguous (N, H, W, C) here.
"""

from __future__ import annotations

import math

from numpy import int32, int64

from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.geometry import Geometry
from minigrad.backend.gpu.launching import THREADS, Source, blocks_for
from minigrad.backend.gpu.products import multiply

WINDOWS = Source("windows.cu")


def forward(at: Geometry, images: Array, weight: Array, result: Array) -> None:
    """result (N, rows, columns, O) = the convolution."""
    multiply(_matrices(_windows(at, images), at), _kernels(weight, at).swapaxes(1, 2), _matrices(result, at))


def input_grad(at: Geometry, g: Array, weight: Array, grad: Array) -> None:
    """grad (N, H, W, C) = the adjoint in the images, of g (N, rows, columns, O)."""
    if at.one_pixel:
        multiply(_matrices(g, at), _kernels(weight, at), _matrices(grad, at))
        return
    wide = g.dtype if g.dtype.itemsize > 2 else "float32"  # so that sums over windows are rounded once
    windows = namespace(g).empty(_windows_shape(at), wide)
    multiply(_matrices(g, at), _kernels(weight, at), _matrices(windows, at))
    _launch("add_windows", at, windows, grad)


def weight_grad(at: Geometry, images: Array, g: Array, grad: Array) -> None:
    """grad (O, C / groups, kh, kw) = the adjoint in the weight."""
    windows = _windows(at, images)
    multiply(_matrices(g, at).swapaxes(1, 2), _matrices(windows, at), _kernels(grad, at))


def _windows(at: Geometry, images: Array) -> Array:
    """What the kernel sees from each pixel of the result: (N, rows, columns, C * kh * kw)."""
    if at.one_pixel:
        return images
    windows = namespace(images).empty(_windows_shape(at), images.dtype)
    _launch("gather_windows", at, images, windows)
    return windows


def _windows_shape(at: Geometry) -> tuple[int, ...]:
    batch, _, rows, columns = at.result
    return batch, rows, columns, at.images[1] * math.prod(at.weight[2:])


def _matrices(x: Array, at: Geometry) -> Array:
    """x (N, rows, columns, groups * n) as a matrix for each group: a view (groups, N * rows * columns, n)."""
    pixels = math.prod(x.shape[:-1])
    return x.reshape((pixels, at.groups, x.shape[-1] // at.groups)).swapaxes(0, 1)


def _kernels(weight: Array, at: Geometry) -> Array:
    """A weight (O, C / groups, kh, kw) as a matrix for each group: (groups, O / groups, C / groups * kh * kw)."""
    outputs = weight.shape[0]
    return weight.reshape((at.groups, outputs // at.groups, math.prod(weight.shape[1:])))


def _launch(kernel: str, at: Geometry, source: Array, out: Array) -> None:
    """A thread for each number of `out`."""
    _, channels, height, width = at.images
    sizes = (height, width, channels, *at.result[2:], *at.weight[2:], *at.stride, *at.padding, *at.dilation)
    args = source, out, int64(out.size), *map(int32, sizes)
    WINDOWS.launch(kernel, images_of(source, out, kernel), blocks_for(out.size), (THREADS,), *args)


def images_of(source: Array, out: Array, kernel: str) -> Array:
    """The images among what a kernel reads and writes: kernels are compiled for their dtype."""
    return source if kernel == "gather_windows" else out
