"""The kernels for batched arrays: the examples folded into an axis that the ordinary kernels treat one by one anyway.

After this file you know that no kernel has to be written again for `vmap`. Images of all examples are simply more
images; what differs from example to example in a weight becomes more channels, in more groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from minigrad.backend.batched.array import BatchedArray, Level, elementwise, is_at, newest_level, physical
from minigrad.backend.batched.indexing import put, update
from minigrad.backend.batched.numpy_functions import einsum, move
from minigrad.backend.device import kernels, namespace
from minigrad.backend.plain.bias import bias_relu
from minigrad.backend.plain.normalization import batch_norm_inference

__all__ = [
    "avg_pool2d",
    "avg_pool2d_input_grad",
    "batch_norm",
    "batch_norm_inference",
    "bias_relu",
    "channel_sum",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "drop",
    "einsum",
    "matmul",
    "max_pool2d",
    "max_pool2d_gather",
    "max_pool2d_scatter",
    "put",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "update",
]


# --- folding ---


def fold(x: BatchedArray, axis: int) -> Any:
    """The array behind x with the examples joined to `axis` of one example: (..., examples * size, ...)."""
    array = move(x.array, 0, axis)
    return array.reshape((*array.shape[:axis], array.shape[axis] * array.shape[axis + 1], *array.shape[axis + 2 :]))


def unfold(array: Any, axis: int, examples: int, level: Level) -> BatchedArray:
    """What `fold` joined, apart again."""
    size = array.shape[axis] // examples
    array = array.reshape((*array.shape[:axis], examples, size, *array.shape[axis + 1 :]))
    return BatchedArray(move(array, axis, 0), level)


def spread(level: Level, *values: Any) -> tuple[int, list[BatchedArray]]:
    """The values with all their examples written out, and how many those are."""
    examples = max(value.array.shape[0] for value in values if is_at(value, level))
    return examples, [_repeated(value, level, examples) for value in values]


def _repeated(value: Any, level: Level, examples: int) -> BatchedArray:
    array = value.array if is_at(value, level) else value[None]
    if array.shape[0] != examples:
        array = namespace(array).broadcast_to(array, (examples, *array.shape[1:]))
    return BatchedArray(array, level)


def or_no_examples(kernel: Callable) -> Callable:
    """A folding kernel that also takes zero examples: it runs on one example of zeros and drops its result."""

    @wraps(kernel)
    def run(*args):
        level = newest_level(*args)
        if all(len(x.array) for x in args if is_at(x, level)):
            return kernel(*args)
        result = kernel(*(_one_of_zeros(x) if is_at(x, level) else x for x in args))
        if isinstance(result, tuple):
            return tuple(BatchedArray(part.array[:0], level) for part in result)
        return BatchedArray(result.array[:0], level)

    return run


def _one_of_zeros(x: BatchedArray) -> BatchedArray:
    return BatchedArray(namespace(x.array).zeros((1, *x.shape), x.dtype), x.level)


# --- products ---


def matmul(a: Any, b: Any) -> BatchedArray:
    """a @ b of one example each, by as few and as large products as the shapes allow."""
    level = newest_level(a, b)
    if a.ndim == 1:
        row = matmul(a[None, :], b)
        return row.reshape((*row.shape[:-2], row.shape[-1])) if b.ndim > 1 else row.reshape(row.shape[:-2])
    if b.ndim == 1:
        if a.ndim == 2 and not is_at(a, level):  # the vectors of all examples are the rows of one matrix
            return BatchedArray(_product(b.array, a.swapaxes(0, 1)), level)
        column = matmul(a, b[:, None])
        return column.reshape(column.shape[:-1])
    if a.shape[-1] == 1:  # outer products: nothing to sum
        return elementwise(lambda x, y: x * y, a, b)
    if not is_at(b, level) and b.ndim == 2:  # the rows of all examples are the rows of one matrix
        rows = a.array.reshape((math.prod(a.array.shape[:-1]), a.shape[-1]))
        return BatchedArray(_product(rows, b).reshape((*a.array.shape[:-1], b.shape[1])), level)
    ndim = max(a.ndim, b.ndim)
    return BatchedArray(_product(physical(a, level, ndim), physical(b, level, ndim)), level)


def _product(a: Any, b: Any) -> Any:
    return kernels(a, b).matmul(a, b)


# --- dropout ---


def drop(x, p, place):
    """Of gradients and tangents of one call: the factors that it drew serve all examples."""
    like = namespace(x.array).empty(x.shape, x.dtype)
    return x * kernels(like).drop_factors(like, p, place)


# --- convolution ---


@or_no_examples
def conv2d(x, weight, bias, stride, padding, dilation, groups):
    """Images and weights of one example each; either may be shared by all."""
    level = newest_level(x, weight, bias)
    if is_at(bias, level):
        plain = conv2d if is_at(x, level) or is_at(weight, level) else kernels(x, weight).conv2d
        return plain(x, weight, None, stride, padding, dilation, groups) + bias.reshape((1, -1, 1, 1))
    if not is_at(weight, level):
        y = kernels(x.array, weight, bias).conv2d(fold(x, 0), weight, bias, stride, padding, dilation, groups)
        return unfold(y, 0, len(x.array), level)
    if not is_at(x, level) and groups == 1:
        y = kernels(x, weight.array).conv2d(x, fold(weight, 0), None, stride, padding, dilation, 1)
        y = unfold(y, 1, len(weight.array), level)
    else:
        n, (x, weight) = spread(level, x, weight)
        y = kernels(x.array, weight.array).conv2d(
            fold(x, 1), fold(weight, 0), None, stride, padding, dilation, n * groups
        )
        y = unfold(y, 1, n, level)
    return y if bias is None else y + bias.reshape((1, -1, 1, 1))


@or_no_examples
def conv2d_input_grad(g, weight, x_shape, stride, padding, dilation, groups):
    level = newest_level(g, weight)
    if not is_at(weight, level):
        n = len(g.array)
        shape = (n * x_shape[0], *x_shape[1:])
        dx = kernels(g.array, weight).conv2d_input_grad(fold(g, 0), weight, shape, stride, padding, dilation, groups)
        return unfold(dx, 0, n, level)
    n, (g, weight) = spread(level, g, weight)
    shape = (x_shape[0], n * x_shape[1], *x_shape[2:])
    dx = kernels(g.array, weight.array).conv2d_input_grad(
        fold(g, 1), fold(weight, 0), shape, stride, padding, dilation, n * groups
    )
    return unfold(dx, 1, n, level)


@or_no_examples
def conv2d_weight_grad(x, g, weight_shape, stride, padding, dilation, groups):
    level = newest_level(x, g)
    if not is_at(x, level) and groups == 1:
        n = len(g.array)
        shape = (n * weight_shape[0], *weight_shape[1:])
        dw = kernels(x, g.array).conv2d_weight_grad(x, fold(g, 1), shape, stride, padding, dilation, 1)
        return unfold(dw, 0, n, level)
    n, (x, g) = spread(level, x, g)
    shape = (n * weight_shape[0], *weight_shape[1:])
    dw = kernels(x.array, g.array).conv2d_weight_grad(
        fold(x, 1), fold(g, 1), shape, stride, padding, dilation, n * groups
    )
    return unfold(dw, 0, n, level)


def channel_sum(x):
    return x.sum(axis=(0, *range(2, x.ndim)))


# --- pooling and normalisation ---


@or_no_examples
def max_pool2d(x, kernel, stride, padding):
    n, level = len(x.array), x.level
    y, index = kernels(x.array).max_pool2d(fold(x, 0), kernel, stride, padding)
    return unfold(y, 0, n, level), unfold(index, 0, n, level)


@or_no_examples
def max_pool2d_scatter(g, index, x_shape, kernel, stride, padding):
    n, (g, index) = spread(newest_level(g, index), g, index)
    shape = (n * x_shape[0], *x_shape[1:])
    dx = kernels(g.array, index.array).max_pool2d_scatter(fold(g, 0), fold(index, 0), shape, kernel, stride, padding)
    return unfold(dx, 0, n, g.level)


@or_no_examples
def max_pool2d_gather(t, index, kernel, stride, padding):
    n, (t, index) = spread(newest_level(t, index), t, index)
    y = kernels(t.array, index.array).max_pool2d_gather(fold(t, 0), fold(index, 0), kernel, stride, padding)
    return unfold(y, 0, n, t.level)


@or_no_examples
def avg_pool2d(x, kernel, stride, padding, count_include_pad):
    y = kernels(x.array).avg_pool2d(fold(x, 0), kernel, stride, padding, count_include_pad)
    return unfold(y, 0, len(x.array), x.level)


@or_no_examples
def avg_pool2d_input_grad(g, x_shape, kernel, stride, padding, count_include_pad):
    n = len(g.array)
    shape = (n * x_shape[0], *x_shape[1:])
    dx = kernels(g.array).avg_pool2d_input_grad(fold(g, 0), shape, kernel, stride, padding, count_include_pad)
    return unfold(dx, 0, n, g.level)


@or_no_examples
def batch_norm(x, weight, bias, eps, relu=False, observe=None):
    """Every example's channels are channels of their own, so each example has its own statistics."""
    level = newest_level(x, weight, bias)
    given = [value for value in (weight, bias) if value is not None]
    n, (x, *given) = spread(level, x, *given)
    folded = iter(fold(value, 0) for value in given)
    weight, bias = (value if value is None else next(folded) for value in (weight, bias))
    y, *statistics = kernels(x.array, weight, bias).batch_norm(fold(x, 1), weight, bias, eps, relu)
    mean, variance, inv_std = (unfold(value, 0, n, level) for value in statistics)
    if observe is not None:
        observe(mean, variance)
    return unfold(y, 1, n, level), mean, variance, inv_std


