"""Arithmetic, powers, comparisons, and choosing between values.

After this file you know the simplest derivative rules there are, why the engine and not the rule undoes broadcasting,
and where a convention was needed: at a tie of `maximum` each side gets half, `abs` has slope 0 at 0.
"""

from __future__ import annotations

import builtins
import math

import numpy as np

from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import Axis, DTypeLike, Operand, TensorLike
from minigrad.backend import BatchedArray, check_beside, check_dtype, device_kind, elementwise, namespace
from minigrad.backend import to_device as move
from minigrad.ops.elementary import log

# --- arithmetic ---


@primitive(symbol="+", local="1, 1", kind="elementwise")
def add(a: Operand, b: Operand) -> Tensor:
    """a + b, elementwise with broadcasting."""
    return a + b


add.defvjp(a=lambda g: g, b=lambda g: g)


@primitive(symbol="-", local="1, -1", kind="elementwise")
def subtract(a: Operand, b: Operand) -> Tensor:
    """a - b, elementwise with broadcasting."""
    return a - b


subtract.defvjp(a=lambda g: g, b=lambda g: -g)


@primitive(symbol="*", local="b, a", kind="elementwise")
def multiply(a: Operand, b: Operand) -> Tensor:
    """a * b, elementwise with broadcasting."""
    return a * b


multiply.defvjp(a=lambda g, b: g * b, b=lambda g, a: g * a)


@primitive(symbol="/", local="1/b, -a/b^2", kind="elementwise")
def divide(a: Operand, b: Operand) -> Tensor:
    """a / b, elementwise with broadcasting; integers give floats."""
    return a / b


divide.defvjp(a=lambda g, b: g / b, b=lambda g, out, b: -g * out / b)


@primitive(symbol="neg", local="-1", kind="elementwise")
def negative(x: Operand) -> Tensor:
    """-x, elementwise."""
    return -x


negative.defvjp(x=lambda g: -g)


@primitive(symbol="^", local="b a^(b-1), log(a) a^b", kind="elementwise")
def power(a: Operand, b: Operand) -> Tensor:
    """a ** b, elementwise with broadcasting."""
    return a**b


def _power_base(g, out, a, b):
    """g times b a^(b-1). Where b - 1 would be rounded, an error times log(a) in the result, it is b a^b / a."""
    if isinstance(b, (int, float)):
        if b == 0:
            return zeros_like(g)
        if b == 2:
            return (g + g) * a
        if b < 0:
            return g * (b * out / a)
        if b >= 0.5:  # as a number of the result's dtype, b - 1 is exact
            return g * (b * a ** (b - 1 if isinstance(b, int) else float(out.dtype.type(b)) - 1))
    divided = (b < 0.5) & (a != 0) & isfinite(a)
    base, divisor = where(divided, 1, a), where(divided, a, 1)
    exponent = where(divided | ((a == 0) & (b == 0)), 1, b - 1)  # 0^-1 times b = 0 would be NaN; the slope there is 0
    return g * where(divided, b * divisor**b / divisor, b * base**exponent)


def _power_exponent(g, out, a, b):
    if isinstance(a, (int, float)):
        if a == 0:
            return where(b >= 0, zeros_like(g), -g * out)  # 0^b is flat in b, and infinite below 0
        return g * out * (math.log(a) if a > 0 else math.nan)
    return g * (out * log(where((a == 0) & (b >= 0), 1, a)))


power.defvjp(a=_power_base, b=_power_exponent)


@primitive(symbol="%", local="1, -floor(a/b)", kind="elementwise")
def remainder(a: Operand, b: Operand) -> Tensor:
    """a - b * floor(a / b), with the sign of b, as Python's %."""
    return a % b


def _remainder_divisor(g, a, b):
    return -g * floor_divide(a, b)  # not floor(a / b): 1.0 % 0.1 took 0.1 away 9 times, and 1.0 / 0.1 rounds to 10


remainder.defvjp(a=lambda g: g, b=_remainder_divisor)


@primitive(symbol="//", differentiable=False)
def floor_divide(a: Operand, b: Operand) -> Tensor:
    """floor(a / b); carries no gradient."""
    return a // b


@primitive(symbol="| |", local="sign(x)", kind="elementwise")
def abs(x: Operand) -> Tensor:
    """|x|, elementwise; slope 0 at 0."""
    return namespace(x).absolute(x)


def _abs_slope(g, x):
    return keep_where(x != 0, g) * sign(x)


abs.defvjp(x=_abs_slope)


@primitive(symbol="x^2", local="2x", kind="elementwise")
def square(x: Operand) -> Tensor:
    """x * x, elementwise."""
    return x * x


square.defvjp(x=lambda g, x: (g + g) * x)


@primitive(symbol="1/x", local="-1/x^2", kind="elementwise")
def reciprocal(x: Operand) -> Tensor:
    """1 / x, elementwise."""
    return 1.0 / x


