"""cg, jacobi, gauss_seidel and lsmr as differentiable functions. Public in `minigrad.linalg`.

The solvers run on arrays (`minigrad.linalg.iterative`). For its derivative each needs a solver for the transposed
operator that converges whenever it does itself.

Derivatives of every order hold, by b and by whatever A is made of, in reverse and forward mode; start, preconditioner
and tolerances have none. A derivative is as exact as its tolerance: each is a solve of its own, with the same rtol.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from minigrad.autograd.errors import ShapeError
from minigrad.autograd.tensor import Tensor, array_of, as_tensor
from minigrad.backend import Array, namespace
from minigrad.ops.linalg import iterative
from minigrad.ops.linalg.iterative import ConvergenceError
from minigrad.ops.linalg.matrices import check_matrix, check_system, t
from minigrad.ops.linalg.operators import column_norm
from minigrad.ops.shapes import concatenate
from minigrad.transforms.derivatives import vjp
from minigrad.transforms.linear_solve import Apply, Solver, System, right_hand_side, solution_of

Operator: TypeAlias = Tensor | np.ndarray | Callable[[Tensor], Tensor]
"""A matrix, or a linear function of a Tensor."""


def cg(
    A: Operator,
    b: ArrayLike,
    *,
    x0: ArrayLike | None = None,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Operator | None = None,
) -> Tensor:
    """x with A x = b for a symmetric positive definite A, by conjugate gradients (Hestenes & Stiefel 1952).

    Parameters
    ----------
    A : Tensor or array (n, n), or a linear function of a Tensor of b's shape, which may close over other Tensors
    b : Tensor or array (n,), or (n, k) for k systems at once
    x0 : where to start, of b's shape; zero by default
    rtol, atol : done when |b - A x| <= max(rtol |b|, atol), as in SciPy; for derivatives likewise
    maxiter : the most products with A in one solve; 10 n by default
    M : an approximation of the inverse of A, symmetric positive definite: (n, n), or a function of a Tensor

    Raises ConvergenceError, a LinAlgError, if it does not converge or meets a direction without positive curvature: it
    never returns a wrong x. `iterative.cg` returns what was reached instead of raising. Raises GradientError in a
    derivative where A turns out not to be symmetric.
    """
    precondition = _on_arrays(M)

    def solve(apply: Apply, r: Array, allowed: Array) -> Array:
        return _solved("cg", iterative.cg(apply, r, rtol=0.0, atol=allowed, maxiter=maxiter, M=precondition))

    return _solve("cg", A, b, solve, solve, rtol, atol, x0, symmetric=True)


def jacobi(
    A: Operator,
    b: ArrayLike,
    *,
    diagonal: ArrayLike | None = None,
    x0: ArrayLike | None = None,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int = 1000,
) -> Tensor:
    """x with A x = b by Jacobi's iteration x <- x + (b - A x) / D, with D the diagonal of A.

    It converges if and only if the spectral radius of 1 - A / D is below 1, as where A is strictly diagonally dominant;
    that of the transposed matrix, for derivatives, is the same. A function A is given with its `diagonal` (n,).
    Other parameters and errors as in `cg`; A need not be symmetric. Raises LinAlgError for a zero in D.
    """
    if diagonal is None and not callable(A):
        check_matrix("jacobi", A, square=True)
        diagonal = as_tensor(A).diagonal()
    d = None if diagonal is None else array_of(diagonal)

    def solve(apply: Apply, r: Array, allowed: Array) -> Array:
        return _solved("jacobi", iterative.jacobi(apply, r, diagonal=d, rtol=0.0, atol=allowed, maxiter=maxiter))

    return _solve("jacobi", A, b, solve, solve, rtol, atol, x0)


def gauss_seidel(
    A: Tensor | np.ndarray,
    b: ArrayLike,
    *,
    x0: ArrayLike | None = None,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int = 1000,
) -> Tensor:
    """x with A x = b by Gauss-Seidel iteration x <- x + (D + L)^-1 (b - A x), D + L the lower triangle of the matrix A.

    It converges for every symmetric positive definite A, else if and only if the spectral radius of 1 - (D + L)^-1 A
    is below 1. The transposed matrix, for derivatives, is swept the other way, which has the same radius.
    Other parameters and errors as in `cg`; A is a matrix, and need not be symmetric.
    """
    matrix = A if callable(A) else array_of(A)

    def sweep(matrix: Array, backward: bool) -> Solver:
        def solve(apply: Apply, r: Array, allowed: Array) -> Array:
            found = iterative.gauss_seidel(matrix, r, backward=backward, rtol=0.0, atol=allowed, maxiter=maxiter)
            return _solved("gauss_seidel", found)

        return solve

    transposed = sweep(matrix if callable(A) else t(matrix), backward=True)
    return _solve("gauss_seidel", A, b, sweep(matrix, backward=False), transposed, rtol, atol, x0)


def lsmr(
    A: Operator,
    b: ArrayLike,
    *,
    size: int | None = None,
    damp: float = 0.0,
    rtol: float = 1e-5,
    maxiter: int | None = None,
) -> Tensor:
    """The x that minimises |b - A x|^2 + damp^2 |x|^2, by products with A and A' alone (Fong & Saunders 2011).

    Parameters
    ----------
    A : Tensor or array (m, n), or a linear function of a Tensor (n,), whose transpose is found by differentiating it
    b : Tensor or array (m,)
    size : n, for a function A
    damp : weight of |x|; it makes the problem one of full rank
    rtol : done when the gradient |A'(b - A x) - damp^2 x| <= rtol |A'b|; for derivatives likewise
    maxiter : the most iterations in one solve, by default four times the smaller of m and n

    For a matrix without full rank x is the shortest solution; its derivative holds only where A has full column rank,
    or damp > 0. Raises ConvergenceError where it does not converge, in a derivative where A lacks that rank too. Not
    under vmap. `lstsq` is the direct solver.
    """
    b = right_hand_side("lsmr", b)
    function, size = _rectangular(A, b, size)
    zero = namespace(b.data).zeros(size, b.dtype)
    pull = vjp(function, Tensor(zero))[1]
    slope = array_of(pull(b.detach())[0])
    scale = float(column_norm(slope) / column_norm(b.data)) if slope.any() else 1.0  # so that A'b is as long as b
    rows, weight = b.shape[0], damp / scale

    def normal_equations(s: Tensor) -> Tensor:
        """[r + A x, q + damp x, A'r + damp q], which is [b, 0, 0] at the minimum: r = b - A x, q = -damp x."""
        r, q, x = s[:rows], s[rows : rows + size], s[rows + size :]
        image, pull = vjp(function, x / scale)
        return concatenate([r + image, q + weight * x, pull(r / scale)[0] + weight * q])

    def down(x: Array) -> Array:
        return array_of(concatenate([array_of(function(Tensor(x / scale))), weight * x]))

    def back(s: Array) -> Array:
        return array_of(pull(Tensor(s[:rows] / scale))[0]) + weight * s[rows:]

    def solve(apply: Apply, right: Array, allowed: Array) -> Array:
        """First some s with A's = h, the last part of the right-hand side; then x for the rest minus s."""
        tolerance = 0.1 * float(allowed) / float(column_norm(right))
        run = partial(iterative.lsmr, atol=tolerance, btol=tolerance, maxiter=maxiter or 4 * min(rows, size))
        h = right[rows + size :]
        particular: Array | float = 0.0
        if h.any():
            particular = _solved("lsmr", run(back, h, adjoint=down))
        rest = right[: rows + size] - particular
        x = _solved("lsmr", run(down, rest, adjoint=back))
        return array_of(concatenate([rest - down(x) + particular, x]))

    system = System(normal_equations, solve, normal_equations, solve, rtol, 0.0, "lsmr")
    right = concatenate([b, Tensor(namespace(b.data).zeros(2 * size, b.dtype))])
    return solution_of(system, right)[rows + size :] / scale


# --- the arguments ---


def _solve(
    name: str,
    A: Operator,
    b: ArrayLike,
    solve: Solver,
    back: Solver,
    rtol: float,
    atol: float,
    x0: ArrayLike | None,
    symmetric: bool = False,
) -> Tensor:
    """The solution, by a solver for A and one for A'."""
    b = right_hand_side(name, b)
    start = None if x0 is None else array_of(as_tensor(x0, dtype=b.dtype, device=b.device))
    if start is not None and start.shape != b.shape:
        raise ShapeError(f"{name}: a start x0 of shape {start.shape} for a right-hand side {b.shape}; make them alike.")
    function, transposed = _functions(name, A, b)
    return solution_of(System(function, solve, function if symmetric else transposed, back, rtol, atol, name, start), b)


def _functions(name: str, A: Any, b: Tensor) -> tuple[Callable, Callable | None]:
    """A and A' as functions of Tensors; None for the transpose of a function, found by differentiating it."""
    if callable(A):
        return A, None
    check_matrix(name, A, square=True)
    if A.ndim != 2:
        raise ShapeError(f"{name}: expected one matrix (n, n), got {A.shape}; for a batch of them see vmap and solve.")
    check_system(name, A, b)
    return lambda v: A @ v, lambda v: t(A) @ v


def _rectangular(A: Any, b: Tensor, size: int | None) -> tuple[Callable, int]:
    """(x -> A x, how many unknowns)."""
    if b.ndim != 1:
        raise ShapeError(f"lsmr: a right-hand side of shape {b.shape}; expected one vector (m,).")
    if callable(A):
        if size is None:
            raise TypeError("lsmr: A is a function; say with size= how many unknowns it takes.")
        return A, size
    check_matrix("lsmr", A)
    if A.ndim != 2 or A.shape[0] != b.shape[0]:
        raise ShapeError(f"lsmr: a matrix {A.shape} and a right-hand side {b.shape}; expected (m, n) and (m,).")
    matrix = as_tensor(A)
    return lambda x: matrix @ x, A.shape[1]


def _on_arrays(M: Any) -> Any:
    """A preconditioner, given with Tensors, as one for arrays."""
    return (lambda r: array_of(M(Tensor(r)))) if callable(M) else None if M is None else array_of(M)


def _solved(name: str, solution: iterative.Solution | iterative.LeastSquaresSolution) -> Array:
    """The solution, or an error that says why there is none."""
    if not solution.converged:
        raise ConvergenceError(
            f"{name} did not converge: {solution.reason}. See iterative.{name} for what was reached; another solver "
            "(solve, lstsq), a preconditioner, more iterations (maxiter) or a larger rtol may do."
        )
    return solution.x
