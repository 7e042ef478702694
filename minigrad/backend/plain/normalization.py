"""Batch normalisation as whole-batch array code (Ioffe and Szegedy, "Batch Normalization", 2015).

These are its forward and backward in their shortest form; backend/cpu/normalization.py is the same mathematics,
arranged for a cache.
"""

import numpy as np

from minigrad.backend.device import namespace
from minigrad.backend.sums import total, wide

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "channel_sum",
]


def batch_norm(x, weight, bias, eps, relu=False, observe=None):
    """Normalise x (N, C, ...) over all axes but 1, then scale by weight and shift by bias, (C,) each or None.

    Returns y like x (channels-last in memory) and, shaped (C,), the mean, the biased variance and
    1/sqrt(variance + eps); for float16 these three are float32. `relu` puts a ReLU behind it, and `observe` is
    told mean and variance.
    """
    xp = namespace(x)
    pixels = _channels_last(xp, x)
    axes = tuple(range(pixels.ndim - 1))
    count = max(1, pixels.size // max(1, pixels.shape[-1]))
    rough = pixels.sum(axis=axes) / count
    centred = pixels - rough
    left = centred.sum(axis=axes) / count  # what rounding left in the mean
    mean, centred = rough + left, centred - left
    var = (centred * centred).sum(axis=axes) / count
    inv_std = 1 / xp.sqrt(var + pixels.dtype.type(eps))
    y = centred * (inv_std if weight is None else inv_std * weight)
    if bias is not None:
        y = y + bias
    if relu:
        y = xp.maximum(y, 0)
    if observe is not None:
        observe(mean, var)
    return xp.moveaxis(y.astype(x.dtype, copy=False), -1, 1), mean, var, inv_std


def batch_norm_backward(g, x, weight, mean, inv_std, y=None):
    """Gradients (dx, dweight, dbias) of `batch_norm`, given g for its result, and after a ReLU that result y."""
    xp = namespace(x)
    g = g if y is None else xp.where(y != 0, g, g.dtype.type(0))
    pixels, gradients = _channels_last(xp, x), _channels_last(xp, g)
    axes = tuple(range(pixels.ndim - 1))
    count = max(1, pixels.size // max(1, pixels.shape[-1]))
    xhat = (pixels - mean) * inv_std
    dbias = gradients.sum(axis=axes)
    dweight = (gradients * xhat).sum(axis=axes)
    scale = inv_std if weight is None else inv_std * weight
    dx = (gradients - dbias / count - xhat * (dweight / count)) * scale
    dx, dweight, dbias = (found.astype(x.dtype, copy=False) for found in (dx, dweight, dbias))
    return xp.moveaxis(dx, -1, 1), dweight, dbias


def batch_norm_inference(x, mean, variance, weight, bias, eps, relu=False):
    """(x - mean) / sqrt(variance + eps) * weight + bias for x (N, C, ...).

    The others are (C,); weight and bias may be None. `relu` puts a ReLU behind it.
    """
    xp, given = namespace(x, mean, variance, weight, bias), (x, mean, variance, weight, bias)
    dtype = np.result_type(*(value.dtype for value in given if value is not None))
    middle, scale = (_along(x, value) for value in (wide(mean), _scale(variance, weight, eps)))
    y = (wide(x) - middle) * scale
    if bias is not None:
        y = y + _along(x, wide(bias))
    if relu:
        y = xp.maximum(y, 0)
    return y.astype(dtype, copy=False)


def batch_norm_inference_backward(g, x, mean, variance, weight, eps, y=None):
    """Gradients (dx, dmean, dvariance, dweight, dbias) of it, given g for its result; after a ReLU y too."""
    xp = namespace(g)
    slopes, axes = wide(g if y is None else xp.where(y != 0, g, g.dtype.type(0))), (0, *range(2, x.ndim))
    inverse, scale = _scale(variance, None, eps), _scale(variance, weight, eps)
    dx = slopes * _along(x, scale)
    dbias = total(slopes, axes)
    dweight = total(slopes * ((wide(x) - _along(x, wide(mean))) * _along(x, inverse)), axes)
    found = dx, -dbias * scale, dweight * scale * inverse / -2, dweight, dbias
    return tuple(part.astype(g.dtype, copy=False) for part in found)


def _scale(variance, weight, eps):
    """weight / sqrt(variance + eps)."""
    deviation = namespace(variance).sqrt(wide(variance) + eps)
    return (1 if weight is None else wide(weight)) / deviation


def _along(x, values):
    """Values (C,) so that they go along axis 1 of x."""
    return values.reshape((1, -1) + (1,) * (x.ndim - 2))


def channel_sum(x):
    """The sum of x (N, C, ...) over all axes but 1, shaped (C,): a bias's gradient."""
    pixels = _channels_last(namespace(x), x)
    return pixels.sum(axis=tuple(range(pixels.ndim - 1))).astype(x.dtype, copy=False)


def _channels_last(xp, x):
    """x (N, C, ...) as a contiguous (N, ..., C); float16 is computed in float32."""
    wide = xp.float32 if x.dtype == xp.float16 else x.dtype
    return xp.ascontiguousarray(xp.moveaxis(x, 1, -1), dtype=wide)
