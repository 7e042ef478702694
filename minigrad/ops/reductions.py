"""Reductions: sum, mean, max and their kin, and the cumulative forms.

A reduction's vjp spreads the incoming gradient back over the axes it summed away. After this file you can say why the
gradient of a mean is 1/n everywhere, why that of a max is shared between ties, and how a product is differentiated
where some factors are zero: without dividing by them.
"""

from __future__ import annotations

import builtins
import math

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.autograd.types import Axis, TensorLike
from minigrad.backend import bare, namespace
from minigrad.ops.arithmetic import abs as absolute
from minigrad.ops.arithmetic import square, where
from minigrad.ops.shapes import broadcast_to, concatenate, flip

# --- axes ---


def normal_axes(axis, ndim: int) -> tuple[int, ...]:
    """`axis` (None, an int, a tuple) as a tuple of axes from 0 to ndim - 1."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(a % ndim if ndim else a for a in axes)


def keep_axes(value, axis, shape: tuple[int, ...]):
    """A reduced value with its axes put back as size 1, so that it broadcasts against what it was reduced from."""
    axes = normal_axes(axis, len(shape))
    return value.reshape(tuple(1 if i in axes else size for i, size in enumerate(shape)))


def spread(value, axis, shape: tuple[int, ...]):
    """A reduced value repeated over the axes it was reduced along."""
    if value.ndim == 0 and isinstance(value, (np.generic, np.ndarray)):
        return np.full(shape, value)  # the usual end of a loss, and four times faster than broadcast_to
    return broadcast_to(keep_axes(value, axis, shape), shape=shape)


def count(shape: tuple[int, ...], axis) -> int:
    """How many elements a reduction over `axis` puts into one: for a 0-d array 1, whichever axis is given."""
    return math.prod([shape[a] for a in normal_axes(axis, len(shape))] if shape else ())


# --- sums ---


@primitive(local="1", kind="linear")
def sum(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis` (an int, a tuple, or None for all)."""
    return x.sum(axis=axis, keepdims=keepdims)


sum.defvjp(x=lambda g, x_shape, axis: spread(g, axis, x_shape))


