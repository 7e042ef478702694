"""A bias and ReLU in one, by `bias.cu`, and the sum of each channel, by `channel_sums.cu`."""

from __future__ import annotations

from minigrad.backend import plain
from minigrad.backend.arrays import Array
from minigrad.backend.device import namespace
from minigrad.backend.gpu.channels import Shares
from minigrad.backend.gpu.launching import THREADS, Source, channels_first, channels_last

BIAS, SUMS = Source("bias.cu"), Source("channel_sums.cu")


def channel_sum(x: Array) -> Array:
    """The sum of x (N, C, ...) over all axes but 1, shaped (C,): a bias's gradient."""
    if not SUMS.takes(x):
        return plain.channel_sum(x)
    pixels = channels_last(x)
    shares, sums = Shares(pixels), namespace(x).empty(x.shape[1], x.dtype)
    SUMS.launch("channel_sum", x, shares.of_sum, (THREADS,), pixels, *shares.sizes, *shares.workspace(x, 1), sums)
    return sums


def bias_relu(x: Array, bias: Array) -> Array:
    """max(x + bias, 0) for x (N, C, ...) and bias (C,)."""
    if not BIAS.takes(x, bias):
        return plain.bias_relu(x, bias)
    pixels = channels_last(x)
    shares, y = Shares(pixels), namespace(x).empty(pixels.shape, x.dtype)
    BIAS.launch("bias_relu", x, shares.of_each, (THREADS,), pixels, bias, *shares.sizes, y)
    return channels_first(y)


def bias_relu_backward(g: Array, y: Array) -> tuple[Array, Array]:
    """The gradients of `bias_relu` in x and bias, given its result y and g for it."""
    if not BIAS.takes(g, y):
        return plain.bias_relu_backward(g, y)
    gradients, results = channels_last(g), channels_last(y)
    shares, xp = Shares(gradients), namespace(g)
    dx, dbias = xp.empty(gradients.shape, g.dtype), xp.empty(shares.channels, g.dtype)
    BIAS.launch(
        "bias_relu_backward", g, shares.of_sum, (THREADS,),
        gradients, results, *shares.sizes, *shares.workspace(g, 1), dx, dbias,
    )  # fmt: skip
    return channels_first(dx), dbias
