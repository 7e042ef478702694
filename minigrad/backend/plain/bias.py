"""A bias and ReLU in one, as array code."""

from minigrad.backend.device import namespace
from minigrad.backend.plain.normalization import channel_sum

__all__ = ["bias_relu", "bias_relu_backward"]


def bias_relu(x, bias):
    """max(x + bias, 0) for x (N, C, ...) and bias (C,)."""
    return namespace(x).maximum(x + bias.reshape((1, -1) + (1,) * (x.ndim - 2)), 0)


def bias_relu_backward(g, y):
    """The gradients of `bias_relu` in x and bias, given its result y and g for it."""
    dx = namespace(g).where(y != 0, g, g.dtype.type(0))
    return dx, channel_sum(dx)
