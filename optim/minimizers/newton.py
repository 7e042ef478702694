"""Newton's method: go to where the quadratic model, value, gradient and Hessian, has its lowest point.

After this file you know the troubles of that step and their cures. Where the Hessian H is not positive definite the
model has no lowest point: along a line, H is changed until it has one (`positive_definite`); within a radius there
always is one (`quadratic_model`).
"""

from __future__ import annotations

import math

from minigrad.backend import Array, namespace

from ..solve.objective import Point
from ..solve.vectors import length_of
from .curved_direction import CurvedDirection, cauchy_step, steepest_step
from .positive_definite import REPAIRS, solve_positive
from .quadratic_model import Spectrum


class NewtonDirection(CurvedDirection):
    """The direction -(H + alpha I)^-1 g, H repaired where that is not positive definite; or its minimum in a radius.

    Parameters
    ----------
    alpha : float
        Added to the diagonal of every Hessian, >= 0. It shortens the steps, so that near the minimum the error falls by
        alpha / (alpha + lowest eigenvalue) a step, which is linear rather than quadratic. For `along` only.
    repair : "cholesky", "shift" or "eigenvalues"
        What is done to a matrix that is not positive definite; see `REPAIRS`. For `along` only.
    """

    def __init__(self, alpha: float = 0.0, repair: str = "cholesky"):
        if not 0 <= alpha < math.inf:
            raise ValueError(f"Newton: alpha must be a number >= 0, got {alpha!r}; it is added to the diagonal.")
        if repair not in REPAIRS:
            raise ValueError(f"Newton: repair must be one of {', '.join(map(repr, REPAIRS))}, got {repair!r}.")
        super().__init__()
        self.alpha, self.repair = alpha, REPAIRS[repair]
        self.known: tuple[Point, Spectrum] | None = None

    def along(self, here: Point) -> Array:
        if self.steepest or not self.sees(here, here.hessian):
            return steepest_step(here)
        matrix = here.hessian + self.alpha * namespace(here.x).eye(here.x.size, dtype=here.x.dtype)
        p = solve_positive(matrix, -here.g)
        return self.repair(matrix, -here.g) if p is None else p

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        """Newton's step if it is within the radius, else the minimum on the border (Moré & Sorensen 1983).

        Newton's step comes from Cholesky factors: scaled to a diagonal of ones, they solve badly scaled problems to
        digits that eigenvalues, exact to rounding of the largest only, have lost.
        """
        if not self.sees(here, here.hessian):
            return cauchy_step(here.g, 0.0, radius)
        if self.steepest:
            return cauchy_step(here.g, float(here.g @ (here.hessian @ here.g)), radius)
        p = None if self.known_at(here) else solve_positive(here.hessian, -here.g)
        if p is not None and length_of(p) <= radius:
            return p, -0.5 * float(here.g @ p)
        return self.spectrum(here).within(radius)

    def way_down(self, here: Point) -> Array | None:
        if not self.sees(here, here.hessian) or solve_positive(here.hessian, here.g) is not None:
            return None
        return self.spectrum(here).way_down()

    def known_at(self, here: Point) -> bool:
        return self.known is not None and self.known[0] is here

    def spectrum(self, here: Point) -> Spectrum:
        if not self.known_at(here):
            self.known = here, Spectrum(here.hessian, here.g)
        return self.known[1]  # type: ignore[index]
