"""Activations: the nonlinear functions between the layers of a network.

All are elementwise. `leaky_relu` and `elu` are composed of ops. The others are ops, and so are their slopes: formed by
the product rule these would lose their digits where the function fades away.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import Operand, TensorLike
from minigrad.backend import NUMBERS, namespace
from minigrad.ops.arithmetic import astype, clip, keep_where, where
from minigrad.ops.elementary import FARTHEST, expm1, gauss, in_float32, normal_tail, sigmoid, sigmoid_slope, tanh


@primitive(local="1 where x > 0", kind="elementwise")
def relu(x: TensorLike) -> Tensor:
    """max(x, 0), elementwise; slope 0 at 0."""
    xp = namespace(x)
    if xp is np and x.size > 4096 and x.dtype.kind == "f":
        return xp.clip(x, 0, np.inf)  # four times faster than maximum, whose loop for a scalar is slow (NumPy 2.4)
    return xp.maximum(x, 0)


relu.defvjp(x=lambda g, out: keep_where(out != 0, g))  # NaN keeps its gradient


@primitive(local="s(beta x)", kind="elementwise")
def softplus(x: Operand, *, beta: float = 1.0) -> Tensor:
    """log(1 + e^(beta x)) / beta, elementwise, without overflow."""
    xp = namespace(x)
    scaled = x * (beta * 1.0)
    corner = xp.maximum(x, 0) if beta > 0 else xp.minimum(x, 0)
    return corner + xp.log1p(xp.exp(xp.minimum(scaled, -scaled))) / beta


softplus.defvjp(x=lambda g, x, beta: g * sigmoid(x * beta))


@composite
def leaky_relu(x: Operand, negative_slope: float = 0.01) -> Tensor:
    """x where positive, negative_slope * x elsewhere."""
    return where(x > 0, x, x * negative_slope)


@composite
def elu(x: Operand, alpha: float = 1.0) -> Tensor:
    """x where positive, alpha * (e^x - 1) elsewhere (Clevert et al. 2015)."""
    return where(x > 0, x, alpha * expm1(where(x > 0, 0, x)))  # exp of a large x may be inf, and inf * 0 NaN


@composite
def gelu(x: Operand, approximate: str = "none") -> Tensor:
    """x times the normal distribution function (Hendrycks & Gimpel 2016); `approximate="tanh"` for their formula."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate={approximate!r}; expected 'none' or 'tanh'.")
    x = np.float64(x) if isinstance(x, NUMBERS) else x
    return _gelu(x) if approximate == "none" else _gelu_tanh(x)


@primitive(symbol="gelu", local="P(x)+x p(x)", kind="elementwise")
@in_float32
def _gelu(x: TensorLike) -> Tensor:
    """x P(x), where P is the normal distribution function, with density p."""
    xp = namespace(x)
    x = x * 1.0
    share = xp.abs((x >= 0) - normal_tail(x))  # P(-|x|) on the left, 1 - P(-|x|) on the right
    return (xp.maximum(x, -FARTHEST) * share).astype(x.dtype, copy=False)


@primitive(symbol="gelu'", local="(2-x^2) p(x)", kind="elementwise")
@in_float32
def _gelu_slope(x: TensorLike) -> Tensor:
    xp = namespace(x)
    size = xp.minimum(xp.abs(x), FARTHEST)
    tail = normal_tail(x) - size * (gauss(x, factor=0.5) * _DENSITY_AT_0)
    return xp.where(x < 0, tail, 1 - tail).astype(x.dtype, copy=False)


@primitive(symbol="gelu''", local="(x^3-4x) p(x)", kind="elementwise")
@in_float32
def _gelu_curvature(x: Operand) -> Tensor:
    size = namespace(x).minimum(namespace(x).abs(x), FARTHEST)
    return (2 - size * size) * gauss(x, factor=0.5) * _DENSITY_AT_0


_DENSITY_AT_0 = 1 / math.sqrt(2 * math.pi)


_gelu.defvjp(x=lambda g, x: g * _gelu_slope(x))
_gelu_slope.defvjp(x=lambda g, x: g * _gelu_curvature(x))
_gelu_curvature.defvjp(x=lambda g, x: g * (x * (x * x - 4) * gauss(x, factor=0.5) * _DENSITY_AT_0))


