"""Elementary functions: exponentials, the sigmoid, roots, trigonometry, and the error function.

After this file you know that one line is an op: the derivative of each is written in terms of its own output where that
is cheaper (exp, sqrt), so that backward needs to keep one array only. And you know where that would be wrong: 1 - s is
zero where a sigmoid s has rounded to 1, x^2 is infinite where 1/(1 + x^2) still is a number. A slope that loses its
digits so is an op of its own, written without that subtraction or that square.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np

from minigrad.autograd.primitive import primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import Operand, TensorLike
from minigrad.backend import NUMBERS, BatchedArray, elementwise, namespace

FLOAT16 = np.dtype(np.float16)


def in_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward of several steps, whose float16 arguments go through it as float32: rounded once, not at each step."""

    @wraps(forward)
    def run(*arrays: Any, **options: Any) -> Any:
        dtypes = [array.dtype for array in arrays if hasattr(array, "dtype")]
        if FLOAT16 not in dtypes or set(dtypes) != {FLOAT16}:
            return forward(*arrays, **options)
        wide = (array.astype(np.float32) if hasattr(array, "dtype") else array for array in arrays)
        return forward(*wide, **options).astype(FLOAT16)

    return run


# --- exponentials and logarithms ---


@primitive(local="exp(x)", kind="elementwise")
def exp(x: Operand) -> Tensor:
    """e^x, elementwise."""
    return namespace(x).exp(x)


exp.defvjp(x=lambda g, out: g * out)


@primitive(local="2^x log 2", kind="elementwise")
def exp2(x: Operand) -> Tensor:
    """2^x, elementwise."""
    return namespace(x).exp2(x)


exp2.defvjp(x=lambda g, out: g * (out * math.log(2)))


@primitive(local="exp(x)", kind="elementwise")
def expm1(x: Operand) -> Tensor:
    """e^x - 1, elementwise; accurate near 0."""
    return namespace(x).expm1(x)


expm1.defvjp(x=lambda g, x: g * exp(x))  # the result has rounded to -1 where e^x is small


@primitive(local="1/x", kind="elementwise")
def log(x: Operand) -> Tensor:
    """The natural logarithm, elementwise."""
    return namespace(x).log(x)


log.defvjp(x=lambda g, x: g / x)


@primitive(local="1/(x log 2)", kind="elementwise")
def log2(x: Operand) -> Tensor:
    """The logarithm to base 2, elementwise."""
    return namespace(x).log2(x)


log2.defvjp(x=lambda g, x: g * (1 / math.log(2)) / x)


@primitive(local="1/(x log 10)", kind="elementwise")
def log10(x: Operand) -> Tensor:
    """The logarithm to base 10, elementwise."""
    return namespace(x).log10(x)


log10.defvjp(x=lambda g, x: g * (1 / math.log(10)) / x)  # x log(10) may overflow


@primitive(local="1/(1+x)", kind="elementwise")
def log1p(x: Operand) -> Tensor:
    """log(1 + x), elementwise; accurate near 0."""
    return namespace(x).log1p(x)


log1p.defvjp(x=lambda g, x: g / (1 + x))


# --- the logistic function ---


@primitive(local="s(x)(1-s(x))", kind="elementwise")
@in_float32
def sigmoid(x: Operand) -> Tensor:
    """1 / (1 + e^-x), elementwise: to full relative precision also where it is tiny, without overflow."""
    xp, power = namespace(x), decay(x)
    return xp.maximum(power, x >= 0) / (1 + power)  # 1 / (1 + e^-x) on the right, e^x / (1 + e^x) on the left


@primitive(symbol="s'", local="s(x)(1-s(x))(1-2s(x))", kind="elementwise")
@in_float32
def sigmoid_slope(x: Operand) -> Tensor:
    """The logistic density, e^-|x| / (1 + e^-|x|)^2, in whose formula no 1 - s cancels."""
    return _density(x)


def decay(x):
    """e^-|x|; of integers too, whose absolute value may not be a number of their dtype."""
    xp = namespace(x)
    return xp.exp(xp.minimum(x, x * -1.0))


def _density(x):
    power = decay(x)
    whole = power + 1
    power /= whole
    power /= whole
    return power


def _bent_by_half(g, out, x):
    """s''(x) = -s'(x) tanh(x/2)."""
    return -g * out * tanh(0.5 * x)


