"""Initialisers: how weights start, so that signals neither die out nor explode on their way through the layers.

After this file you know the one idea behind all of them: with weights of variance 1/fan_in a linear layer keeps the
variance of its input; `calculate_gain` makes up for what the nonlinearity behind it takes away. Each overwrites its
tensor in place, returns it, and draws from minigrad's generator, so that `minigrad.manual_seed` repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import minigrad as mg
from minigrad import ShapeError, Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "fan_in_and_out",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def __dir__() -> list[str]:
    return sorted(__all__)


GAINS: dict[str, Callable[[float], float]] = {
    "linear": lambda slope: 1.0,
    "conv1d": lambda slope: 1.0,
    "conv2d": lambda slope: 1.0,
    "conv_transpose2d": lambda slope: 1.0,
    "sigmoid": lambda slope: 1.0,
    "tanh": lambda slope: 5.0 / 3,
    "relu": lambda slope: math.sqrt(2),
    "leaky_relu": lambda slope: math.sqrt(2 / (1 + slope**2)),
    "selu": lambda slope: 3.0 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that undoes what a nonlinearity takes from a signal's standard deviation (PyTorch's table).

    `param` is the negative slope of "leaky_relu", 0.01 if left out.
    """
    if nonlinearity not in GAINS:
        raise ValueError(f"calculate_gain: nonlinearity {nonlinearity!r}; expected one of {', '.join(GAINS)}.")
    return GAINS[nonlinearity](0.01 if param is None else param)


# --- constants ---


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Set every element to `val`."""
    return tensor.copy_(mg.full_like(tensor, val))


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return constant_(tensor, 1)


def eye_(tensor: Tensor) -> Tensor:
    """Ones on the diagonal of a matrix, zeros elsewhere: the identity, as far as the shape allows."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: a tensor of shape {tensor.shape}; expected a matrix (2 axes).")
    n, m = tensor.shape
    return tensor.copy_(mg.eye(n, m, dtype=tensor.dtype, device=tensor.device))


# --- uniform and normal ---


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform random numbers from [a, b)."""
    if not a <= b:
        raise ValueError(f"uniform_: a={a} is larger than b={b}.")
    return tensor.copy_(mg.rand(*tensor.shape, dtype=tensor.dtype, device=tensor.device) * (b - a) + a)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal random numbers."""
    if not std >= 0:
        raise ValueError(f"normal_: std={std}; a standard deviation is at least 0.")
    return tensor.copy_(mg.randn(*tensor.shape, dtype=tensor.dtype, device=tensor.device) * std + mean)


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Normal random numbers, those outside of [a, b] drawn again.

    Raises
    ------
    ValueError
        If less than a thousandth of the normal distribution lies in [a, b]: drawing again would take too long.
    """
    if not (std > 0 and a < b):
        raise ValueError(f"trunc_normal_: std={std}, a={a}, b={b}; expected std > 0 and a < b.")
    below, above = (0.5 * (1 + math.erf((bound - mean) / (std * math.sqrt(2)))) for bound in (a, b))
    if above - below < 1e-3:
        raise ValueError(
            f"trunc_normal_: [{a}, {b}] holds {above - below:.2g} of a normal distribution of mean {mean} and standard "
            f"deviation {std}; move it towards the mean, or use uniform_."
        )
    values = np.full(tensor.size, np.inf)
    while (outside := np.flatnonzero((values < a) | (values > b))).size:
        values[outside] = mg.randn(outside.size, dtype=np.float64).numpy() * std + mean
    return tensor.copy_(_like(values, tensor))


# --- by fan in and fan out ---


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform on +-gain sqrt(6 / (fan_in + fan_out)): keeps variances both ways (Glorot & Bengio 2010, eq. 16)."""
    bound = gain * math.sqrt(6 / sum(fan_in_and_out(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal of standard deviation gain sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 12)."""
    return normal_(tensor, 0, gain * math.sqrt(2 / sum(fan_in_and_out(tensor))))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform on +-gain sqrt(3 / fan): keeps variances through rectifiers (He et al. 2015, eq. 10).

    `a` is the negative slope of "leaky_relu"; `mode` "fan_in" keeps them on the way forward, "fan_out" backward.
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal of standard deviation gain / sqrt(fan) (He et al. 2015, eq. 10); options as for kaiming_uniform_."""
    return normal_(tensor, 0, _kaiming_std(tensor, a, mode, nonlinearity))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming: mode={mode!r}; expected 'fan_in' or 'fan_out'.")
    fan = fan_in_and_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def fan_in_and_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs each output sums over, and how many outputs each input reaches, for a weight (out, in, ...)."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"a tensor of shape {tensor.shape} has no fan in and fan out; expected (out, in) or (out, in, kernel...)."
        )
    window = math.prod(tensor.shape[2:])
    fans = tensor.shape[1] * window, tensor.shape[0] * window
    if not all(fans):
        raise ShapeError(f"a weight of shape {tensor.shape} is empty: there is nothing to initialise.")
    return fans


# --- orthogonal ---


def orthogonal_(tensor: Tensor, gain: float = 1) -> Tensor:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times gain (Saxe et al. 2014).

    Axes after the first are taken together. Drawn on the CPU: QR of a normal matrix, signs made unique, so that all
    orthogonal matrices are equally likely (Mezzadri 2007).
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: a tensor of shape {tensor.shape}; expected at least 2 axes.")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    normal = mg.randn(max(rows, columns), min(rows, columns), dtype=np.float64).numpy()
    q, r = np.linalg.qr(normal)
    q = q * np.where(np.diagonal(r) < 0, -1, 1)
    q = q if rows >= columns else q.T
    return tensor.copy_(_like(gain * q, tensor))


def _like(values: np.ndarray, tensor: Tensor) -> Tensor:
    return mg.tensor(values.reshape(tensor.shape), dtype=tensor.dtype, device=tensor.device)