@primitive(symbol="gelu", local="slope of the tanh formula", kind="elementwise")
@in_float32
def _gelu_tanh(x: Operand) -> Tensor:
    """x s(u), where s(u) = (1 + tanh(u/2)) / 2 and u = sqrt(8/pi) (x + 0.044715 x^3)."""
    x = namespace(x).maximum(x * 1.0, -FARTHEST)
    return x * sigmoid(_cubic(x))


@primitive(symbol="gelu'", local="curvature of the tanh formula", kind="elementwise")
@in_float32
def _gelu_tanh_slope(x: Operand) -> Tensor:
    xp = namespace(x)
    x = xp.minimum(xp.maximum(x, -FARTHEST), FARTHEST)
    u = _cubic(x)
    return sigmoid(u) * (1 + x * sigmoid(-u) * _cubic_slope(x))


def _cubic(x):
    return math.sqrt(8 / math.pi) * (x * (1 + 0.044715 * (x * x)))


def _cubic_slope(x):
    return math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * (x * x))


def _gelu_tanh_curvature(g, x):
    x = clip(astype(x, np.float32) if x.dtype == np.float16 else x, -FARTHEST, FARTHEST)
    u, slope = _cubic(x), _cubic_slope(x)
    bend = math.sqrt(8 / math.pi) * 6 * 0.044715 * x
    return g * (sigmoid_slope(u) * (2 * slope + x * (bend - slope * slope * tanh(0.5 * u))))


_gelu_tanh.defvjp(x=lambda g, x: g * _gelu_tanh_slope(x))
_gelu_tanh_slope.defvjp(x=_gelu_tanh_curvature)


@primitive(local="s(x) (1+x s(-x))", kind="elementwise")
@in_float32
def silu(x: Operand) -> Tensor:
    """x * sigmoid(x), also called swish."""
    xp = namespace(x)
    x = xp.maximum(x * 1.0, -_VANISHED)
    root = _root_of_decay(x)
    factor = xp.maximum(root, x >= 0)  # the square root of e^x on the left, 1 on the right
    return x * factor * factor / (1 + root * root)


def _root_of_decay(x):
    """e^(-|x|/2): a factor of e^-|x| that still is a normal number where e^-|x| is not, and has lost its digits."""
    xp = namespace(x)
    return xp.exp(-0.5 * xp.abs(x))


@primitive(symbol="silu'", local="s(x) s(-x) (2-x tanh(x/2))", kind="elementwise")
@in_float32
def _silu_slope(x: Operand) -> Tensor:
    xp = namespace(x)
    x = xp.minimum(xp.maximum(x, -_VANISHED), _VANISHED)
    root = _root_of_decay(x)
    share = 1 / (1 + root * root)
    factor, other = xp.maximum(root, x >= 0), xp.maximum(root, x < 0)
    return factor * (1 + x * (other * other * share)) * factor * share


@primitive(symbol="silu''", local="-s(x) s(-x) (tanh(x/2) (3-x tanh(x/2))+2x s(x) s(-x))", kind="elementwise")
@in_float32
def _silu_curvature(x: Operand) -> Tensor:
    xp = namespace(x)
    size, root = xp.minimum(xp.abs(x), _VANISHED), _root_of_decay(x)
    share = root / (1 + root * root)
    return (2 - size * xp.tanh(0.5 * size)) * share * share


_VANISHED = 1500.0  # e^-1500 is 0 in every dtype, also times 1500


def _silu_third(g, x):
    """s''(x) (3 - x tanh(x/2)) - x s'(x) (1 - tanh(x/2)^2) / 2, with s'' = -s' tanh(x/2)."""
    density, bend = sigmoid_slope(x), tanh(0.5 * x)
    return g * (-density * (bend * (3 - x * bend) + 2 * x * density))


silu.defvjp(x=lambda g, x: g * _silu_slope(x))
_silu_slope.defvjp(x=lambda g, x: g * _silu_curvature(x))
_silu_curvature.defvjp(x=_silu_third)
