"""Reductions: sum, mean, max and their kin, and the cumulative forms.

A reduction's vjp spreads the incoming gradient back over the axes it summed away. After this file you can say why the
gradient of a mean is 1/n everywhere, why that of a max is shared between ties, and how a product is differentiated
where some factors are zero: without dividing by them.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from numbers import Real
from types import NoneType
from typing import Any

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.autograd.types import Axis, TensorLike
from minigrad.backend import namespace, total, wide
from minigrad.ops.arithmetic import abs as absolute
from minigrad.ops.arithmetic import sign, square, where, zeros_like
from minigrad.ops.shapes import broadcast_to, concatenate, flip, moveaxis, whole

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
    return total(x, axis, keepdims)


sum.defvjp(x=lambda g, x_shape, axis: spread(g, axis, x_shape))


@primitive(local="1/n", kind="linear")
def mean(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`; of integers and bools in float64. The mean of no values is NaN, as in NumPy."""
    if x.ndim and (x.dtype.kind != "f" or not x.size):
        return x.mean(axis=axis, keepdims=keepdims)
    if x.dtype == np.float16:
        return (total(wide(x), axis, keepdims) / count(x.shape, axis)).astype(x.dtype)
    return total(x, axis, keepdims) / count(x.shape, axis)


def _divided(g, n):
    """g over a count, or counts, in float32 where float16 could not hold them."""
    n = n if isinstance(n, int) else n.astype(wide(g).dtype)
    return g / n if g.dtype.itemsize > 2 else (wide(g) / n).astype(g.dtype)


mean.defvjp(x=lambda g, x_shape, axis: spread(_divided(g, count(x_shape, axis) or 1), axis, x_shape))


def like(value, x):
    """What was computed from `wide(x)`, back in float16 if x is; other dtypes stay."""
    return value.astype(x.dtype) if x.dtype.kind == "f" and value.dtype != x.dtype else value


@composite
def var(x: TensorLike, axis: Axis = None, *, correction: int = 0, keepdims: bool = False) -> Tensor:
    """The variance over `axis`: squared distances from the mean, over n - correction (0 as NumPy, 1 as PyTorch)."""
    n = count(x.shape, axis)
    if n <= correction:
        raise ShapeError(f"var: {n} values along axis {axis} of shape {x.shape}; correction={correction} needs more.")
    squares = square(_distance_from_mean(x, axis))
    return like(sum(squares, axis=axis, keepdims=keepdims) / (n - correction), x)