sigmoid.defvjp(x=lambda g, x: g * sigmoid_slope(x))
sigmoid_slope.defvjp(x=_bent_by_half)


@primitive(local="softmax of (a, b)", kind="elementwise")
def logaddexp(a: Operand, b: Operand) -> Tensor:
    """log(e^a + e^b), elementwise with broadcasting, without overflow."""
    return namespace(a, b).logaddexp(a, b)


@primitive(local="s(a-b) s(b-a), -s(a-b) s(b-a)", kind="elementwise")
@in_float32
def _share_of_first(a: Operand, b: Operand) -> Tensor:
    """e^a / (e^a + e^b) = s(a - b). Of two equal infinities each has half."""
    difference, error = _exact_difference(a, b)
    return sigmoid(difference) * (1 + error * sigmoid(-difference))


@primitive(local="s(a-b) s(b-a) (1-2s(a-b)), -s(a-b) s(b-a) (1-2s(a-b))", kind="elementwise")
@in_float32
def _slope_of_share(a: Operand, b: Operand) -> Tensor:
    """s'(a - b), as precise as `_share_of_first`."""
    difference, error = _exact_difference(a, b)
    return _density(difference) * (1 - error * namespace(a, b).tanh(0.5 * difference))


def _exact_difference(a, b):
    """a - b as a rounded number and its rounding error (Knuth 1969, two-sum): e^(a-b) would multiply the error."""
    xp = namespace(a, b)
    alike = a == b  # two equal infinities too
    a, b = xp.where(alike, 0, a), xp.where(alike, 0, b)
    difference = a - b
    finite = xp.isfinite(difference)
    a, b, rounded = (xp.where(finite, value, 0) for value in (a, b, difference))
    rest = rounded - a
    return difference, (a - (rounded - rest)) - (b + rest)


logaddexp.defvjp(a=lambda g, a, b: g * _share_of_first(a, b), b=lambda g, a, b: g * _share_of_first(b, a))
_share_of_first.defvjp(a=lambda g, a, b: g * _slope_of_share(a, b), b=lambda g, a, b: -g * _slope_of_share(a, b))
_slope_of_share.defvjp(
    a=lambda g, a, b, out: _bent_by_half(g, out, a - b), b=lambda g, a, b, out: -_bent_by_half(g, out, a - b)
)

# --- roots ---


@primitive(local="1/(2 sqrt(x))", kind="elementwise")
def sqrt(x: Operand) -> Tensor:
    """The square root, elementwise."""
    return namespace(x).sqrt(x)


sqrt.defvjp(x=lambda g, out: g / (out + out))


@primitive(local="-1/(2 x^(3/2))", kind="elementwise")
def rsqrt(x: Operand) -> Tensor:
    """1 / sqrt(x), elementwise."""
    return 1 / namespace(x).sqrt(x)


rsqrt.defvjp(x=lambda g, x, out: g * (-0.5 * out / x))


# --- trigonometry ---


@primitive(local="cos(x)", kind="elementwise")
def sin(x: Operand) -> Tensor:
    """The sine of x in radians, elementwise."""
    return namespace(x).sin(x)


@primitive(local="-sin(x)", kind="elementwise")
def cos(x: Operand) -> Tensor:
    """The cosine of x in radians, elementwise."""
    return namespace(x).cos(x)


sin.defvjp(x=lambda g, x: g * cos(x))
cos.defvjp(x=lambda g, x: -g * sin(x))


@primitive(local="1 + tan(x)^2", kind="elementwise")
def tan(x: Operand) -> Tensor:
    """The tangent of x in radians, elementwise."""
    return namespace(x).tan(x)


tan.defvjp(x=lambda g, out: g * (1 + out * out))


@primitive(local="1/sqrt(1-x^2)", kind="elementwise")
def arcsin(x: Operand) -> Tensor:
    """The inverse sine in radians, elementwise, for |x| <= 1."""
    return namespace(x).arcsin(x)


@primitive(symbol="arcsin'", local="x/sqrt(1-x^2)^3", kind="elementwise")
@in_float32
def _arcsin_slope(x: Operand) -> Tensor:
    return 1 / namespace(x).sqrt(_one_minus_square(x))


def _one_minus_square(x):
    """1 - x^2 of an array; near the ends (1 - x)(1 + x), where 1 - x is exact."""
    return namespace(x).where(x * x < 0.25, 1 - x * x, (1 - x) * (1 + x))


