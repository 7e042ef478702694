"""Shared by the iterative solvers: a matrix as a function of vectors, lengths of columns, and the checks of both.

An operator is an array (n, n) or a function v -> A v. Each column of a right-hand side is solved for as if it were
alone: a quantity that is one number for a vector is one number for each column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.tensor import Tensor, array_of
from minigrad.backend import Array, is_array, namespace
from minigrad.ops.linalg.matrices import check_matrix, check_system
from minigrad.ops.products import matmul

Operator: TypeAlias = Array | Callable[[Array], Array]
"""An array (n, n), or a function v -> A v."""


# --- columns ---


def column_dot(a: Array, b: Array) -> Array:
    """The inner product of two vectors, or of each column of one with that of the other."""
    return (a * b).sum(axis=0)


def column_norm(a: Array) -> Array:
    """The length of a vector, or of each column."""
    return namespace(a).sqrt(column_dot(a, a))


def threshold(b: Array, rtol: float, atol: float | Array) -> Array:
    """How long the residual of b may be: SciPy's rule, max(rtol |b|, atol)."""
    norm = column_norm(b)
    return namespace(norm).maximum(rtol * norm, atol)


# --- checking the arguments ---


def as_function(op: str, A: Operator, b: Array) -> Callable[[Array], Array]:
    """A as a function of vectors; an error unless it fits b."""
    check_plain(op, b)
    if b.ndim not in (1, 2):
        raise ShapeError(f"{op}: a right-hand side of shape {b.shape}; expected a vector (n,) or columns (n, k).")
    if callable(A):
        return A
    check_plain(op, A)
    check_matrix(op, A, square=True)
    if A.ndim != 2:
        raise ShapeError(
            f"{op}: expected one matrix (n, n), got {A.shape}; for a batch of matrices see vmap and solve."
        )
    check_system(op, A, b)
    return lambda v: array_of(matmul(A, v))


def check_plain(op: str, x: object) -> None:
    if isinstance(x, Tensor):
        raise TypeError(f"iterative.{op} is for plain arrays, and got a Tensor; minigrad.linalg.{op} takes Tensors.")
    if not is_array(x):
        raise TypeError(
            f"{op}: expected an array, got {type(x).__name__}; a matrix of another library can be given as a "
            "function, lambda v: A @ v."
        )


def floats(op: str, x: Array) -> Array:
    """Integers as float64, as everywhere in linear algebra; float16 refused."""
    if x.dtype == np.float16:
        raise TypeError(f"{op}: float16 is too coarse for an iterative solver; use .astype(float32).")
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def fitting(op: str, image: Any, b: Array) -> Array:
    """A product with A, checked to have the shape of b."""
    if getattr(image, "shape", None) != b.shape:
        raise ShapeError(
            f"{op}: A made {getattr(image, 'shape', type(image).__name__)} of a vector of shape {b.shape}; "
            "expected the same shape."
        )
    return image