# --- losses ---


@or_no_examples
def softmax_cross_entropy(scores, target, label_smoothing, reduction, ignore_index):
    """The rows of all examples are simply more rows; each example's own are then summed."""
    level = newest_level(scores, target)
    n, (scores, target) = spread(level, scores, target)
    losses, kept, _ = kernels(scores.array, target.array).softmax_cross_entropy(
        fold(scores, 0), fold(target, 0), label_smoothing, "none", ignore_index
    )
    losses, kept = unfold(losses, 0, n, level), unfold(kept, 0, n, level)
    amount = (target == target if ignore_index is None else target != ignore_index).sum()
    if reduction != "none":
        losses = losses.sum() / amount if reduction == "mean" else losses.sum()
    return losses, kept, amount


@or_no_examples
def softmax_cross_entropy_backward(g, kept, amount, target, label_smoothing, reduction, ignore_index):
    g = g / amount if reduction == "mean" else g
    g = g if reduction == "none" else namespace(g).broadcast_to(g, target.shape)
    n, (g, kept, target) = spread(newest_level(g, kept, target), g, kept, target)
    dx = kernels(g.array, kept.array, target.array).softmax_cross_entropy_backward(
        fold(g, 0), fold(kept, 0), None, fold(target, 0), label_smoothing, "none", ignore_index
    )
    return unfold(dx, 0, n, g.level)