def _arcsin_curvature(g, x, out):
    return g * (x * out * _arctanh_slope(x))


arcsin.defvjp(x=lambda g, x: g * _arcsin_slope(x))
_arcsin_slope.defvjp(x=_arcsin_curvature)


@primitive(local="-1/sqrt(1-x^2)", kind="elementwise")
def arccos(x: Operand) -> Tensor:
    """The inverse cosine in radians, elementwise, for |x| <= 1."""
    return namespace(x).arccos(x)


arccos.defvjp(x=lambda g, x: -g * _arcsin_slope(x))


@primitive(local="1/(1+x^2)", kind="elementwise")
def arctan(x: Operand) -> Tensor:
    """The inverse tangent in radians, elementwise."""
    return namespace(x).arctan(x)


@primitive(symbol="arctan'", local="-2x/(1+x^2)^2", kind="elementwise")
@in_float32
def _arctan_slope(x: Operand) -> Tensor:
    xp = namespace(x)
    size = xp.abs(x)
    beyond = xp.maximum(size * (1 / _LARGE), 1)  # 1 / x^2 from 1e9 on, where the 1 beside x^2 no longer counts
    size = xp.minimum(size, _LARGE)
    return 1 / (1 + size * size) / beyond / beyond


_LARGE = 1e9


arctan.defvjp(x=lambda g, x: g * _arctan_slope(x))
_arctan_slope.defvjp(x=lambda g, x, out: -2 * g * (x * out * out))


@primitive(local="cosh(x)", kind="elementwise")
def sinh(x: Operand) -> Tensor:
    """The hyperbolic sine, elementwise."""
    return namespace(x).sinh(x)


@primitive(local="sinh(x)", kind="elementwise")
def cosh(x: Operand) -> Tensor:
    """The hyperbolic cosine, elementwise."""
    return namespace(x).cosh(x)


sinh.defvjp(x=lambda g, x: g * cosh(x))
cosh.defvjp(x=lambda g, x: g * sinh(x))


@primitive(local="1 - tanh(x)^2", kind="elementwise")
def tanh(x: Operand) -> Tensor:
    """The hyperbolic tangent, elementwise."""
    return namespace(x).tanh(x)


@primitive(symbol="tanh'", local="-2 tanh(x) (1-tanh(x)^2)", kind="elementwise")
@in_float32
def _tanh_slope(x: Operand) -> Tensor:
    """4 e^-2|x| / (1 + e^-2|x|)^2, which keeps its digits where 1 - tanh(x)^2 cancels."""
    slope = _density(x + x)
    slope *= 4
    return slope


def _along_tanh(g, x):
    if type(x) is np.float32 or type(x) is np.float64:  # a single number: Python's exponential costs a tenth
        power = math.exp(-2 * abs(x))
        return g * type(x)(4 * power / (1 + power) ** 2)
    return g * _tanh_slope(x)


tanh.defvjp(x=_along_tanh)
_tanh_slope.defvjp(x=lambda g, x, out: -2 * g * (out * tanh(x)))


@primitive(local="1/sqrt(x^2+1)", kind="elementwise")
def arcsinh(x: Operand) -> Tensor:
    """The inverse hyperbolic sine, elementwise."""
    return namespace(x).arcsinh(x)


@primitive(symbol="arcsinh'", local="-x/sqrt(x^2+1)^3", kind="elementwise")
@in_float32
def _arcsinh_slope(x: Operand) -> Tensor:
    return 1 / namespace(x).hypot(x, 1)


arcsinh.defvjp(x=lambda g, x: g * _arcsinh_slope(x))
_arcsinh_slope.defvjp(x=lambda g, x, out: -g * (x * out * out * out))


@primitive(local="1/sqrt(x^2-1)", kind="elementwise")
def arccosh(x: Operand) -> Tensor:
    """The inverse hyperbolic cosine, elementwise, for x >= 1."""
    return namespace(x).arccosh(x)


@primitive(symbol="arccosh'", local="-x/sqrt(x^2-1)^3", kind="elementwise")
@in_float32
def _arccosh_slope(x: Operand) -> Tensor:
    xp = namespace(x)
    beyond, x = xp.maximum(x * (1 / _LARGE), 1), xp.minimum(x, _LARGE)  # as for arctan
    return 1 / xp.sqrt((x - 1) * (x + 1)) / beyond


