"""Iterative solvers on plain arrays: cg, jacobi, gauss_seidel, and lsmr. Public as `minigrad.linalg.iterative`.

After this file you know what an iterative solver needs of a matrix, its product with a vector, and how it ends: it says
whether it converged and, if not, why. These functions build no graph, and report a failure to converge without
raising; `minigrad.linalg.cg` and its kin are the same solvers as differentiable functions, which raise.

The matrix A is an array (n, n) or a function v -> A v. A right-hand side is a vector (n,) or columns (n, k), each
solved as if it were alone; a function is then given (n, k). The host looks at the device once an iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.tensor import array_of
from minigrad.backend import Array, bare, namespace
from minigrad.ops.linalg.lsmr import LeastSquaresSolution, lsmr
from minigrad.ops.linalg.matrices import LinAlgError, finite, identity, some
from minigrad.ops.linalg.operators import (
    Operator,
    as_function,
    check_plain,
    column_dot,
    column_norm,
    fitting,
    floats,
    threshold,
)
from minigrad.ops.linalg.solving import solve_triangular
from minigrad.ops.products import matmul
from minigrad.ops.shapes import diagonal as diagonal_of

__all__ = ["ConvergenceError", "LeastSquaresSolution", "Solution", "cg", "gauss_seidel", "jacobi", "lsmr"]


class Solution(NamedTuple):
    """The result of an iterative solver.

    x : the last iterate, of b's shape
    converged : whether every column reached its tolerance
    iterations : products with A, apart from the one that a start x0 costs
    residual_norm : |b - A x| as the recurrence has it, one number a column; it stays on the device
    reason : in words, why the solver stopped
    direction : where `cg` met p'Ap <= 0, that p (zero in columns where it did not); else None
    """

    x: Array
    converged: bool
    iterations: int
    residual_norm: Array
    reason: str
    direction: Array | None = None


class ConvergenceError(LinAlgError):
    """An iterative solver that did not reach its tolerance, where only a solution will do."""


def cg(
    A: Operator,
    b: Array,
    *,
    x0: Array | None = None,
    rtol: float = 1e-5,
    atol: float | Array = 0.0,
    maxiter: int | None = None,
    M: Operator | None = None,
    callback: Callable[[Array], object] | None = None,
) -> Solution:
    """Conjugate gradients for a symmetric positive definite A (Hestenes & Stiefel 1952), preconditioned by M.

    Parameters
    ----------
    A : array (n, n), or a function that gives A v for v of b's shape
    b : array (n,) or (n, k)
    x0 : where to start, of b's shape; zero by default
    rtol, atol : done when |b - A x| <= max(rtol |b|, atol), as in SciPy
    maxiter : the most products with A; 10 n by default
    M : an approximation of the inverse of A, symmetric positive definite: array (n, n), or a function r -> M r
    callback : called with x after each iteration

    Whatever happens is said in the result: a direction of no positive curvature (A is not positive definite; x is what
    was reached before it), an M that is not positive definite, NaN or infinity, the end of `maxiter`.
    Raises ShapeError for shapes that do not fit.
    """
    apply, precondition = as_function("cg", A, b), _preconditioner("cg", M, b)
    b = floats("cg", b)
    x, r = _start("cg", apply, b, x0)
    allowed = threshold(b, rtol, atol)
    z = p = precondition(r)
    product, curvature = column_dot(r, z), None
    running = ~(column_norm(r) <= allowed)  # not `>`: a NaN has not arrived anywhere
    bent = running & False
    iterations, limit = 0, 10 * b.shape[0] if maxiter is None else maxiter
    while iterations < limit and some(running):
        image = fitting("cg", apply(p), b)
        curvature = column_dot(p, image)
        usable = (curvature > 0) & (product > 0)
        bent, running = bent | (running & ~usable), running & usable
        step = _ratio(product, curvature, running)
        x = x + step * p
        r = r - step * image
        z = precondition(r)
        previous, product = product, column_dot(r, z)
        p = z * running + _ratio(product, previous, running, otherwise=1.0) * p  # p stays where it was bent
        iterations += 1
        if callback is not None:
            callback(x)
        running = running & ~(column_norm(r) <= allowed)

    norm = column_norm(r)
    if some(bent):
        return _broken(x, iterations, norm, bent, p, curvature, product)
    return Solution(x, not some(running), iterations, norm, _outcome(running, norm, allowed, iterations))


def jacobi(
    A: Operator,
    b: Array,
    *,
    diagonal: Array | None = None,
    x0: Array | None = None,
    rtol: float = 1e-5,
    atol: float | Array = 0.0,
    maxiter: int = 1000,
    callback: Callable[[Array], object] | None = None,
) -> Solution:
    """Jacobi's iteration x <- x + (b - A x) / D, D the diagonal of A, which a function A is given beside.

    Converges from every start if and only if the spectral radius of 1 - A / D is below 1, for which strict diagonal
    dominance suffices (Saad 2003, theorem 4.9). Other parameters as in `cg`. Raises LinAlgError for a zero in D.
    """
    d = floats("jacobi", _diagonal(A, b) if diagonal is None else diagonal)
    if d.shape != b.shape[:1]:
        raise ShapeError(f"jacobi: a diagonal of shape {d.shape} for a right-hand side {b.shape}; give {b.shape[:1]}.")
    if some(d == 0):
        raise LinAlgError("jacobi: a zero on the diagonal of A, by which Jacobi's iteration divides; use cg or solve.")
    d = d[:, None] if b.ndim == 2 else d
    return _stationary("jacobi", A, b, lambda r: r / d, x0, rtol, atol, maxiter, callback)


def gauss_seidel(
    A: Array,
    b: Array,
    *,
    backward: bool = False,
    x0: Array | None = None,
    rtol: float = 1e-5,
    atol: float | Array = 0.0,
    maxiter: int = 1000,
    callback: Callable[[Array], object] | None = None,
) -> Solution:
    """Gauss-Seidel iteration x <- x + (D + L)^-1 (b - A x), D + L the lower triangle of A, which must be an array.

    With `backward` the upper triangle: a sweep from the last unknown to the first. Converges for every symmetric
    positive definite A (Saad 2003, theorem 4.10), else if and only if the spectral radius of 1 - (D + L)^-1 A is
    below 1. Other parameters as in `cg`. Raises LinAlgError for a zero on the diagonal.

    The sweep is a product with the inverse of the triangle, which is made once: the unknowns one after another would be
    a call of the array library for each of them.
    """
    if callable(A):
        raise TypeError("gauss_seidel: expected a matrix, got a function; it needs the triangle of A. See cg, jacobi.")
    as_function("gauss_seidel", A, b)
    A = floats("gauss_seidel", A)
    inverse = solve_triangular(A, identity(A, A.shape[0]), lower=not backward)
    return _stationary("gauss_seidel", A, b, lambda r: matmul(inverse, r), x0, rtol, atol, maxiter, callback)


def _stationary(op, A, b, correction, x0, rtol, atol, maxiter, callback) -> Solution:
    """x <- x + correction(b - A x), for each column until it is done."""
    apply = as_function(op, A, b)
    b = floats(op, b)
    x, r = _start(op, apply, b, x0)
    allowed = threshold(b, rtol, atol)
    norm = before = earlier = column_norm(r)
    running = ~(norm <= allowed)
    iterations = 0
    with np.errstate(over="ignore", invalid="ignore"):  # where it diverges: the result says so
        while iterations < maxiter and some(running & namespace(norm).isfinite(norm)):
            x = x + correction(r) * running
            r = b - fitting(op, apply(x), b)
            earlier, before, norm = before, norm, column_norm(r)
            running = running & ~(norm <= allowed)
            iterations += 1
            if callback is not None:
                callback(x)
    reason = _outcome(running, norm, allowed, iterations)
    if some(running) and iterations:
        last, first = (norm, before) if finite(norm) else (before, earlier)
        growth = _largest(_ratio(last, first, running & namespace(last).isfinite(last) & (first > 0)))
        reason += f"; the last iteration multiplied it by {growth:.3g}, and it must come to less than 1"
    return Solution(x, not some(running), iterations, norm, reason)


# --- how it ended ---


def _ratio(a: Array, b: Array, valid: Array, otherwise: float = 0.0) -> Array:
    """a / b where valid."""
    where = namespace(valid).where
    return where(valid, where(valid, a, 0.0) / where(valid, b, 1.0), otherwise)


def _largest(values: Array) -> float:
    return float(bare(values).max()) if bare(values).size else 0.0


def _outcome(running: Array, norm: Array, allowed: Array, iterations: int) -> str:
    """The words for an ending without breakdown."""
    if not some(running):
        return "converged"
    if not finite(norm):
        return f"the residual is not finite after {iterations} iterations"
    apart = _largest(_ratio(norm, allowed, running & (allowed > 0)))
    times = f", {apart:.3g} times what the tolerance allows" if apart else ""
    return f"the residual norm is {_largest(norm):.3g} after {iterations} iterations{times}"


def _broken(x, iterations, norm, bent, p, curvature, product) -> Solution:
    """The result of `cg` where it could not go on in the columns `bent`."""
    if not finite(curvature) or not finite(product):
        return Solution(x, False, iterations, norm, "A, M or b holds NaN or infinity")
    if some(bent & ~(product > 0)):
        return Solution(x, False, iterations, norm, "r'Mr <= 0 for a residual r: M is not positive definite")
    reason = "p'Ap <= 0 along `direction`: A is not positive definite"
    return Solution(x, False, iterations, norm, reason, p * bent)


# --- checking the arguments ---


def _preconditioner(op: str, M: Operator | None, b: Array) -> Callable[[Array], Array]:
    return (lambda r: r) if M is None else as_function(op, M, b)


def _diagonal(A: Operator, b: Array) -> Array:
    if callable(A):
        raise TypeError("jacobi: A is a function, so its diagonal cannot be read; give it as diagonal=, an array (n,).")
    as_function("jacobi", A, b)
    return array_of(diagonal_of(A))


def _start(op: str, apply: Callable, b: Array, x0: Array | None) -> tuple[Array, Array]:
    """(x, b - A x) to begin with."""
    if x0 is None:
        return namespace(b).zeros_like(b), b
    check_plain(op, x0)
    if x0.shape != b.shape:
        raise ShapeError(
            f"{op}: a start x0 of shape {x0.shape} for a right-hand side {b.shape}; they must be the same."
        )
    x0 = floats(op, x0)
    return x0, b - fitting(op, apply(x0), b)
