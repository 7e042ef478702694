"""LSMR: least squares by products with A and its transpose alone, on plain arrays. In `minigrad.linalg.iterative`.

After this file you know how Golub and Kahan's bidiagonalisation turns |b - A x| into a small problem that grows by one
row an iteration, and how plane rotations keep that solved: the state is three vectors and a dozen numbers.
The products A'A, whose condition is the square of A's, are never formed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import hypot, inf, isfinite
from typing import Any, NamedTuple

from minigrad.autograd.errors import ShapeError
from minigrad.backend import Array, namespace
from minigrad.ops.linalg.matrices import check_matrix, t
from minigrad.ops.linalg.operators import Operator, check_plain, column_norm, floats
from minigrad.ops.products import matmul


class LeastSquaresSolution(NamedTuple):
    """The result of `lsmr`. Its s is the vector to be made short: b - A x and, below it, damp (x0 - x).

    x : the last iterate (n,)
    converged : whether one of the two tolerances was reached
    iterations : products with A, each with one of its transpose
    residual_norm : |s|, as the recurrences have it
    gradient_norm : |A's| likewise, the length of half the gradient of |s|^2
    reason : in words, why the solver stopped
    """

    x: Array
    converged: bool
    iterations: int
    residual_norm: float
    gradient_norm: float
    reason: str


def lsmr(
    A: Operator,
    b: Array,
    *,
    adjoint: Callable[[Array], Array] | None = None,
    damp: float = 0.0,
    atol: float = 1e-6,
    btol: float = 1e-6,
    x0: Array | None = None,
    maxiter: int | None = None,
    callback: Callable[[Array], object] | None = None,
) -> LeastSquaresSolution:
    """The x that minimises |b - A x|^2 + damp^2 |x - x0|^2, for A of any shape and rank (Fong & Saunders 2011).

    Parameters
    ----------
    A : array (m, n), or a function x -> A x
    b : array (m,)
    adjoint : for a function A, the function u -> A'u
    damp : weight of |x|; for Levenberg-Marquardt the square root of lambda
    atol, btol : done when |A's| <= atol |A| |s|, a least-squares solution, or |s| <= btol |b| + atol |A| |x|, a
        solution of A x = b; relative errors in A and b that would explain the residual
    x0 : where to start; zero by default. Where A lacks full rank the x nearest to x0 is found
    maxiter : the most iterations, by default twice the smaller of m and n (rounding costs more than one round)
    callback : called with x after each iteration

    |A| is Frobenius's norm as far as it was seen, as in SciPy. Raises ShapeError for shapes that do not fit.
    """
    apply, adjoint, b = _pair(A, adjoint, b)
    beta, u = _unit(b if x0 is None else b - _fitting(apply(_start(x0)), b))
    alpha, v = _unit(adjoint(u))
    x = namespace(v).zeros_like(v) if x0 is None else _fitting(_start(x0), v)
    limit = 2 * min(b.shape[0], x.shape[0]) if maxiter is None else maxiter
    length_of_b = float(column_norm(b))

    # rotations: of the bidiagonal matrix (c, s), of its triangle's transpose (c_bar, s_bar)
    alpha_bar, zeta_bar = alpha, alpha * beta
    rho = rho_bar = c_bar = 1.0
    s_bar = zeta = 0.0
    h, h_bar = v, namespace(v).zeros_like(v)
    residual = _ResidualNorm(beta)
    square, iterations, reason = alpha * alpha, 0, _ending(beta, abs(zeta_bar), alpha, 0.0, length_of_b, atol, btol)
    while not reason and iterations < limit:
        beta, u = _unit(_fitting(apply(v), u) - alpha * u)
        alpha, v = _unit(_fitting(adjoint(u), v) - beta * v)

        alpha_hat = hypot(alpha_bar, damp)
        c_hat, s_hat = _rotation(alpha_bar, damp, alpha_hat)
        previous_rho, rho = rho, hypot(alpha_hat, beta)
        c, s = _rotation(alpha_hat, beta, rho)
        theta, alpha_bar = s * alpha, c * alpha

        previous_rho_bar, theta_bar = rho_bar, s_bar * rho
        rho_bar = hypot(c_bar * rho, theta)
        c_bar, s_bar = _rotation(c_bar * rho, theta, rho_bar)
        previous_zeta, zeta, zeta_bar = zeta, c_bar * zeta_bar, -s_bar * zeta_bar

        iterations += 1
        if rho == 0 or rho_bar == 0 or not isfinite(rho_bar):
            reason = _dead_end(rho_bar)
            break
        h_bar = h - (theta_bar * rho / (previous_rho * previous_rho_bar)) * h_bar
        x = x + (zeta / (rho * rho_bar)) * h_bar
        h = v - (theta / rho) * h
        residual.rotate(c_hat, s_hat, c, s, theta_bar, rho_bar, previous_zeta, zeta)

        size = (square + beta * beta) ** 0.5
        square += beta * beta + alpha * alpha
        if callback is not None:
            callback(x)
        reason = _ending(residual.norm, abs(zeta_bar), size, float(column_norm(x)), length_of_b, atol, btol)
    gradient = abs(zeta_bar)
    if not reason:
        reason = f"|A's| is {gradient:.3g} and |s| {residual.norm:.3g} after {iterations} iterations"
    return LeastSquaresSolution(x, reason.startswith("converged"), iterations, residual.norm, gradient, reason)


class _ResidualNorm:
    """|s| without s: the rotations of section 2.9 of the paper, which bring its triangle to lower bidiagonal form."""

    def __init__(self, beta: float):
        self.norm = self.beta_two = beta
        self.beta_dot = self.tau = self.theta = self.squares = 0.0
        self.rho_dot = 1.0

    def rotate(self, c_hat, s_hat, c, s, theta_bar, rho_bar, previous_zeta, zeta) -> None:
        beta_acute, beta_check = c_hat * self.beta_two, -s_hat * self.beta_two
        beta_hat, self.beta_two = c * beta_acute, -s * beta_acute
        rho_tilde = hypot(self.rho_dot, theta_bar)
        c_tilde, s_tilde = _rotation(self.rho_dot, theta_bar, rho_tilde)
        self.tau = (previous_zeta - self.theta * self.tau) / rho_tilde
        self.theta, self.rho_dot = s_tilde * rho_bar, c_tilde * rho_bar
        self.beta_dot = c_tilde * beta_hat - s_tilde * self.beta_dot
        tau_dot = (zeta - self.theta * self.tau) / self.rho_dot
        self.squares += beta_check * beta_check
        self.norm = hypot(self.squares**0.5, self.beta_dot - tau_dot, self.beta_two)


def _rotation(a: float, b: float, length: float) -> tuple[float, float]:
    return (a / length, b / length) if length else (1.0, 0.0)


def _ending(residual, gradient, size, length_of_x, length_of_b, atol, btol) -> str:
    """Why the iteration ends here; '' if it goes on."""
    if not isfinite(residual) or not isfinite(gradient):
        return "A or b holds NaN or infinity"
    if residual <= btol * length_of_b + atol * size * length_of_x:
        return "converged: A x = b is solved"
    if gradient <= atol * size * residual:
        return "converged: the least-squares problem is solved"
    return ""


def _dead_end(rho_bar: float) -> str:
    return "converged: nothing is left to be reduced" if rho_bar == 0 else "A or b holds NaN or infinity"


def _unit(x: Array) -> tuple[float, Array]:
    """(length, x / length); a zero vector as it is."""
    length = float(column_norm(x))
    return length, x / length if 0 < length < inf else x


# --- checking the arguments ---


def _pair(A: Operator, adjoint: Callable | None, b: Array) -> tuple[Callable, Callable, Array]:
    """A and its transpose as functions, and b in floats."""
    check_plain("lsmr", b)
    if b.ndim != 1:
        raise ShapeError(f"lsmr: a right-hand side of shape {b.shape}; expected one vector (m,).")
    b = floats("lsmr", b)
    if callable(A):
        if adjoint is None:
            raise TypeError("lsmr: A is a function; give the function u -> A'u as adjoint=, or A as a matrix.")
        return A, adjoint, b
    check_plain("lsmr", A)
    check_matrix("lsmr", A)
    if adjoint is not None:
        raise TypeError("lsmr: a matrix has its own transpose; leave adjoint= away.")
    if A.ndim != 2 or A.shape[0] != b.shape[0]:
        raise ShapeError(f"lsmr: a matrix {A.shape} and a right-hand side {b.shape}; expected (m, n) and (m,).")
    return lambda x: matmul(A, x), lambda u: matmul(t(A), u), b


def _start(x0: Any) -> Array:
    check_plain("lsmr", x0)
    return floats("lsmr", x0)


def _fitting(image: Any, like: Array) -> Array:
    if getattr(image, "shape", None) != like.shape:
        raise ShapeError(
            f"lsmr: a product of shape {getattr(image, 'shape', type(image).__name__)}, expected {like.shape}; "
            "A must map (n,) to (m,), its adjoint (m,) to (n,)."
        )
    return image
