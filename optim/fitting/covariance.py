"""How well the parameters of a fit are known: the covariance (J'J)^-1.

To form J'J and invert it would square the condition of J, and standard deviations would lose twice the digits that they
must. With the columns of J scaled to length one and J D^-1 = Q R the covariance is D^-1 R^-1 R^-T D^-1, and a standard
deviation is the length of a row of D^-1 R^-1.
"""

from __future__ import annotations

from minigrad.backend import Array, namespace

from ..solve.vectors import column_norms


def covariance(J: Array) -> tuple[Array, int]:
    """(J'J)^-1, (n, n), and the rank of J, (m, n). Where the rank is below n every entry is infinite, as SciPy gives
    it.

    Multiply by the variance of the residuals, sum r^2 / (m - n), to have it in their units.
    """
    xp = namespace(J)
    m, n = J.shape
    norms = column_norms(J)
    if not bool(xp.isfinite(norms).all()):
        return xp.full((n, n), float("inf"), dtype=J.dtype), 0
    scaled = J / xp.where(norms > 0, norms, 1)
    rank = int((xp.linalg.svd(scaled, compute_uv=False) > max(m, n) * float(xp.finfo(J.dtype).eps)).sum())
    if rank < n:
        return xp.full((n, n), float("inf"), dtype=J.dtype), rank
    triangle = xp.linalg.qr(scaled, mode="r")
    rows = xp.linalg.inv(triangle) / norms[:, None]
    return rows @ rows.T, rank


def deviations(cov: Array) -> Array:
    """The standard deviations, (n,): the roots of the diagonal."""
    xp = namespace(cov)
    return xp.sqrt(xp.diagonal(cov))