@composite
def std(x: TensorLike, axis: Axis = None, *, correction: int = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation over `axis`: the square root of `var`. Its gradient where all are equal is zero."""
    n = count(x.shape, axis)
    if n <= correction:
        raise ShapeError(f"std: {n} values along axis {axis} of shape {x.shape}; correction={correction} needs more.")
    length = _norm2(_distance_from_mean(x, axis), axis=axis, keepdims=keepdims)
    return like(length / math.sqrt(n - correction), x)


def _distance_from_mean(x, axis):
    x = wide(x)
    return x - mean(x, axis=axis, keepdims=True)


# --- norms ---


@primitive(symbol="norm", local="x/norm")
def _norm2(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    xp = namespace(x)
    if x.dtype == np.float64:
        return _norm2_scaled(xp, x, axis, keepdims)
    squares = xp.square(x.astype(np.float64))  # no square of a float32 overflows there, nor does it vanish
    return xp.sqrt(total(squares, axis, keepdims)).astype(x.dtype)


def _norm2_scaled(xp, x, axis, keepdims):
    """The same in float64, where a square may overflow or vanish: x over a power of two near its largest element."""
    if xp is np:  # on a GPU to look at the result would cost more than to scale
        with np.errstate(over="ignore", under="ignore"):
            length = np.sqrt(total(np.square(x), axis, keepdims))
        if ((length > 1e-140) & (length < 1e140)).all():
            return length
    scale = _near_largest(x, axis)
    length = xp.sqrt(total(xp.square(x / scale), axis, True)) * scale
    return length if keepdims else length.reshape(total(x, axis).shape)


def _near_largest(x, axis):
    """The power of two below the largest of |x| along `axis`, which stays as size 1; 1 for zero, infinity and NaN."""
    xp = namespace(x)
    if not x.size:
        return xp.ones_like(total(x, axis, True))
    largest = xp.absolute(x).max(axis=axis, keepdims=True)
    usable = (largest > 0) & xp.isfinite(largest)
    info = np.finfo(x.dtype)
    exponent = xp.clip(xp.floor(xp.log2(xp.where(usable, largest, 1))), info.minexp, info.maxexp - 1)
    return xp.where(usable, xp.exp2(exponent), 1).astype(x.dtype)


def _along_direction(g, x, out, axis):
    """g times x over its length, and zero, the smallest subgradient, where the length is zero."""
    length = keep_axes(out, axis, x.shape)
    zero = length == 0
    return where(zero, 0, keep_axes(g, axis, x.shape)) * (x / where(zero, 1, length))


def _norm2_jvp(t, x, out, axis, keepdims):
    length = keep_axes(out, axis, x.shape)
    return sum(t * (x / where(length == 0, 1, length)), axis=axis, keepdims=keepdims)


_norm2.defvjp(x=_along_direction)
_norm2.defjvp(x=_norm2_jvp)


@composite
def norm(x: TensorLike, ord: float | str | None = 2, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The vector norm over `axis` (None: all): ord 2 (None, "fro"), 1, inf, any p, 0 (how many are not 0).

    Of an ord below 0 an element that is zero makes it zero; -inf is the smallest size. Its gradient at zero is zero,
    and where p < 1 that of each element that is zero. Integers count as float64. Matrix norms are functions of
    linalg.svdvals: its largest, its sum.
    """
    x = x if x.dtype.kind == "f" else wide(x)
    if isinstance(ord, (Real, str, NoneType)) and ord in _NORMS:
        if ord == math.inf and not count(x.shape, axis):
            return sum(absolute(x), axis=axis, keepdims=keepdims)  # of nothing it is 0, as all norms are
        return _NORMS[ord](x, axis=axis, keepdims=keepdims)
    if not isinstance(ord, Real) or math.isnan(ord):
        raise ValueError(
            f"norm: ord={ord!r}; expected a number, inf or -inf. Norms of matrices are functions of their singular "
            "values, linalg.svdvals: 'nuc' is their sum."
        )
    return like((_p_norm if ord > 0 else _negative_norm)(wide(x), ord, axis, keepdims), x)


_NORMS: dict[Any, Callable] = {
    **dict.fromkeys((2, None, "fro"), _norm2),
    1: lambda x, axis, keepdims: sum(absolute(x), axis=axis, keepdims=keepdims),
    0: lambda x, axis, keepdims: sum(sign(absolute(x)), axis=axis, keepdims=keepdims),
    math.inf: lambda x, axis, keepdims: max(absolute(x), axis=axis, keepdims=keepdims),  # type: ignore[has-type]
    -math.inf: lambda x, axis, keepdims: min(absolute(x), axis=axis, keepdims=keepdims),  # type: ignore[has-type]
}
"""The orders with a formula of their own."""


def _p_norm(x, p, axis, keepdims):
    """(sum |x|^p)^(1/p), of x over its largest element: a power of it could overflow, or vanish."""
    scale = _near_largest(array_of(x), axis)
    size = absolute(x) / scale
    powers = where(size == 0, 0, where(size == 0, 1, size) ** p)  # the slope of a power p < 1 at 0 is infinite
    whole = sum(powers, axis=axis, keepdims=True)
    length = where(whole == 0, 0, where(whole == 0, 1, whole) ** (1 / p)) * scale
    return length if keepdims else length.reshape(total(array_of(x), axis).shape)


def _negative_norm(x, p, axis, keepdims):
    """The same for p < 0, of x over its smallest element; 0 where an element is zero."""
    size, zeros = absolute(x), array_of(x) == 0
    size = where(zeros, 1, size)
    scale = 1 / _near_largest(1 / array_of(size), axis)
    length = sum((size / scale) ** p, axis=axis, keepdims=True) ** (1 / p) * scale
    length = where(zeros.any(axis=axis, keepdims=True), 0, length)
    return length if keepdims else length.reshape(total(array_of(x), axis).shape)


# --- products and running forms ---


def _in_double(x):
    """float16 and float32 as float64, for products on the way to a result that may overflow or vanish."""
    return x.astype(np.float64) if x.dtype.kind == "f" and x.dtype.itemsize < 8 else x


@primitive(local="product of the others")
def prod(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`. The gradient is right where factors are zero."""
    out = _in_double(x).prod(axis=axis, keepdims=keepdims)
    return out.astype(x.dtype) if x.dtype.kind == "f" else out


def _product_of_others(x, axis):
    """For each element the product of all others along `axis`: products from the left times products from the right."""
    axes = normal_axes(axis, x.ndim)
    if x.ndim == 0:
        return namespace(array_of(x)).ones((), x.dtype)
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    order = rest + axes
    moved = _in_double(x).transpose(order)
    lines = moved.reshape(tuple(x.shape[i] for i in rest) + (count(x.shape, axis),))
    left = _before(lines)
    right = flip(_before(flip(lines, axis=-1)), axis=-1)
    back = tuple(order.index(i) for i in range(x.ndim))
    return (left * right).reshape(moved.shape).transpose(back).astype(x.dtype)


def _before(x):
    """For each element the product of those before it along the last axis."""
    one = namespace(array_of(x)).ones((*x.shape[:-1], builtins.min(x.shape[-1], 1)), x.dtype)
    return cumprod(concatenate([one, x[..., :-1]], axis=-1), axis=-1)


prod.defvjp(x=lambda g, x, axis: keep_axes(g, axis, x.shape) * _product_of_others(x, axis))
prod.defjvp(x=lambda t, x, axis, keepdims: sum(t * _product_of_others(x, axis), axis=axis, keepdims=keepdims))


@primitive(local="1 up to here", kind="linear")
def cumsum(x: TensorLike, axis: int) -> Tensor:
    """Running sums along `axis`, rounded once each: float16 and float32 are added in float64."""
    _need_axis("cumsum", axis)
    return _running(namespace(x).cumsum, x, axis)


def _running(function, x, axis):
    out = function(_in_double(x), axis=axis)
    return out.astype(x.dtype) if x.dtype.kind == "f" and out.dtype != x.dtype else out


def _need_axis(op: str, axis) -> None:
    if axis is None:
        raise TypeError(f"{op}: axis=None; give the axis to run along; for all elements flatten first: x.ravel().")
    whole(op, "axis", axis)


cumsum.defvjp(x=lambda g, axis: flip(cumsum(flip(g, axis=axis), axis=axis), axis=axis))


@primitive(local="product of the others up to here")
def cumprod(x: TensorLike, axis: int) -> Tensor:
    """Running products along `axis`. The gradient is right where factors are zero, or vanish together."""
    _need_axis("cumprod", axis)
    return _running(namespace(x).cumprod, x, axis)


def _cumprod_vjp(g, x, axis):
    """What lies before x[k] times what follows: the sum over i >= k of g[i] x[k+1] ... x[i], without a division."""
    g, lines = (moveaxis(_in_double(value.reshape(value.shape or (1,))), axis, -1) for value in (g, x))
    back = flip(lines, axis=-1)
    factors = concatenate([back[..., :1], back[..., :-1]], axis=-1)  # of x[k+1]; the first one is not used
    behind = flip(_recurrence(factors, flip(g, axis=-1)), axis=-1)
    return moveaxis(_before(lines) * behind, -1, axis).reshape(x.shape).astype(x.dtype)


def _cumprod_jvp(t, x, axis):
    """The product rule step by step: y'[k] = x[k] y'[k-1] + t[k] y[k-1]."""
    t, lines = (moveaxis(_in_double(value.reshape(value.shape or (1,))), axis, -1) for value in (t, x))
    return moveaxis(_recurrence(lines, t * _before(lines)), -1, axis).astype(x.dtype)


@primitive(local="a, y before")
def _recurrence(a: TensorLike, b: TensorLike) -> Tensor:
    """y[k] = a[k] y[k-1] + b[k] along the last axis, from y = 0; the first a is not used.

    By doubling (Hillis & Steele 1986): after step i each place has taken in the 2^i places up to it.
    """
    reach = 1
    while reach < b.shape[-1]:
        xp, now, then = namespace(a, b), slice(reach, None), slice(None, -reach)
        earlier = b[..., then]
        taken = xp.where(earlier == 0, 0, a[..., now] * earlier)  # a product of many may be infinite
        b = namespace(b, taken).concatenate([b[..., :reach], b[..., now] + taken], axis=-1)
        a = namespace(a).concatenate([a[..., :reach], a[..., now] * a[..., then]], axis=-1)
        reach *= 2
    return b  # type: ignore[return-value]  # an array here


def _times_before(g, y):
    """g times y of the place before, along the last axis; 0 at the first, also where g or y is infinite there."""
    return concatenate([zeros_like(g[..., :1]), g[..., 1:] * y[..., :-1]], axis=-1)


def _recurrence_back(g, a):
    back = flip(a, axis=-1)
    return flip(_recurrence(concatenate([back[..., :1], back[..., :-1]], axis=-1), flip(g, axis=-1)), axis=-1)


_recurrence.defvjp(a=lambda g, a, out: _times_before(_recurrence_back(g, a), out), b=_recurrence_back)
_recurrence.defjvp(a=lambda t, a, out: _recurrence(a, _times_before(t, out)), b=lambda t, a: _recurrence(a, t))
cumprod.defvjp(x=_cumprod_vjp)
cumprod.defjvp(x=_cumprod_jvp)

# --- extremes ---


def _need_elements(op: str, x, axis) -> None:
    if not x.size and not count(x.shape, axis):
        along = "" if axis is None else f" along axis {axis}"
        raise ShapeError(
            f"{op}: shape {x.shape} has no elements{along}, of which one could be the largest or smallest."
        )


@primitive(local="1 at the largest")
def max(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest value over `axis`. Equal largest values share the gradient."""
    _need_elements("max", x, axis)
    return x.max(axis=axis, keepdims=keepdims)


@primitive(local="1 at the smallest")
def min(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest value over `axis`. Equal smallest values share the gradient."""
    _need_elements("min", x, axis)
    return x.min(axis=axis, keepdims=keepdims)


def _winners(x, out, axis):
    """Which elements won (a NaN wins over every number), and how many of them there are along `axis`."""
    won = (x == keep_axes(out, axis, x.shape)) | (x != x)
    return won, won.sum(axis=axis, keepdims=True)


def _give_to_winners(g, x, out, axis):
    won, number = _winners(x, out, axis)
    share = _divided(keep_axes(g, axis, x.shape), number)
    return where(won, share, 0)  # chosen, not multiplied by 0 or 1: an infinite gradient concerns the winners only


def _take_from_winners(t, x, out, axis, keepdims):
    won, number = _winners(x, out, axis)
    return sum(_divided(where(won, t, 0), number), axis=axis, keepdims=keepdims)


for _op in (max, min):
    _op.defvjp(x=_give_to_winners)
    _op.defjvp(x=_take_from_winners)


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
    _need_elements("argmax", x, axis)
    return namespace(x).asarray(x).argmax(axis=axis, keepdims=keepdims)


@primitive(differentiable=False)
def argmin(x: TensorLike, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the smallest value along `axis` (in the flattened tensor for None); the first of equal ones."""
    _need_elements("argmin", x, axis)
    return namespace(x).asarray(x).argmin(axis=axis, keepdims=keepdims)
