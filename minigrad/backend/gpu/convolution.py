"""Convolution on the GPU: by cuDNN (`cudnn.py`) where it is installed, else by `windows.py`.

Images come and go as the view (N, C, H, W) of a contiguous (N, H, W, C). A convolution of one pixel is a product of
matrices as it is, and goes to cuBLAS in any case.
"""

from __future__ import annotations

from minigrad.backend import plain
from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu import cudnn, windows
from minigrad.backend.gpu.geometry import Geometry, Pair
from minigrad.backend.gpu.launching import channels_first, channels_last

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]


def conv2d(
    x: Array, weight: Array, bias: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """Cross-correlation of images x (N, C, H, W) with weight (O, C/groups, kh, kw), plus bias (O,) or None."""
    if not windows.WINDOWS.takes(x, weight):
        return plain.conv2d(x, weight, bias, stride, padding, dilation, groups)
    at = Geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    images, result = channels_last(x), _images_like(x, at.result)
    if not (x.size and weight.size):
        result[...] = 0
    elif result.size and not cudnn.forward(at, images, weight, result):
        windows.forward(at, images, weight, result)
    if bias is not None:
        result += bias
    return channels_first(result)


def conv2d_input_grad(
    g: Array, weight: Array, x_shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """The adjoint of `conv2d` in x, and the forward of a transposed convolution."""
    if not windows.WINDOWS.takes(g, weight):
        return plain.conv2d_input_grad(g, weight, x_shape, stride, padding, dilation, groups)
    at = Geometry(tuple(x_shape), weight.shape, stride, padding, dilation, groups)
    g_images, grad = channels_last(g), _images_like(g, at.images)
    if not (g.size and weight.size):
        grad[...] = 0
    elif grad.size and not cudnn.input_grad(at, g_images, weight, grad):
        windows.input_grad(at, g_images, weight, grad)
    return channels_first(grad)


def conv2d_weight_grad(
    x: Array, g: Array, weight_shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """The adjoint of `conv2d` in weight."""
    if not windows.WINDOWS.takes(x, g):
        return plain.conv2d_weight_grad(x, g, weight_shape, stride, padding, dilation, groups)
    at = Geometry(x.shape, tuple(weight_shape), stride, padding, dilation, groups)
    xp = namespace(x)
    if not (x.size and g.size):
        return xp.zeros(at.weight, x.dtype)
    images, g_images = channels_last(x), channels_last(g)
    grad = cudnn.weight_grad(at, images, g_images)
    if grad is None:
        grad = xp.empty(at.weight, x.dtype)
        if grad.size:
            windows.weight_grad(at, images, g_images, grad)
    return grad


def _images_like(x: Array, shape: tuple[int, ...]) -> Array:
    """Memory for images (N, H, W, C) of x's dtype, given their shape (N, C, H, W)."""
    batch, channels, height, width = shape
    return namespace(x).empty((batch, height, width, channels), x.dtype)
