"""Newton's method without a matrix: conjugate gradients on products of the Hessian with vectors, stopped early.

After this file you know two ways to solve H p = -g only as well as is worth it, from products that cost a few gradients
each: up to a tolerance that tightens as the gradient falls, and up to the border of a trust region.
"""

from __future__ import annotations

from minigrad.backend import Array
from minigrad.linalg import iterative

from ..solve.objective import Point
from ..solve.vectors import length_of
from .curved_direction import CurvedDirection, cauchy_step, steepest_step
from .lanczos import negative_curvature
from .steihaug import Product, steihaug


class NewtonCGDirection(CurvedDirection):
    """An approximate Newton step: -H^-1 g up to a residual of eta |g|; or Steihaug's, within a radius.

    eta falls with the square of the gradient's decrease over the last step (Eisenstat & Walker 1996, choice 2): loose
    far away, where a better solution would be wasted, tight near the minimum, where it makes convergence superlinear.

    Parameters
    ----------
    max_products : int or None
        Products with the Hessian for one step, at most; None: twice as many as there are variables.
    """

    loosest = 0.5
    """The largest eta."""

    def __init__(self, max_products: int | None = None):
        super().__init__()
        if max_products is not None and max_products < 1:
            raise ValueError(f"NewtonCG: max_products must be 1 or more, got {max_products!r}.")
        self.max_products = max_products
        self.eta = self.loosest

    def product(self, here: Point) -> Product:
        """The function v -> H v at a point."""
        return here.hvp

    def along(self, here: Point) -> Array:
        """An approximate Newton step, unless conjugate gradients meet a direction d of negative curvature.

        There the step is the solution so far plus d, as far as if its curvature were positive (after Nocedal & Wright
        2006, algorithm 7.1, which takes d only if it is the first).
        """
        length = length_of(here.g)
        if self.steepest or not length > 0:
            return steepest_step(here)
        product = self.product(here)
        found = iterative.cg(product, -here.g / length, rtol=self.eta, maxiter=self.limit(here))
        if not self.sees(here, found.residual_norm):
            return steepest_step(here)
        if found.direction is None:
            return length * found.x
        d = found.direction
        curvature, most = abs(float(d @ product(d))), 10 * max(1.0, length_of(here.x)) / length / length_of(d)
        t = min(float(found.residual_norm) ** 2 / curvature, most) if curvature > 0 else most
        return length * (found.x + t * d)

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        product = self.product(here)
        if self.steepest:
            return cauchy_step(here.g, float(here.g @ product(here.g)), radius)
        p, predicted = steihaug(product, here.g, radius, self.eta, self.limit(here))
        if not self.sees(here, p):
            return cauchy_step(here.g, 0.0, radius)
        return p, predicted

    def limit(self, here: Point) -> int:
        return self.max_products or max(20, 2 * here.x.size)

    def way_down(self, here: Point) -> Array | None:
        return negative_curvature(here.hvp, here.x)

    def learn(self, old: Point, new: Point) -> None:
        super().learn(old, new)
        before = 0.9 * self.eta**2
        eta = 0.9 * (length_of(new.g) / length_of(old.g)) ** 2 if length_of(old.g) > 0 else self.loosest
        self.eta = min(self.loosest, max(eta, before) if before > 0.1 else eta)
