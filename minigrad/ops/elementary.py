"""Elementary functions: exponentials, the sigmoid, roots, trigonometry, and the error function.

After this file you know that one line is an op: the derivative of each is written in terms of its own output where that
is cheaper (exp, tanh, sqrt), so that backward needs to keep one array only.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from minigrad.autograd.primitive import primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import Operand, TensorLike
from minigrad.backend import BatchedArray, elementwise, namespace

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


expm1.defvjp(x=lambda g, out: g * (out + 1))


@primitive(local="1/x", kind="elementwise")
def log(x: Operand) -> Tensor:
    """The natural logarithm, elementwise."""
    return namespace(x).log(x)


log.defvjp(x=lambda g, x: g / x)


@primitive(local="1/(x log 2)", kind="elementwise")
def log2(x: Operand) -> Tensor:
    """The logarithm to base 2, elementwise."""
    return namespace(x).log2(x)


log2.defvjp(x=lambda g, x: g / (x * math.log(2)))


@primitive(local="1/(x log 10)", kind="elementwise")
def log10(x: Operand) -> Tensor:
    """The logarithm to base 10, elementwise."""
    return namespace(x).log10(x)


log10.defvjp(x=lambda g, x: g / (x * math.log(10)))


@primitive(local="1/(1+x)", kind="elementwise")
def log1p(x: Operand) -> Tensor:
    """log(1 + x), elementwise; accurate near 0."""
    return namespace(x).log1p(x)


log1p.defvjp(x=lambda g, x: g / (1 + x))


@primitive(local="s(x)(1-s(x))", kind="elementwise")
def sigmoid(x: Operand) -> Tensor:
    """1 / (1 + e^-x), elementwise, without overflow: (1 + tanh(x/2)) / 2."""
    return namespace(x).tanh(x * 0.5) * 0.5 + 0.5


sigmoid.defvjp(x=lambda g, out: g * (out * (1 - out)))


@primitive(local="softmax of (a, b)", kind="elementwise")
def logaddexp(a: Operand, b: Operand) -> Tensor:
    """log(e^a + e^b), elementwise with broadcasting, without overflow."""
    return namespace(a, b).logaddexp(a, b)


logaddexp.defvjp(a=lambda g, a, b: g * sigmoid(a - b), b=lambda g, a, b: g * sigmoid(b - a))

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


rsqrt.defvjp(x=lambda g, out: g * (-0.5 * out * out * out))

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


arcsin.defvjp(x=lambda g, x: g * rsqrt(1 - x * x))


@primitive(local="-1/sqrt(1-x^2)", kind="elementwise")
def arccos(x: Operand) -> Tensor:
    """The inverse cosine in radians, elementwise, for |x| <= 1."""
    return namespace(x).arccos(x)


arccos.defvjp(x=lambda g, x: -g * rsqrt(1 - x * x))


@primitive(local="1/(1+x^2)", kind="elementwise")
def arctan(x: Operand) -> Tensor:
    """The inverse tangent in radians, elementwise."""
    return namespace(x).arctan(x)


arctan.defvjp(x=lambda g, x: g / (1 + x * x))


@primitive(local="x/(x^2+y^2), -y/(x^2+y^2)", kind="elementwise")
def arctan2(y: Operand, x: Operand) -> Tensor:
    """The angle of the point (x, y) in radians, elementwise with broadcasting."""
    return namespace(y, x).arctan2(y, x)


arctan2.defvjp(y=lambda g, y, x: g * x / (x * x + y * y), x=lambda g, y, x: -g * y / (x * x + y * y))


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


tanh.defvjp(x=lambda g, out: g * (1 - out * out))


@primitive(local="1/sqrt(x^2+1)", kind="elementwise")
def arcsinh(x: Operand) -> Tensor:
    """The inverse hyperbolic sine, elementwise."""
    return namespace(x).arcsinh(x)


arcsinh.defvjp(x=lambda g, x: g * rsqrt(x * x + 1))


@primitive(local="1/sqrt(x^2-1)", kind="elementwise")
def arccosh(x: Operand) -> Tensor:
    """The inverse hyperbolic cosine, elementwise, for x >= 1."""
    return namespace(x).arccosh(x)


arccosh.defvjp(x=lambda g, x: g * rsqrt(x * x - 1))


@primitive(local="1/(1-x^2)", kind="elementwise")
def arctanh(x: Operand) -> Tensor:
    """The inverse hyperbolic tangent, elementwise, for |x| < 1."""
    return namespace(x).arctanh(x)


arctanh.defvjp(x=lambda g, x: g / (1 - x * x))

# --- the error function ---


@primitive(local="2/sqrt(pi) exp(-x^2)", kind="elementwise")
def erf(x: TensorLike) -> Tensor:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, elementwise."""
    if type(x) is BatchedArray:
        return elementwise(erf, x)
    out = _erf_of(namespace(x))(x)
    return out.astype(x.dtype, copy=False) if x.dtype.kind == "f" else out  # SciPy makes float32 of float16


erf.defvjp(x=lambda g, x: g * (2 / math.sqrt(math.pi)) * exp(-x * x))


@cache
def _erf_of(xp):
    """SciPy's or CuPy's erf; where SciPy is not installed, Python's, one number at a time."""
    if xp is not np:
        return _special(xp).erf
    try:
        from scipy.special import erf as scipy_erf
    except ImportError:
        one_by_one = np.frompyfunc(math.erf, 1, 1)
        return lambda x: np.asarray(one_by_one(x), dtype=x.dtype)
    return scipy_erf


def _special(xp):
    """The module of special functions that belongs to an array library."""
    if hasattr(xp, "special"):
        return xp.special
    from cupyx.scipy import special

    return special