@primitive(local="1/n", kind="linear")
def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`. The mean of no values is NaN, as in NumPy."""
    if x.ndim and (x.dtype.kind != "f" or x.dtype.itemsize < 4 or not x.size):
        return x.mean(axis=axis, keepdims=keepdims)  # NumPy's care for integers and float16
    return x.sum(axis=axis, keepdims=keepdims) / count(x.shape, axis)


mean.defvjp(x=lambda g, x_shape, axis: spread(g / (count(x_shape, axis) or 1), axis, x_shape))


@composite
def var(x: TensorLike, axis: Axis = None, *, correction: int = 0, keepdims: bool = False) -> Tensor:
    """The variance over `axis`: squared distances from the mean, over n - correction (0 as NumPy, 1 as PyTorch)."""
    n = count(x.shape, axis)
    if n <= correction:
        raise ShapeError(f"var: {n} values along axis {axis} of shape {x.shape}; correction={correction} needs more.")
    distance = x - mean(x, axis=axis, keepdims=True)
    return sum(square(distance), axis=axis, keepdims=keepdims) / (n - correction)


@composite
def std(x: TensorLike, axis: Axis = None, *, correction: int = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation over `axis`: the square root of `var`. Its gradient where all are equal is zero."""
    n = count(x.shape, axis)
    if n <= correction:
        raise ShapeError(f"std: {n} values along axis {axis} of shape {x.shape}; correction={correction} needs more.")
    distance = x - mean(x, axis=axis, keepdims=True)
    return _norm2(distance, axis=axis, keepdims=keepdims) / math.sqrt(n - correction)


@primitive(symbol="norm", local="x/norm")
def _norm2(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    xp = namespace(x)
    return xp.sqrt(xp.square(x).sum(axis=axis, keepdims=keepdims))


def _direction(x, out, axis):
    """x over its length, and zero, the smallest subgradient, where the length is zero."""
    length = keep_axes(out, axis, x.shape)
    return x / where(length == 0, 1, length)


_norm2.defvjp(x=lambda g, x, out, axis: keep_axes(g, axis, x.shape) * _direction(x, out, axis))
_norm2.defjvp(x=lambda t, x, out, axis, keepdims: sum(t * _direction(x, out, axis), axis=axis, keepdims=keepdims))


@composite
def norm(x: TensorLike, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The vector norm over `axis` (None: all): ord 1, 2, inf or any p > 0. The gradient at zero is zero."""
    if ord == 2:
        return _norm2(x, axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(absolute(x), axis=axis, keepdims=keepdims)
    if ord == math.inf:
        return max(absolute(x), axis=axis, keepdims=keepdims)
    if not (isinstance(ord, (int, float)) and ord > 0):
        raise ValueError(f"norm: ord={ord!r}; expected 1, 2, inf or another positive number.")
    total = sum(absolute(x) ** ord, axis=axis, keepdims=keepdims)
    return where(total == 0, 0, where(total == 0, 1, total) ** (1 / ord))


# --- products ---


@primitive(local="product of the others")
def prod(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`. The gradient is right where factors are zero."""
    return x.prod(axis=axis, keepdims=keepdims)


def _product_of_others(x, axis):
    """For each element the product of all others along `axis`: products from the left times products from the right."""
    axes = normal_axes(axis, x.ndim)
    if x.ndim == 0:
        return namespace(array_of(x)).ones((), x.dtype)
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    order = rest + axes
    moved = x.transpose(order)
    lines = moved.reshape(tuple(x.shape[i] for i in rest) + (count(x.shape, axis),))
    one = namespace(array_of(x)).ones((*lines.shape[:-1], builtins.min(lines.shape[-1], 1)), x.dtype)
    left = cumprod(concatenate([one, lines[..., :-1]], axis=-1), axis=-1)
    right = flip(cumprod(concatenate([one, flip(lines, axis=-1)[..., :-1]], axis=-1), axis=-1), axis=-1)
    back = tuple(order.index(i) for i in range(x.ndim))
    return (left * right).reshape(moved.shape).transpose(back)


prod.defvjp(x=lambda g, x, axis: keep_axes(g, axis, x.shape) * _product_of_others(x, axis))
prod.defjvp(x=lambda t, x, axis, keepdims: sum(t * _product_of_others(x, axis), axis=axis, keepdims=keepdims))


@primitive(local="1 up to here", kind="linear")
def cumsum(x: TensorLike, axis: int) -> Tensor:
    """Running sums along `axis`."""
    _need_axis("cumsum", axis)
    return namespace(x).cumsum(x, axis=axis)


def _need_axis(op: str, axis) -> None:
    if axis is None:
        raise TypeError(f"{op}: axis=None; give the axis to run along; for all elements flatten first: x.ravel().")


cumsum.defvjp(x=lambda g, axis: flip(cumsum(flip(g, axis=axis), axis=axis), axis=axis))


@primitive(local="product of the others up to here")
def cumprod(x: TensorLike, axis: int) -> Tensor:
    """Running products along `axis`. The gradient is right where factors are zero."""
    _need_axis("cumprod", axis)
    return namespace(x).cumprod(x, axis=axis)


def _has_zero(x) -> bool:
    return bool((bare(array_of(x)) == 0).any())


def _cumprod_vjp(g, x, out, axis):
    if not _has_zero(x):
        return flip(cumsum(flip(g * out, axis=axis), axis=axis), axis=axis) / x
    g, jacobian = g.swapaxes(axis, -1), _cumprod_jacobian(x.swapaxes(axis, -1))
    return sum(g[..., None] * jacobian, axis=-2).swapaxes(axis, -1)


def _cumprod_jvp(t, x, out, axis):
    if not _has_zero(x):
        return out * cumsum(t / x, axis=axis)
    t, jacobian = t.swapaxes(axis, -1), _cumprod_jacobian(x.swapaxes(axis, -1))
    return sum(t[..., None, :] * jacobian, axis=-1).swapaxes(axis, -1)


def _cumprod_jacobian(x):
    """J[..., i, k] = product of x[..., j] for j <= i, j != k, where k <= i: n^2 numbers, and no division."""
    n = x.shape[-1]
    xp = namespace(array_of(x))
    own = xp.arange(n)[:, None] == xp.arange(n)  # k, j
    without = where(own, 1, x[..., None, :])  # ..., k, j
    running = cumprod(without, axis=-1)  # ..., k, i
    return where(xp.arange(n)[:, None] <= xp.arange(n), running, 0).swapaxes(-1, -2)


cumprod.defvjp(x=_cumprod_vjp)
cumprod.defjvp(x=_cumprod_jvp)

# --- extremes ---


@primitive(local="1 at the largest")
def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest value over `axis`. Equal largest values share the gradient."""
    return x.max(axis=axis, keepdims=keepdims)


@primitive(local="1 at the smallest")
def min(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest value over `axis`. Equal smallest values share the gradient."""
    return x.min(axis=axis, keepdims=keepdims)


def _winners(g, x, out, axis):
    """In the dtype of g, each winner's share of the gradient: 1 / number of winners."""
    won = x == keep_axes(out, axis, x.shape)
    return won / won.sum(axis=axis, keepdims=True).astype(g.dtype)


for _op in (max, min):
    _op.defvjp(x=lambda g, x, out, axis: keep_axes(g, axis, x.shape) * _winners(g, x, out, axis))
    _op.defjvp(x=lambda t, x, out, axis, keepdims: sum(t * _winners(t, x, out, axis), axis=axis, keepdims=keepdims))


@composite
def amax(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """`max` under NumPy's and PyTorch's other name."""
    return max(x, axis=axis, keepdims=keepdims)


@composite
def amin(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """`min` under NumPy's and PyTorch's other name."""
    return min(x, axis=axis, keepdims=keepdims)


@primitive(differentiable=False)
def argmax(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the largest value along `axis` (in the flattened tensor for None); the first of equal ones."""
    return namespace(x).asarray(x).argmax(axis=axis, keepdims=keepdims)


@primitive(differentiable=False)
def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the smallest value along `axis` (in the flattened tensor for None); the first of equal ones."""
    return namespace(x).asarray(x).argmin(axis=axis, keepdims=keepdims)
