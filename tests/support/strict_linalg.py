"""CuPy's linear algebra, as the strict stand-in gives it: what fails, fails in silence.

CuPy does not look at what its solvers report unless told to, since it would have to wait for the device. Instead of an
error a caller gets NaN, or a factor as far as it went. `solve` does not broadcast either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def unreported(name: str, function: Callable) -> Callable:
    """NumPy's function of this name with CuPy's manners; named tuples become plain ones."""

    def run(*args, **options) -> Any:
        if name == "solve" and args[1].ndim > 1 and args[0].shape[:-1] != args[1].shape[:-1]:
            raise ValueError("a must have (..., M, M) shape and b must have (..., M, K) for multidimensional b")
        try:
            result = function(*args, **options)
        except np.linalg.LinAlgError:
            result = _unfinished_cholesky(args[0]) if name == "cholesky" else _nothing_but_nan(function, args, options)
        return tuple(result) if isinstance(result, tuple) else result

    return run


def _nothing_but_nan(function: Callable, args: tuple, options: dict) -> Any:
    """NaN in the shapes of the result, which are those for identity matrices."""
    harmless = [np.broadcast_to(np.eye(*x.shape[-2:], dtype=x.dtype), x.shape) for x in args]
    result = function(*harmless, **options)
    return tuple(x * np.nan for x in result) if isinstance(result, tuple) else result * np.nan


def _unfinished_cholesky(a: np.ndarray) -> np.ndarray:
    """L as far as LAPACK comes: it stops at the first pivot that is not positive and leaves the rest as it stands."""
    out = np.tril(a)
    for place in np.ndindex(a.shape[:-2]):
        left = out[place]
        for j in range(len(left)):
            if not left[j, j] > 0:
                break
            left[j:, j] /= np.sqrt(left[j, j])
            left[j + 1 :, j + 1 :] -= np.tril(np.outer(left[j + 1 :, j], left[j + 1 :, j]))
    return out
