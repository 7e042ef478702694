"""Shared by all of linear algebra: checks of shapes and of results, and several factors in one array.

After this file you know that a failed decomposition is found by looking at its result, since CuPy, unlike NumPy,
returns NaN or what was computed so far; and how an op of one result, as all ops are, can yet give two factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.backend import bare, is_array, namespace
from minigrad.ops.arithmetic import where
from minigrad.ops.shapes import concatenate

LinAlgError = np.linalg.LinAlgError


def t(x):
    """The matrices transposed."""
    return x.swapaxes(-1, -2)


def symmetric_part(x):
    """(x + x') / 2, which is x itself to the last bit where x is symmetric."""
    return (x + t(x)) * 0.5


def some(mask) -> bool:
    """Whether any element is true, in any example of a vmap."""
    return bool(bare(mask).any())


def finite(x) -> bool:
    """Whether no element is NaN or infinite, in any example."""
    x = array_of(x)
    return not some(~namespace(x).isfinite(x))


# --- checking the arguments ---


def _check_array(op: str, x) -> None:
    if not isinstance(x, Tensor) and not is_array(x):
        raise TypeError(
            f"{op}: expected Tensors or arrays, got {type(x).__name__}; make a Tensor of it with minigrad.tensor(...)."
        )


def check_matrix(op: str, a, square: bool = False) -> None:
    """Raise unless `a` is an array of matrices of a dtype that can be decomposed."""
    _check_array(op, a)
    if a.ndim < 2:
        raise ShapeError(f"{op}: expected matrices, in the last two axes; got shape {a.shape}.")
    if square and a.shape[-1] != a.shape[-2]:
        raise ShapeError(
            f"{op}: expected square matrices in the last two axes, got {a.shape}; for others see lstsq and pinv."
        )
    if a.dtype == np.float16:
        raise TypeError(f"{op}: float16 has no linear algebra, in NumPy nor in CuPy; use .astype(float32).")


def check_system(op: str, a, b) -> tuple[int, ...]:
    """Raise unless b has as many rows as a (a vector: entries); returns the batch axes of both, broadcast."""
    _check_array(op, b)
    rows = b.shape[-2] if b.ndim > 1 else b.shape[0] if b.ndim else 0
    if b.ndim == 0 or rows != a.shape[-2]:
        raise ShapeError(
            f"{op}: a right-hand side of shape {b.shape} for matrices of shape {a.shape}; expected "
            f"({a.shape[-2]},) or (..., {a.shape[-2]}, k). Many vectors are columns: b[..., None] makes one of each."
        )
    try:
        return np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(f"{op}: the batch axes of {a.shape} and {b.shape} do not broadcast.") from None


# --- checking the result ---


def attempt(op: str, compute: Callable[[], Any], a, failure: str, given=None) -> Any:
    """The array, or tuple of arrays, that `compute()` makes of the matrices `a`; LinAlgError if it is not finite.

    `failure` says why there is none. A right-hand side `given` may hold NaN and infinity: they go through.
    """
    which = f"{op}: the matrix {a.shape}" if a.ndim == 2 else f"{op}: a matrix of the batch {a.shape}"
    if not finite(a):
        raise LinAlgError(f"{which} holds NaN or infinity; see where it comes from (minigrad.isfinite).")
    try:
        with _failures_raised(namespace(bare(a))):
            out = compute()
    except LinAlgError as error:
        raise LinAlgError(f"{which} {failure}") from error
    parts = out if isinstance(out, tuple) else (out,)
    if all(finite(part) for part in parts) or (given is not None and not finite(given)):
        return out
    raise LinAlgError(f"{which} {failure}")


def _failures_raised(xp: Any) -> AbstractContextManager:
    """CuPy told to look at what its solvers report, as NumPy does unasked. It waits for the device, as we do anyway."""
    if xp.__name__ != "cupy":
        return nullcontext()
    from cupyx import errstate

    return errstate(linalg="raise")


def identity(a, size: int):
    """The identity matrix, in the dtype and on the device of a."""
    a = array_of(a)
    return namespace(a).eye(size, dtype=a.dtype)


# --- several factors in one array ---


def pack(batch: tuple[int, ...], *factors):
    """Factors with these batch axes, each written out in one line, side by side along the last axis."""
    return concatenate([f.reshape((*batch, math.prod(f.shape[len(batch) :]))) for f in factors], axis=-1)


def unpack(packed, *shapes: tuple[int, ...]) -> list:
    """The factors, of these shapes behind the batch axes, that lie side by side in `packed`."""
    factors, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        factors.append(packed[..., start:stop].reshape((*packed.shape[:-1], *shape)))
        start = stop
    return factors


# --- nearness ---


def rounding(values):
    """How far two of the numbers along the last axis must lie apart to be told apart: 10 sqrt(n) eps of the largest."""
    values = array_of(values)
    n, eps = values.shape[-1], float(np.finfo(values.dtype).eps)
    return 10 * math.sqrt(n) * eps * namespace(values).abs(values).max(axis=-1, keepdims=True) if n else values


def inverse_unless(close, x):
    """1 / x, but 0 where `close`."""
    return where(close, 0.0, 1 / where(close, 1.0, x))
