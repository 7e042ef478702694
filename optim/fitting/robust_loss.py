"""Robust losses: outliers that pull less.

After this file you know how sum rho(r_i^2) is minimised by a solver for sums of squares: around each point the
residuals and the rows of the Jacobian are weighted such that J'r is the robust cost's gradient, and J'J what is known
of its Hessian. Each rho grows like z near zero and slower further out, so that a residual beyond `f_scale` counts for
less than its square.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from minigrad.backend import Array

from ..solve.residuals import ResidualPoint, Residuals

LEAST_CURVATURE = 1e-4
"""The least share of the weight rho' that remains of rho' + 2 z rho'', which for an outlier is zero or negative: the
cost curves down there, and the model must not."""


def soft_l1(z: Array, xp: Any) -> tuple[Array, Array, Array]:
    """2 (sqrt(1 + z) - 1): between squares and absolute values, smoothly (Charbonnier et al. 1997)."""
    root = xp.sqrt(1 + z)
    return 2 * z / (root + 1), 1 / root, -0.5 / root**3


def huber(z: Array, xp: Any) -> tuple[Array, Array, Array]:
    """z up to 1, 2 sqrt(z) - 1 beyond: the absolute value for outliers (Huber 1964)."""
    outside = z > 1
    root = xp.sqrt(xp.where(outside, z, 1))
    return xp.where(outside, 2 * root - 1, z), 1 / root, xp.where(outside, -0.5 / root**3, 0)


def cauchy(z: Array, xp: Any) -> tuple[Array, Array, Array]:
    """log(1 + z): far outliers lose almost all influence; there may be local minima."""
    weight = 1 / (1 + z)
    return xp.log1p(z), weight, -weight * weight


def arctan(z: Array, xp: Any) -> tuple[Array, Array, Array]:
    """arctan(z): no residual costs more than pi / 2; there may be local minima."""
    weight = 1 / (1 + z * z)
    return xp.arctan(z), weight, -2 * z * weight * weight


LOSSES: dict[str, Callable | None] = {
    "linear": None,
    "soft_l1": soft_l1,
    "huber": huber,
    "cauchy": cauchy,
    "arctan": arctan,
}
"""rho, rho' and rho'' as functions of z = (r / f_scale)^2, under SciPy's names; linear: plain least squares."""


class RobustResiduals:
    """Residuals whose cost is f_scale^2 / 2 sum_i rho((r_i / f_scale)^2): a `ResidualProblem`.

    Parameters
    ----------
    plain : Residuals
    loss : a name in `LOSSES`, or a function of z (m,) that gives rho, rho' and rho'' as rows, (3, m), as SciPy's
    f_scale : from which size on a residual counts as an outlier
    """

    def __init__(self, plain: Residuals, loss: str | Callable, f_scale: float):
        self.plain, self.variables = plain, plain.variables
        rho = LOSSES[loss] if isinstance(loss, str) else lambda z, xp: tuple(loss(z))
        assert rho is not None, "linear residuals need no weights"
        self.rho, self.f_scale = rho, f_scale

    nfev = property(lambda self: self.plain.nfev)
    njev = property(lambda self: self.plain.njev)
    eps = property(lambda self: self.plain.eps)

    def at(self, x: Array) -> RobustPoint:
        return RobustPoint(self, self.plain.at(x))


class RobustPoint(ResidualPoint):
    """A point whose residuals and Jacobian are weighted, row by row (Triggs et al. 2000, Bundle Adjustment, section
    4.3).

    plain : the point with the residuals unweighted
    r, J : weighted; J'r is the gradient of the robust cost
    cost : the robust cost
    """

    problem: RobustResiduals
    plain: ResidualPoint

    def __init__(self, problem: RobustResiduals, plain: ResidualPoint):
        self.problem, self.plain, self.x = problem, plain, plain.x
        self.cost = plain.cost
        if plain.is_finite:
            with np.errstate(all="ignore"):
                self._weigh()

    def _weigh(self) -> None:
        xp, f_scale = self.problem.variables.xp, self.problem.f_scale
        z = (self.plain.r / f_scale) ** 2
        rho, first, second = self.problem.rho(z, xp)
        cost = 0.5 * f_scale**2 * float(rho.sum())
        self.cost = cost if cost < np.inf else np.inf
        curvature = xp.maximum(first + 2 * second * z, LEAST_CURVATURE * first)
        self.weight = xp.sqrt(curvature)
        self.r = self.plain.r * (first / xp.where(curvature > 0, self.weight, 1))

    @property
    def unweighted(self) -> Array:
        return self.plain.r

    @cached_property
    def J(self) -> Array:
        return self.weight[:, None] * self.plain.J

    @cached_property
    def g(self) -> Array:
        return self.vjp(self.r)

    def defect(self, p: Array, there: ResidualPoint) -> Array:
        return self.weight * self.plain.defect(p, there.plain)  # type: ignore[attr-defined]

    def jvp(self, v: Array) -> Array:
        return self.weight * self.plain.jvp(v)

    def vjp(self, u: Array) -> Array:
        return self.plain.vjp(self.weight * u)