arccosh.defvjp(x=lambda g, x: g * _arccosh_slope(x))
_arccosh_slope.defvjp(x=lambda g, x, out: -g * (out / (x - 1) / (1 + 1 / x)))


@primitive(local="1/(1-x^2)", kind="elementwise")
def arctanh(x: Operand) -> Tensor:
    """The inverse hyperbolic tangent, elementwise, for |x| < 1."""
    return namespace(x).arctanh(x)


@primitive(symbol="arctanh'", local="2x/(1-x^2)^2", kind="elementwise")
@in_float32
def _arctanh_slope(x: Operand) -> Tensor:
    return 1 / _one_minus_square(x)


arctanh.defvjp(x=lambda g, x: g * _arctanh_slope(x))
_arctanh_slope.defvjp(x=lambda g, x, out: 2 * g * (x * out * out))

# --- the normal distribution ---

FARTHEST = 64.0  # from there on e^(-x^2 / 2) is 0 in every dtype


@primitive(symbol="gauss", local="-2 factor x exp(-factor x^2)", kind="elementwise")
@in_float32
def gauss(x: TensorLike, *, factor: float) -> Tensor:
    """exp(-factor x^2). The square is split, as its rounding error times e is many units of the result.

    x is a sum of `high`, whose square is exact, and `low`: x^2 = high^2 + low (x + high), as in fdlibm's erfc.
    """
    xp = namespace(x)
    x = xp.minimum(xp.abs(x), FARTHEST)
    steps = 2.0**20 if x.dtype == np.float64 else 2.0**8
    high = xp.rint(x * steps) / steps
    return xp.exp(-factor * (high * high)) * xp.exp(-factor * ((x - high) * (x + high)))


gauss.defvjp(x=lambda g, x, out, factor: -2 * factor * g * (x * out))


@primitive(local="2/sqrt(pi) exp(-x^2)", kind="elementwise")
def erf(x: TensorLike) -> Tensor:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, elementwise."""
    if type(x) is BatchedArray:
        return elementwise(erf, x)
    if type(x) in NUMBERS:
        return math.erf(x)  # type: ignore[return-value, arg-type]
    out = _function_of(namespace(x), "erf")(x)
    return out.astype(x.dtype, copy=False) if x.dtype.kind == "f" else out  # SciPy makes float32 of float16


erf.defvjp(x=lambda g, x: g * (2 / math.sqrt(math.pi) * gauss(x, factor=1.0)))


def normal_tail(x):
    """P(-|x|) of an array, where P is the normal distribution function; on the CPU that of float32 comes as float64.

    In other dtypes it is e^(-x^2/2) times half of erfcx, which falls as 1/|x| does: rounding its argument is harmless.
    """
    if type(x) is BatchedArray:
        return elementwise(normal_tail, x)
    xp = namespace(x)
    size = xp.abs(x)
    if xp is np and size.dtype == np.float32:
        return _function_of(np, "ndtr")(-size.astype(np.float64))
    return 0.5 * _function_of(xp, "erfcx")(size * math.sqrt(0.5)) * gauss(size, factor=0.5)


@cache
def _function_of(xp, name):
    """SciPy's or CuPy's special function; where SciPy is not installed, Python's, one number at a time."""
    if xp is not np:
        return getattr(_special(xp), name)
    try:
        from scipy import special
    except ImportError:
        one_by_one = np.frompyfunc({"erf": math.erf, "erfcx": _erfcx, "ndtr": _ndtr}[name], 1, 1)
        return lambda x: np.asarray(one_by_one(x), dtype=x.dtype)
    return getattr(special, name)


def _ndtr(x: float) -> float:
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


def _erfcx(x: float) -> float:
    """The scaled error function of one number >= 0; from 8 on by its fraction (Abramowitz & Stegun 7.1.14)."""
    if x < 8:
        return math.erfc(x) * float(gauss(np.float64(x), factor=-1.0))
    tail = x
    for k in range(60, 0, -1):
        tail = x + 0.5 * k / tail
    return 1 / (math.sqrt(math.pi) * tail)


def _special(xp):
    """The module of special functions that belongs to an array library."""
    if hasattr(xp, "special"):
        return xp.special
    from cupyx.scipy import special

    return special
