"""Solving linear systems: the inverse, solve, and solve for triangular matrices.

After this file you know the one line from which all of these derivatives come: a x = b, differentiated, says
da x + a dx = db, so that dx = a^-1 (db - da x): the derivative of a solution is a solution of the same matrix, and its
adjoint one of the transposed matrix.
"""

from __future__ import annotations

from minigrad.autograd.primitive import composite, primitive
from minigrad.autograd.tensor import Tensor
from minigrad.autograd.types import TensorLike
from minigrad.backend import namespace
from minigrad.ops.linalg.matrices import attempt, check_matrix, check_system, identity, t
from minigrad.ops.shapes import tril, triu

SINGULAR = (
    "is singular, so it has no inverse. Look at its rank (svdvals), or say what is meant instead: "
    "pinv or lstsq for least squares, a + c * eye(n) for a ridge."
)


@primitive(symbol="inv", local="-y (.) y")
def inv(a: TensorLike) -> Tensor:
    """The inverse of square matrices (..., n, n). d(a^-1) = -a^-1 da a^-1 (Giles 2008, 2.2.3).

    Raises LinAlgError where a matrix is singular. To solve a system, `solve` is faster and more accurate.
    """
    check_matrix("inv", a, square=True)
    return attempt("inv", lambda: namespace(a).linalg.inv(a), a, SINGULAR)


inv.defvjp(a=lambda g, out: -(t(out) @ g @ t(out)))
inv.defjvp(a=lambda da, out: -(out @ da @ out))


@primitive(symbol="solve", local="-a^-1 (.) x, a^-1")
def _solve(a: TensorLike, b: TensorLike) -> Tensor:
    """x with a @ x = b for a (..., n, n) and b (..., n, k), whose batch axes broadcast."""
    check_matrix("solve", a, square=True)
    a_full, b_full = _same_batch("solve", a, b)
    return attempt("solve", lambda: namespace(a, b).linalg.solve(a_full, b_full), a, SINGULAR, given=b)


def _same_batch(op, a, b):
    """a and b with the batch axes of both written out: CuPy does not broadcast them."""
    batch = check_system(op, a, b)
    return [x if x.shape[:-2] == batch else namespace(x).broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b)]


_solve.defvjp(a=lambda g, a, out: -(_solve(t(a), g) @ t(out)), b=lambda g, a: _solve(t(a), g))
_solve.defjvp(a=lambda da, a, out: -_solve(a, da @ out), b=lambda db, a: _solve(a, db))


@composite
def solve(a: TensorLike, b: TensorLike) -> Tensor:
    """x with a @ x = b, for square a (..., n, n), b (n,) or (..., n, k); the batch axes broadcast, as in NumPy 2.

    Only a b of one axis is a vector. dx = a^-1 (db - da x) (Giles 2008, 2.3.1). Raises LinAlgError where a is singular.
    """
    check_matrix("solve", a, square=True)
    return with_columns("solve", a, b, _solve)


def with_columns(op, a, b, function):
    """function(a, b), where b may be a vector, which is passed on as one column."""
    check_system(op, a, b)
    return function(a, b[:, None])[..., 0] if b.ndim == 1 else function(a, b)


# --- triangles ---


@primitive(symbol="solve tri", local="-a^-1 (.) x, a^-1")
def _solve_triangular(a: TensorLike, b: TensorLike, lower: bool, unit_diagonal: bool) -> Tensor:
    """`solve` for the matrix in one triangle of a.

    NumPy has no solver for triangles. The general one is used, which gives the same in more time.
    """
    a, b = _same_batch("solve_triangular", a, b)
    matrix = _of_triangle(a, lower, unit_diagonal)
    if unit_diagonal:
        matrix = matrix + identity(a, a.shape[-1])
    failure = "has a zero on its diagonal, so the triangle is singular."
    return attempt("solve_triangular", lambda: namespace(a, b).linalg.solve(matrix, b), matrix, failure, given=b)


def _of_triangle(x, lower, unit_diagonal):
    """The part of x in the triangle that is read."""
    return tril(x, k=-1 if unit_diagonal else 0) if lower else triu(x, k=1 if unit_diagonal else 0)


def _triangle_back(g, a, lower, unit_diagonal):
    return _solve_triangular(t(a), g, lower=not lower, unit_diagonal=unit_diagonal)


_solve_triangular.defvjp(
    a=lambda g, a, out, lower, unit_diagonal: _of_triangle(
        -(_triangle_back(g, a, lower, unit_diagonal) @ t(out)), lower, unit_diagonal
    ),
    b=_triangle_back,
)
_solve_triangular.defjvp(
    a=lambda da, a, out, lower, unit_diagonal: (
        -_solve_triangular(a, _of_triangle(da, lower, unit_diagonal) @ out, lower=lower, unit_diagonal=unit_diagonal)
    ),
    b=lambda db, a, lower, unit_diagonal: _solve_triangular(a, db, lower=lower, unit_diagonal=unit_diagonal),
)


@composite
def solve_triangular(a: TensorLike, b: TensorLike, *, lower: bool = False, unit_diagonal: bool = False) -> Tensor:
    """x with a @ x = b, reading only one triangle of a: SciPy's `scipy.linalg.solve_triangular`, batched as `solve`.

    Parameters
    ----------
    lower : bool
        Whether a's lower triangle is meant; by default the upper one, as in SciPy.
    unit_diagonal : bool
        Whether a's diagonal is taken to be ones, and not read.

    Entries that are not read have gradient zero. Raises LinAlgError where the diagonal holds a zero.
    """
    check_matrix("solve_triangular", a, square=True)

    def solve_columns(a, b):
        return _solve_triangular(a, b, lower=lower, unit_diagonal=unit_diagonal)

    return with_columns("solve_triangular", a, b, solve_columns)
