"""Activations as layers, for use in a Sequential. Each calls the op of its name.

PyTorch's option `inplace` is accepted and shown in the repr; the result is always a new tensor.
"""

from __future__ import annotations

import minigrad as mg
from minigrad import Tensor

from . import functional
from .argument_checks import check_number
from .module import Module


class _Rectifier(Module):
    """An activation with PyTorch's `inplace` option."""

    def __init__(self, inplace: bool = False):
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU(_Rectifier):
    """max(x, 0), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return mg.relu(x)


class SiLU(_Rectifier):
    """x sigmoid(x), elementwise (Elfwing et al. 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        return mg.silu(x)


class LeakyReLU(_Rectifier):
    """x where positive, negative_slope x elsewhere (Maas et al. 2013)."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        super().__init__(inplace)
        check_number("LeakyReLU", "negative_slope", negative_slope)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return mg.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"negative_slope={self.negative_slope}", super().extra_repr()]))


class ELU(_Rectifier):
    """x where positive, alpha (exp(x) - 1) elsewhere (Clevert et al. 2015)."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__(inplace)
        check_number("ELU", "alpha", alpha)
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return mg.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, [f"alpha={self.alpha}", super().extra_repr()]))


class GELU(Module):
    """x times the normal distribution function of x (Hendrycks & Gimpel 2016); `approximate` "none" or "tanh"."""

    def __init__(self, approximate: str = "none"):
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate={approximate!r}; expected 'none' or 'tanh'.")
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return mg.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Tanh(Module):
    """The hyperbolic tangent, elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return mg.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x)), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return mg.sigmoid(x)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, elementwise; x itself where beta x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        super().__init__()
        if not beta > 0:
            raise ValueError(f"Softplus: beta={beta}; expected a positive number.")
        check_number("Softplus", "threshold", threshold)
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Tensor) -> Tensor:
        return functional.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class _AlongAxis(Module):
    """An activation along one axis, which must be given: PyTorch's guess for None is deprecated there."""

    def __init__(self, dim: int):
        super().__init__()
        if not isinstance(dim, int) or isinstance(dim, bool):
            raise TypeError(f"{type(self).__name__}: dim={dim!r}; name the axis of the classes, dim=1 for (N, C).")
        self.dim = dim

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongAxis):
    """exp(x) / sum(exp(x)) along `dim`. CrossEntropyLoss takes the scores, so it needs no Softmax before it."""

    def forward(self, x: Tensor) -> Tensor:
        return mg.softmax(x, axis=self.dim)


class LogSoftmax(_AlongAxis):
    """log(softmax(x)) along `dim`, computed without overflow: the input of NLLLoss."""

    def forward(self, x: Tensor) -> Tensor:
        return mg.log_softmax(x, axis=self.dim)
