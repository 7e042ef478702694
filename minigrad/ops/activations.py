"""Activations: the nonlinear functions between the layers of a network.

All are elementwise. `relu` and `softplus` are ops with rules of their own; the others are composed of ops.
"""

from __future__ import annotations

import math

import numpy as np

from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import Operand, TensorLike
from minigrad.backend import namespace
from minigrad.ops.arithmetic import where
from minigrad.ops.elementary import erf, expm1, sigmoid, tanh


@primitive(local="1 where x > 0", kind="elementwise")
def relu(x: TensorLike) -> Tensor:
    """max(x, 0), elementwise; slope 0 at 0."""
    xp = namespace(x)
    if xp is np and x.size > 4096 and x.dtype.kind == "f":
        return xp.clip(x, 0, np.inf)  # four times faster than maximum, whose loop for a scalar is slow (NumPy 2.4)
    return xp.maximum(x, 0)


relu.defvjp(x=lambda g, out: g * (out > 0))


@primitive(local="s(beta x)", kind="elementwise")
def softplus(x: Operand, *, beta: float = 1.0) -> Tensor:
    """log(1 + e^(beta x)) / beta, elementwise, without overflow."""
    return namespace(x).logaddexp(x * beta, 0) / beta


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
    if approximate == "tanh":
        return 0.5 * x * (1 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    if approximate != "none":
        raise ValueError(f"gelu: approximate={approximate!r}; expected 'none' or 'tanh'.")
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


@composite
def silu(x: Operand) -> Tensor:
    """x * sigmoid(x), also called swish."""
    return x * sigmoid(x)