reciprocal.defvjp(x=lambda g, out: -g * out * out)


# --- zero almost everywhere ---


@primitive(symbol="0", differentiable=False)
def zeros_like(x: Operand) -> Tensor:
    """Zeros of the shape, dtype and device of x."""
    return namespace(x).zeros_like(x)


def _no_slope(g):
    return zeros_like(g)


@primitive(local="0", kind="elementwise")
def sign(x: Operand) -> Tensor:
    """-1, 0 or 1, elementwise; gradient zero."""
    return namespace(x).sign(x)


@primitive(local="0", kind="elementwise")
def floor(x: Operand) -> Tensor:
    """The largest integer not above x, elementwise; gradient zero."""
    return namespace(x).floor(x)


@primitive(local="0", kind="elementwise")
def ceil(x: Operand) -> Tensor:
    """The smallest integer not below x, elementwise; gradient zero."""
    return namespace(x).ceil(x)


@primitive(local="0", kind="elementwise")
def trunc(x: Operand) -> Tensor:
    """The integer part of x, elementwise; gradient zero."""
    return namespace(x).trunc(x)


@primitive(local="0", kind="elementwise")
def round(x: Operand, decimals: int = 0) -> Tensor:
    """x to so many decimals (negative: tens, hundreds ...), halves to even, elementwise; gradient zero."""
    return namespace(x).round(x, decimals)


for _op in (sign, floor, ceil, trunc, round):
    _op.defvjp(x=_no_slope)


# --- choosing ---


@primitive(symbol="max", local="1 for the larger", kind="elementwise")
def maximum(a: Operand, b: Operand) -> Tensor:
    """The larger of a and b, elementwise with broadcasting. At a tie each side gets half the gradient."""
    return namespace(a, b).maximum(a, b)


@primitive(symbol="min", local="1 for the smaller", kind="elementwise")
def minimum(a: Operand, b: Operand) -> Tensor:
    """The smaller of a and b, elementwise with broadcasting. At a tie each side gets half the gradient."""
    return namespace(a, b).minimum(a, b)


def _larger_gets(g, chosen, other):
    return keep_where(logical_not(chosen < other), where(chosen == other, 0.5 * g, g))  # beside NaN both get it


maximum.defvjp(a=lambda g, a, b: _larger_gets(g, a, b), b=lambda g, a, b: _larger_gets(g, b, a))
minimum.defvjp(a=lambda g, a, b: _larger_gets(g, b, a), b=lambda g, a, b: _larger_gets(g, a, b))


@primitive(symbol="?", local="1 where chosen", kind="elementwise")
def where(condition: Operand, a: Operand, b: Operand) -> Tensor:
    """a where the condition holds, b elsewhere, with broadcasting."""
    if a is None or b is None:
        raise TypeError("where: None in the place of values; expected Tensors, arrays or numbers.")
    if (type(b) is int and b) or (type(a) is int and a):  # NumPy checks operators, but not this
        check_beside(a, b)
        check_beside(b, a)
    xp = namespace(condition, a, b)
    return xp.where(condition, a, b)


_BITS = {np.dtype(f"f{size}"): np.dtype(f"i{size}") for size in (2, 4, 8)}


@primitive(symbol="keep", local="1 where kept", kind="elementwise")
def keep_where(kept: TensorLike, x: TensorLike) -> Tensor:
    """x where the mask holds, 0 elsewhere. Rules select gradients with it: a mask times an infinite one is NaN."""
    return _kept(kept, x)


def _kept(kept, x):
    if type(kept) is BatchedArray or type(x) is BatchedArray:
        return elementwise(_kept, kept, x)
    if type(x) is np.ndarray and x.dtype in _BITS and kept.dtype == bool and kept.shape == x.shape:
        bits, out = _BITS[x.dtype], np.empty_like(x)
        chosen = out.view(bits)  # as integers times 0 or 1: three times faster than `where`
        chosen[...] = kept
        chosen *= x.view(bits)
        return out
    return namespace(kept, x).where(kept, x, 0)


keep_where.defvjp(kept=None, x=lambda g, kept: keep_where(kept, g))


def _given_to_second(g, condition):
    return keep_where(logical_not(condition), g)


where.defvjp(condition=None, a=lambda g, condition: keep_where(condition, g), b=_given_to_second)


@primitive(local="1 inside", kind="elementwise")
def _clip(x: Operand, *, low: Operand | None, high: Operand | None) -> Tensor:
    return namespace(x).clip(x, low, high)


_clip.defvjp(x=lambda g, x, low, high: keep_where(_inside(x, low, high), g))


def _inside(x, low, high):
    """Where x is between the bounds. The bounds themselves count as inside, as in PyTorch."""
    if low is None or high is None:
        return x <= high if low is None else x >= low
    return (x >= low) & (x <= high)


