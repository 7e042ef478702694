"""Solving with a symmetric matrix that should be positive definite, and repairing one that is not.

Newton's step needs a positive definite Hessian to lead down. `REPAIRS` are three ways to change a matrix as little as
it takes: a diagonal found while it is factorised, a multiple of the identity, or the signs of its eigenvalues.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from minigrad.autograd.tensor import array_of
from minigrad.backend import Array, namespace
from minigrad.linalg import cholesky, eigh, solve

from ..solve.vectors import root_of_rounding


def solve_positive(H: Array, b: Array) -> Array | None:
    """H^-1 b for a symmetric positive definite H, or None where H is not, to rounding.

    H is first scaled to a diagonal of ones, which comes close to the best scaling there is (van der Sluis 1969).
    """
    diagonal = H.diagonal()
    if not bool((diagonal > 0).all()):
        return None
    scale = diagonal**-0.5
    scaled = H * scale * scale[:, None]
    try:
        cholesky(scaled)  # NumPy does not solve with its factors; they are the test
        return scale * solve(scaled, scale * b)
    except np.linalg.LinAlgError:
        return None


def modified_cholesky(H: Array) -> Array:
    """e >= 0, (n,), so that H + diag(e) is positive definite with bounded factors; 0 where H is so by itself.

    The factorisation L D L' of Gill, Murray & Wright (Practical Optimization, 1981, 4.4.2.2), largest diagonal first: a
    pivot that is negative changes its sign, one that would make a column of L too large is raised. The least pivot
    is sqrt(eps) of the largest element rather than eps, with which steps would be 1 / eps long.
    """
    xp, n = namespace(H), H.shape[0]
    rest, order, e = H.copy(), xp.arange(n), xp.zeros_like(H[0])
    diagonal = float(xp.abs(H.diagonal()).max())
    beside = float(xp.abs(H - xp.diag(H.diagonal())).max())
    least = root_of_rounding(H) * (diagonal + beside) or 1.0
    bound = max(diagonal, beside / math.sqrt(max(n * n - 1, 1)), float(np.finfo(H.dtype).tiny))
    for j in range(n):
        pivot = j + int(xp.abs(rest.diagonal()[j:]).argmax())
        swapped = xp.arange(n)
        swapped[j], swapped[pivot] = pivot, j
        rest, order = rest[swapped][:, swapped], order[swapped]
        column = rest[j + 1 :, j].copy()
        wide = float(xp.abs(column).max()) ** 2 / bound if j + 1 < n else 0.0
        d = max(abs(float(rest[j, j])), wide, least)
        e[order[j]] = d - rest[j, j]
        rest[j + 1 :, j + 1 :] -= column[:, None] * (column / d)
    return e


def _by_cholesky(H: Array, b: Array) -> Array:
    """H + diag(e), of `modified_cholesky`."""
    return array_of(solve(H + namespace(H).diag(modified_cholesky(H)), b))


def _by_shift(H: Array, b: Array) -> Array:
    """H + alpha I with the first alpha of a doubling sequence that will do (Nocedal & Wright 2006, algorithm 3.3)."""
    xp = namespace(H)
    identity = xp.eye(H.shape[0], dtype=H.dtype)
    alpha = 1e-3 * float(xp.abs(H).max()) - min(float(H.diagonal().min()), 0.0) or 1.0
    while (p := solve_positive(H + alpha * identity, b)) is None:
        alpha *= 2
    return p


def _by_eigenvalues(H: Array, b: Array) -> Array:
    """The eigenvalues' absolute values (Greenstadt 1967), the least raised to sqrt(eps) of the largest."""
    values, vectors = eigh(H)
    xp = namespace(H)
    values = xp.abs(values)
    least = root_of_rounding(H) * float(values.max()) or 1.0
    return vectors @ ((b @ vectors) / xp.maximum(values, least))


REPAIRS: Mapping[str, Callable[[Array, Array], Array]] = {
    "cholesky": _by_cholesky,
    "shift": _by_shift,
    "eigenvalues": _by_eigenvalues,
}
"""For a symmetric H that is not positive definite: from H and b, x with (H + E) x = b where H + E is."""
