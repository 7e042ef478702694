"""What is done to gradients on the way, between `backward()` and `step()`: clipping, noise, centralisation.

>>> loss.backward()
>>> clip_grad_norm_(model.parameters(), max_norm=1.0)
>>> optimizer.step()

All of these give each parameter a new gradient Tensor; the values of the old one do not change. Each reads a gradient
once and writes it once, the norm reads it once more. On a GPU the host waits for nothing: what depends on a norm is
computed there, with arithmetic in the place of branches ("scale if the norm is too large").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from typing import Any

import numpy as np

from minigrad import Tensor, as_tensor, clip, is_grad_enabled, randn
from minigrad.backend import Array, device_of, namespace, to_device
from minigrad.backend.gpu import gradients as on_device
from minigrad.backend.threads import cut, parallel, single_threaded_blas

from .optimizer import THREADED
from .options import check_flag, check_number

CHUNK = 131072  # elements whose norm is taken at a time, so that they stay in cache


# --- clipping ---


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    *,
    eps: float = 1e-6,
) -> Tensor:
    """Scale all gradients by one factor, so that together they are no longer than `max_norm`.

    With the norm n of all gradients as one vector, each is multiplied by `min(1, max_norm / (n + eps))`: the direction
    stays (Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", algorithm 1).

    Parameters
    ----------
    parameters : iterable of Tensor, or one
        Those without a gradient are passed over.
    max_norm : float
    norm_type : float
        The p of the norm: 2, 1, any other positive number, or `inf`.
    error_if_nonfinite : bool
        Raise if the norm is NaN or infinite; for that the host waits. Otherwise a NaN makes all gradients NaN, and
        an infinity makes them 0 but for its own, which becomes NaN.
    eps : float
        PyTorch's 1e-6, which makes gradients shorter by about one millionth than they were to be. 0 does it exactly;
        neither divides by zero.

    Returns
    -------
    Tensor
        The norm before, a single number, on the device of the gradients.

    Raises
    ------
    RuntimeError
        With `error_if_nonfinite`; says of which parameter. Nothing is changed.
    ValueError, TypeError
        For options that make no sense.
    """
    check_flag("clip_grad_norm_", "error_if_nonfinite", error_if_nonfinite)
    owners = _with_gradients("clip_grad_norm_", parameters)
    norm = get_total_norm([p.grad for p in owners], norm_type)
    if error_if_nonfinite and not np.isfinite(norm.item()):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {norm.item()}. {_culprit(owners)}")
    clip_grads_with_norm_(owners, max_norm, norm, eps=eps)
    return norm


def get_total_norm(tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """The norm of all tensors together, as if they were one vector: a single number, where the first one lies.

    On a GPU it is computed there, without waiting for it. 0 for no tensors.
    """
    arrays: list[Any] = [tensor.data for tensor in ([tensors] if isinstance(tensors, Tensor) else tensors)]
    if not (isinstance(norm_type, (int, float)) and norm_type > 0):
        raise ValueError(f"get_total_norm: norm_type={norm_type!r}; expected a positive number or inf.")
    if not arrays:
        return Tensor(np.float32(0))  # type: ignore[arg-type]
    dtype = np.result_type(np.float32, *(array.dtype for array in arrays))
    p = float(norm_type)
    if all(namespace(array) is np for array in arrays):
        return Tensor(dtype.type(_norm_on_host(_norms_of_chunks(arrays, p), p)))
    if p == 2 and on_device.takes(arrays) and len({array.dtype for array in arrays}) == 1:
        return Tensor(on_device.norm(arrays))
    home = device_of(arrays[0])
    norms = [to_device(_norm(namespace(array), _at_least_32_bits(array.reshape(-1)), p), home) for array in arrays]
    xp = namespace(norms[0])
    return Tensor(_norm(xp, xp.stack([norm.astype(dtype) for norm in norms]), p))


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, *, eps: float = 1e-6
) -> None:
    """Scale gradients as `clip_grad_norm_` does, by a norm that is known already."""
    check_number("clip_grad_norm_", "max_norm", max_norm, 0)
    check_number("clip_grad_norm_", "eps", eps, 0)
    owners = _with_gradients("clip_grads_with_norm_", parameters)
    gradients = _for_kernels(owners)
    if gradients and device_of(total_norm.data) == device_of(gradients[0]):
        _give(owners, on_device.clip_by_norm(gradients, total_norm.data, max_norm, eps))
        return
    xp = namespace(total_norm.data)
    # min(1, max_norm / (n + eps)) without a branch, and without 0 / 0.
    lowest = max(float(max_norm), float(np.finfo(total_norm.dtype).tiny))
    factor = float(max_norm) / xp.maximum(total_norm.data + eps, lowest)
    if xp is np and factor == 1:  # the host knows already that there is nothing to do
        return
    factors: dict[Any, Array] = {}  # for each device and dtype
    for p in owners:
        place = p.grad.device, p.grad.dtype
        if place not in factors:
            factors[place] = to_device(factor, place[0]).astype(place[1])
        _replace(p, partial(_scaled, factor=factors[place]))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every number of the gradients into [-clip_value, clip_value]. NaN stays NaN. The direction changes."""
    check_number("clip_grad_value_", "clip_value", clip_value, 0)
    owners = _with_gradients("clip_grad_value_", parameters)
    if gradients := _for_kernels(owners):
        _give(owners, on_device.clip_by_value(gradients, clip_value))
        return
    for p in owners:
        _replace(p, lambda g: clip(g, low=-clip_value, high=clip_value))


# --- noise and centralisation ---


def gradient_noise_std(t: int, eta: float = 0.01, gamma: float = 0.55) -> float:
    """The standard deviation of the noise at step t: `sqrt(eta / (1 + t)^gamma)`. See `add_gradient_noise_`."""
    check_number("gradient noise", "t", t, 0)
    check_number("gradient noise", "eta", eta, 0)
    check_number("gradient noise", "gamma", gamma, 0)
    return (eta / (1 + t) ** gamma) ** 0.5


def add_gradient_noise_(parameters: Tensor | Iterable[Tensor], t: int, eta: float = 0.01, gamma: float = 0.55) -> None:
    """Add normal noise of variance `eta / (1 + t)^gamma` to every gradient; t counts the steps, from 0.

    Neelakantan et al. 2015, "Adding gradient noise improves learning for very deep networks", equation 1, where eta is
    0.01, 0.3 or 1 and gamma 0.55. The noise comes from the generators that `manual_seed` sets.
    """
    sigma = gradient_noise_std(t, eta, gamma)
    for p in _with_gradients("add_gradient_noise_", parameters):
        _replace(p, lambda g: _noisy(g, sigma))


def centralize_gradients_(parameters: Tensor | Iterable[Tensor]) -> None:
    """Take from each unit's gradient its mean over the unit's inputs: the weights' sums then stay what they are.

    Yong, Huang, Hua & Zhang 2020, "Gradient centralization: a new optimization technique for deep neural networks",
    equation 1. For weights (out, in, ...) the mean is over all axes but the first; biases and other vectors are
    left alone. It is the projection of the gradient on the weights of unchanged sum (equation 3), so it never
    grows.
    """
    for p in _with_gradients("centralize_gradients_", parameters):
        if p.ndim > 1 and p.size:
            _replace(p, lambda g: g - g.mean(axis=tuple(range(1, g.ndim)), keepdims=True))


# --- inside ---


def _with_gradients(owner: str, parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    if not isinstance(parameters, Iterable):
        raise TypeError(f"{owner}: expected parameters, got {type(parameters).__name__}; pass model.parameters().")
    parameters = list(parameters)
    for p in parameters:
        if not isinstance(p, Tensor):
            raise TypeError(f"{owner}: expected Tensors, got {type(p).__name__}; pass model.parameters().")
    return [p for p in parameters if p.grad is not None]


def _replace(p: Any, change: Callable[[Any], Any]) -> None:
    """Give p the changed gradient. One that is part of a graph (`create_graph=True`) stays part of it."""
    gradient = p.grad
    p.grad = as_tensor(change(gradient if gradient.requires_grad and is_grad_enabled() else gradient.data))


def _for_kernels(owners: list[Any]) -> list[Any]:
    """The arrays of the gradients, if kernels of a GPU take them all at once; none if one is part of a graph."""
    arrays = [p.grad.data for p in owners]
    in_graph = is_grad_enabled() and any(p.grad.requires_grad for p in owners)
    return [] if in_graph or not on_device.takes(arrays) else arrays


def _give(owners: list[Any], gradients: list[Any]) -> None:
    for p, g in zip(owners, gradients, strict=True):
        p.grad = Tensor(g)


def _culprit(owners: list[Any]) -> str:
    """Which gradient is not finite, in words."""
    for i, p in enumerate(owners):
        wrong = ~np.isfinite(p.grad.numpy())
        if wrong.any():
            name = f"{p.name!r}, " if p.name else ""
            return f"The gradient of parameter {i}, {name}shape {p.shape}, has {wrong.sum()} NaN or infinite numbers."
    return "Each gradient is finite, but their norm is too large for its dtype."


def _norm(xp: Any, x: Array, p: float) -> Array:
    """The p-norm of a vector, by operations of its array library."""
    if p == 2:
        return xp.sqrt(xp.dot(x, x))
    if p == 1:
        return xp.abs(x).sum()
    if p == inf:
        return xp.abs(x).max() if x.size else x.sum()
    return (xp.abs(x) ** p).sum() ** (1 / p)


def _norm_on_host(x: np.ndarray, p: float) -> float:
    """The same in NumPy, where powers that overflow or underflow are taken again of x over its largest number."""
    precision = np.finfo(x.dtype)
    with np.errstate(all="ignore"):
        norm = float(_norm(np, x, p))
        if (float(precision.tiny) / float(precision.eps)) ** (1 / p) < norm < inf or not x.size:
            return norm
        largest = np.abs(x).max()
        return float(largest) * float(_norm(np, x / largest, p)) if 0 < largest < inf else float(largest)


def _norms_of_chunks(arrays: list[np.ndarray], p: float) -> np.ndarray:
    """The norms of chunks that stay in cache; the chunks do not depend on the number of threads, so neither do sums."""
    flat = [np.ravel(array, order="K") for array in arrays]
    chunks = [x[place] for x in flat for place in cut(x.size, CHUNK)]
    norms = np.zeros(len(chunks))

    def take(i: int) -> None:
        norms[i] = _norm_on_host(_at_least_32_bits(chunks[i]), p)

    if sum(x.size for x in flat) >= THREADED:
        parallel(take, range(len(chunks)))
    else:
        with single_threaded_blas():
            for i in range(len(chunks)):
                take(i)
    return norms


def _at_least_32_bits(x: Any) -> Any:
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _scaled(g: Any, factor: Any) -> Any:
    if type(g) is not np.ndarray or g.size < THREADED:
        return g * factor
    out = np.empty_like(g)
    source, target = np.ravel(g, order="K"), np.ravel(out, order="K")
    if not np.shares_memory(target, out):
        return g * factor
    parallel(lambda part: np.multiply(source[part], factor, out=target[part]), cut(g.size, CHUNK))
    return out


def _noisy(g: Any, sigma: float) -> Any:
    noise = randn(*g.shape, dtype=g.dtype, device=g.device if isinstance(g, Tensor) else device_of(g)).data
    if isinstance(g, Tensor) or not g.ndim:
        return g + noise * g.dtype.type(sigma)
    noise *= sigma
    noise += g
    return noise