@composite
def clip(x: Operand, low: Operand | None = None, high: Operand | None = None) -> Tensor:
    """x held between `low` and `high` (None: no bound), elementwise; gradient 1 there, also on the bounds.

    With arrays or Tensors as bounds it is `maximum` and `minimum`, and the bounds get gradients too.
    """
    if low is None and high is None:
        raise ValueError("clip: both bounds are None; give low, high or both.")
    if builtins.all(bound is None or isinstance(bound, (int, float)) for bound in (low, high)):
        return _clip(x, low=low, high=high)
    bounded = x if low is None else maximum(x, low)
    return bounded if high is None else minimum(bounded, high)  # type: ignore[return-value]


# --- comparisons and bits: no gradient ---


@primitive(symbol="<", differentiable=False)
def less(a: Operand, b: Operand) -> Tensor:
    """a < b, elementwise with broadcasting."""
    return a < b


@primitive(symbol="<=", differentiable=False)
def less_equal(a: Operand, b: Operand) -> Tensor:
    """a <= b, elementwise with broadcasting."""
    return a <= b


@primitive(symbol=">", differentiable=False)
def greater(a: Operand, b: Operand) -> Tensor:
    """a > b, elementwise with broadcasting."""
    return a > b


@primitive(symbol=">=", differentiable=False)
def greater_equal(a: Operand, b: Operand) -> Tensor:
    """a >= b, elementwise with broadcasting."""
    return a >= b


@primitive(symbol="==", differentiable=False)
def equal(a: Operand, b: Operand) -> Tensor:
    """a == b, elementwise with broadcasting."""
    return namespace(a, b).equal(a, b)


@primitive(symbol="!=", differentiable=False)
def not_equal(a: Operand, b: Operand) -> Tensor:
    """a != b, elementwise with broadcasting."""
    return namespace(a, b).not_equal(a, b)


@primitive(symbol="&", differentiable=False)
def bitwise_and(a: TensorLike, b: TensorLike) -> Tensor:
    """a & b, elementwise on bools or integers."""
    return a & b


@primitive(symbol="|", differentiable=False)
def bitwise_or(a: TensorLike, b: TensorLike) -> Tensor:
    """a | b, elementwise on bools or integers."""
    return a | b


@primitive(symbol="xor", differentiable=False)
def bitwise_xor(a: TensorLike, b: TensorLike) -> Tensor:
    """a ^ b (exclusive or), elementwise on bools or integers."""
    return a ^ b


@primitive(symbol="~", differentiable=False)
def bitwise_not(x: TensorLike) -> Tensor:
    """~x, elementwise on bools or integers."""
    return ~x


@primitive(symbol="not", differentiable=False)
def logical_not(x: Operand) -> Tensor:
    """Whether x is zero or False, elementwise."""
    return namespace(x).logical_not(x)


@primitive(differentiable=False)
def isnan(x: Operand) -> Tensor:
    """Whether x is NaN, elementwise."""
    return namespace(x).isnan(x)


@primitive(differentiable=False)
def isfinite(x: Operand) -> Tensor:
    """Whether x is neither NaN nor infinite, elementwise."""
    return namespace(x).isfinite(x)


@primitive(differentiable=False)
def any(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element along the axes is true."""
    return namespace(x).any(x, axis=axis, keepdims=keepdims)


@primitive(differentiable=False)
def all(x: TensorLike, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements along the axes are true."""
    return namespace(x).all(x, axis=axis, keepdims=keepdims)


# --- copies, dtypes and devices ---


@primitive(symbol="copy", local="1", kind="elementwise")
def clone(x: TensorLike) -> Tensor:
    """A copy of x in memory of its own, with x's gradient."""
    return namespace(x).copy(x)


clone.defvjp(x=lambda g: g)


@primitive(symbol="cast", local="1", kind="linear")
def _cast(x: TensorLike, dtype: np.dtype) -> Tensor:
    return x.astype(dtype)


_cast.defvjp(x=lambda g: g)  # the engine brings g back to the argument's dtype


@primitive(symbol="cast", differentiable=False)
def _cast_to_integer(x: TensorLike, dtype: np.dtype) -> Tensor:
    return x.astype(dtype)


@composite
def astype(x: TensorLike, dtype: DTypeLike) -> Tensor:
    """x as another dtype. Between floating-point dtypes the gradient is cast back; integers and bools carry none."""
    dtype = check_dtype(dtype)
    return _cast(x, dtype=dtype) if dtype.kind == "f" else _cast_to_integer(x, dtype=dtype)


@primitive(symbol="to", local="1", kind="linear", view=True)
def to_device(x: TensorLike, device: str, origin: str) -> Tensor:
    """x on another device; the gradient comes back to `origin`, the device of x."""
    device_kind(origin)
    return move(x, device)  # type: ignore[arg-type, return-value]  # x is an array here


to_device.defvjp(x=lambda g, device, origin: to_device(g, device=origin, origin=device))
