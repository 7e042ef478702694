"""curve_fit: the parameters of a curve through data, and how well the data tell them.

A fit is a least-squares problem: its residuals are differences divided by the errors of the data, or, where errors go
together, differences that a triangular factor of their covariance has made independent.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import Tensor
from minigrad.backend import Array, is_array, namespace
from minigrad.linalg import solve_triangular

from .covariance import covariance, deviations
from .end_checks import running_off
from .least_squares import UNBOUNDED, least_squares


def curve_fit(
    f: Callable,
    xdata: Any,
    ydata: Any,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: Any = UNBOUNDED,
    method: str | None = None,
    jac: Callable | str | None = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    maxfev: int | None = None,
    **options: Any,
) -> tuple:
    """The parameters with which `f(x, *parameters)` fits the data best, and their covariance.

    Parameters
    ----------
    f : callable
        From xdata and each parameter, Tensors, to the predicted ydata, written in minigrad's ops.
    xdata : array, Tensor, or anything that `f` understands
        An array or a list of numbers comes to `f` as a Tensor, everything else as it is.
    ydata : array or Tensor
        The observations, of the shape that `f` returns.
    p0 : array or Tensor (n,), optional
        The parameters to start from; ones if not given, inside of the bounds.
    sigma : array, optional
        The standard deviation of the errors of ydata: a number, one for each observation (infinite: no weight), or the
        covariance matrix of all.
    absolute_sigma : bool
        Whether sigma is meant as it stands. If not, only the ratios in it count, and the covariance is scaled by what
        the residuals show.
    check_finite : bool, optional
        Whether NaN and infinity in the data are an error; True unless a `nan_policy` is given.
    bounds, method, **options : see `least_squares`
    jac : callable or str, optional
        `jac(x, *parameters)`, the derivatives of f, (m, n), or "2-point", "3-point" or "cs": by differences. With
        either, f gets arrays and may be plain NumPy. If not given: the engine's.
    full_output : bool
        Whether to return more, as SciPy's curve_fit does.
    nan_policy : "raise" or "omit", optional
        "omit" leaves out observations where xdata or ydata is NaN.
    maxfev : int, optional
        `max_nfev` by SciPy's other name.

    Returns
    -------
    popt : array (n,)
    pcov : array (n, n)
        The covariance of popt; the roots of its diagonal are standard deviations. Infinite, with a warning, where the
        data do not tell all parameters.
    infodict, mesg, ier
        With `full_output`: the whole result of `least_squares`, its message, and its status.

    Raises
    ------
    RuntimeError
        Where the fit did not succeed; the message says why.
    ValueError, TypeError
        For arguments that do not fit.
    """
    if method == "matrix-free":
        raise ValueError("curve_fit: method 'matrix-free' has no Jacobian to give a covariance; use least_squares.")
    if nan_policy not in (None, "raise", "omit"):
        raise ValueError(f"curve_fit: nan_policy={nan_policy!r}; expected 'raise', 'omit' or None.")
    check_finite = nan_policy != "omit" if check_finite is None else check_finite
    y = _floats(ydata, "ydata", check_finite)
    given: Any = _floats(xdata, "xdata", check_finite, y) if _is_data(xdata) else xdata
    if nan_policy == "omit":
        given, y, sigma = _without_nan(given, y, sigma)
    as_tensors = Data(given, y, sigma, Tensor) if jac is None else None
    as_arrays = Data(given, y, sigma, _unchanged)  # with a jac, f may be plain NumPy

    def residuals(p):
        data = as_tensors if as_tensors is not None and isinstance(p, Tensor) else as_arrays
        predicted = f(data.x, *(p[i] for i in range(p.size)))
        if predicted is None:
            raise TypeError(
                "curve_fit: f returned None; it must return what it predicts for ydata. Is a return missing?"
            )
        if np.shape(predicted) != y.shape:
            raise ValueError(
                f"curve_fit: f returned shape {np.shape(predicted)} for ydata {y.shape}; it must predict each "
                "observation."
            )
        return data.normalized(predicted - data.y)

    def jacobian(p):
        return as_arrays.normalized(jac(as_arrays.x, *(p[i] for i in range(p.size))))

    start = _start(f, p0, bounds, y)
    if maxfev is not None:
        options.setdefault("max_nfev", maxfev)
    derivative = jacobian if callable(jac) else jac
    found = least_squares(residuals, start, derivative, bounds, method, **options)
    if not found.success:
        raise RuntimeError(f"curve_fit: no fit was found: {found.message}.")
    cov = covariance(found.jac)[0] if absolute_sigma else found.cov
    trouble = _trouble_of(cov, found, y.size)
    if trouble:
        warnings.warn(f"curve_fit: {trouble}", RuntimeWarning, stacklevel=2)
    if not full_output:
        return found.x, cov
    found["fvec"] = found.fun
    return found.x, cov, found, found.message, found.status


DOUBTFUL = 1e8
"""A standard deviation of so many times the parameter says that the data do not tell it."""


def _trouble_of(cov: Array, found: Any, m: int) -> str | None:
    """What is wrong with the covariance, in words; None if nothing is."""
    xp, n, jac = namespace(cov), cov.shape[0], found.jac
    if not bool(xp.isfinite(cov).all()):
        if covariance(jac)[1] == n and m <= n:
            return (
                f"the {m} observations are no more than the {n} parameters, so that nothing is left to estimate errors "
                "from, and the covariance is infinite; take more data, or give sigma and absolute_sigma=True."
            )
        return (
            f"the {m} observations do not determine all {n} parameters, so their covariance is infinite; leave "
            "parameters out, or take more data."
        )
    best = found.x.data if isinstance(found.x, Tensor) else found.x
    lost = (deviations(cov) > DOUBTFUL * abs(best)) & (best != 0)
    lost |= running_off(jac, best, found.cost)
    if bool(lost.any()):
        return (
            "the covariance is not to be trusted: standard deviations are many times as large as the parameters, which "
            "the data do not tell; start elsewhere, give bounds, or leave parameters out."
        )
    return None


class Data:
    """The data as f gets them: Tensors, or arrays."""

    def __init__(self, x: Any, y: Array, sigma: Any, make: Callable):
        self.x = make(x) if is_array(x) else x
        self.y, self.normalized = make(y), _normalizer(sigma, y, make)


def _without_nan(x: Any, y: Array, sigma: Any) -> tuple[Any, Array, Any]:
    """The observations without NaN in x or y."""
    if y.ndim != 1 or not is_array(x) or x.shape[-1:] != y.shape:
        raise ValueError("curve_fit: nan_policy='omit' needs xdata (m,) or (k, m) and ydata (m,).")
    xp = namespace(y)
    kept = ~(xp.isnan(y) | xp.isnan(x.reshape((-1, y.size))).any(axis=0))
    if sigma is not None:
        sigma = _floats(sigma, "sigma", False, y)
        sigma = sigma if sigma.size == 1 else sigma[kept] if sigma.ndim == 1 else sigma[kept][:, kept]
    return x[..., kept], y[kept], sigma


def _is_data(value: Any) -> bool:
    return isinstance(value, (Tensor, list, tuple)) or is_array(value)


def _unchanged(array: Array) -> Array:
    return array


def _floats(value: Any, name: str, check_finite: bool, beside: Array | None = None) -> Array:
    """Data as a floating-point array, where `beside` lies if they come as a list."""
    array = value.data if isinstance(value, Tensor) else value
    if not is_array(array):
        array = (np if beside is None else namespace(beside)).asarray(array, dtype=float)
    if array.dtype.kind != "f":
        array = array.astype(float)
    if check_finite and not bool(namespace(array).isfinite(array).all()):
        raise ValueError(f"curve_fit: {name} holds NaN or infinity; leave these observations out.")
    return array


def _normalizer(sigma: Any, y: Array, make: Callable) -> Callable:
    """What gives differences from y, or their derivatives (m, n), errors that are independent and of size one."""
    if sigma is None:
        return _unchanged
    xp = namespace(y)
    sigma = _floats(sigma, "sigma", False, y)
    if bool(xp.isnan(sigma).any()):
        raise ValueError("curve_fit: sigma holds NaN; leave these observations out, or give infinity for no weight.")
    if sigma.shape == (1, 1) == (y.size, y.ndim):
        sigma = xp.sqrt(sigma[0])  # a covariance of one observation
    if (sigma.ndim < 2 and sigma.size == 1) or sigma.shape == y.shape:
        if not bool((sigma > 0).all()):
            raise ValueError("curve_fit: sigma holds a number that is not positive; standard deviations are.")
        deviations = make(xp.broadcast_to(sigma, y.shape).astype(y.dtype))
        return lambda d: d / deviations.reshape(*y.shape, *[1] * (d.ndim - y.ndim))
    if sigma.shape != (y.size, y.size) or y.ndim != 1:
        raise ValueError(
            f"curve_fit: sigma has shape {sigma.shape}; expected {y.shape}, a deviation for each observation, or "
            f"{(y.size, y.size)}, the covariance of all."
        )
    factor = _factor(sigma, xp)
    triangle = make(factor.astype(y.dtype))
    return lambda d: solve_triangular(triangle, d, lower=True)


UNSYMMETRIC = 1e-5
"""The share of the largest entry by which a covariance may be unsymmetric: that much rounding leaves in float32."""


def _factor(sigma: Array, xp: Any) -> Array:
    """The Cholesky factor, for which libraries look at one triangle only; CuPy gives NaN where NumPy raises."""
    with np.errstate(invalid="ignore"):
        is_symmetric = bool((abs(sigma - sigma.T) <= UNSYMMETRIC * abs(sigma).max()).all())
    try:
        factor = xp.linalg.cholesky(sigma)
        if is_symmetric and bool((xp.diagonal(factor) > 0).all()):
            return factor
    except np.linalg.LinAlgError:
        pass
    raise ValueError("curve_fit: sigma is a matrix, but no covariance: it must be symmetric positive definite.")


def _start(f: Callable, p0: Any, bounds: Any, y: Array) -> Any:
    """The parameters to start from; ones, or a point within bounds, for as many as f has."""
    if p0 is not None:
        return p0
    kinds = inspect.Parameter
    by_keyword = kinds.KEYWORD_ONLY, kinds.VAR_KEYWORD  # as what functools.partial names: no parameters to fit
    parameters = [p for p in inspect.signature(f).parameters.values() if p.kind not in by_keyword][1:]
    if not parameters or any(p.kind is kinds.VAR_POSITIONAL for p in parameters):
        raise ValueError("curve_fit: how many parameters f takes cannot be told from its signature; give p0.")
    lower, upper = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
    lower, upper = (np.broadcast_to(np.asarray(b, dtype=float), len(parameters)) for b in (lower, upper))
    least, most = np.isfinite(lower), np.isfinite(upper)
    start = np.where(least, lower + 1, np.where(most, upper - 1, 1.0))
    both = least & most
    start[both] = (lower[both] + upper[both]) / 2
    return namespace(y).asarray(start)
