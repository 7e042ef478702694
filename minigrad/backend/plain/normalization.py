"""Batch normalisation as whole-batch array code (Ioffe and Szegedy, "Batch Normalization", 2015).

These are its forward and backward in their shortest form; backend/cpu/normalization.py is the same mathematics,
arranged for a cache.
"""

from minigrad.backend.device import namespace

__all__ = ["batch_norm", "batch_norm_backward", "channel_sum"]


def batch_norm(x, weight, bias, eps):
    """Normalise x (N, C, ...) over all axes but 1, then scale by weight and shift by bias, (C,) each or None.

    Returns y like x (channels-last in memory) and, shaped (C,), the mean, the biased variance and
    1/sqrt(variance + eps); for float16 these three are float32.
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
    return xp.moveaxis(y.astype(x.dtype, copy=False), -1, 1), mean, var, inv_std


def batch_norm_backward(g, x, weight, mean, inv_std):
    """Gradients (dx, dweight, dbias) of `batch_norm` with respect to x, weight and bias, given g for y."""
    xp = namespace(x)
    pixels, gradients = _channels_last(xp, x), _channels_last(xp, g)
    axes = tuple(range(pixels.ndim - 1))
    count = max(1, pixels.size // max(1, pixels.shape[-1]))
    xhat = (pixels - mean) * inv_std
    dbias = gradients.sum(axis=axes)
    dweight = (gradients * xhat).sum(axis=axes)
    scale = inv_std if weight is None else inv_std * weight
    dx = (gradients - dbias / count - xhat * (dweight / count)) * scale
    dx, dweight, dbias = (part.astype(x.dtype, copy=False) for part in (dx, dweight, dbias))
    return xp.moveaxis(dx, -1, 1), dweight, dbias


def channel_sum(x):
    """The sum of x (N, C, ...) over all axes but 1, shaped (C,): a bias's gradient."""
    pixels = _channels_last(namespace(x), x)
    return pixels.sum(axis=tuple(range(pixels.ndim - 1))).astype(x.dtype, copy=False)


def _channels_last(xp, x):
    """x (N, C, ...) as a contiguous (N, ..., C); float16 is computed in float32."""
    wide = xp.float32 if x.dtype == xp.float16 else x.dtype
    return xp.ascontiguousarray(xp.moveaxis(x, 1, -1), dtype=wide)
