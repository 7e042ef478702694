"""Levenberg-Marquardt without a matrix: for so many parameters that a Jacobian cannot be written down.

After this file you know how a damped step is found from products J v and J'u alone, one push and one pull through the
graph each: LSMR solves min |r + J p|^2 + lambda |p|^2 by some of them, as exactly as the model deserves. Memory is
some vectors of length n and m, and the graph.
"""

from __future__ import annotations

from functools import cached_property
from math import inf, sqrt

import numpy as np

from minigrad.linalg import iterative

from ..solve.residuals import ResidualPoint
from ..solve.vectors import length_of
from .local_model import AT_ROUNDING, Step


class ProductModel:
    """r + J p around `here`, known by products; lengths are measured by |p| (Levenberg's scaling)."""

    LEAST_EXACT, MOST_EXACT = 0.1, 1e-10
    """The bounds of the share of the gradient that a step may leave."""

    def __init__(self, here: ResidualPoint):
        self.here, self.g = here, here.g
        self.damping = 0.0

    @property
    def size(self) -> float:
        return sqrt(float(self.here.x @ self.here.x))

    @cached_property
    def steepness(self) -> float:
        """|g|."""
        return length_of(self.g)

    @cached_property
    def stretch(self) -> float:
        """|J u| for the unit vector u along g: a lower estimate of |J|."""
        image = self.here.jvp(self.g / (self.steepness or 1.0))
        return sqrt(float(image @ image))

    @cached_property
    def frobenius(self) -> float:
        """|J| in Frobenius's norm, about: |J z| for random signs z, whose square has that norm's as its mean."""
        xp = self.here.problem.variables.xp
        signs = np.random.default_rng(0).choice([-1.0, 1.0], self.g.size)
        image = self.here.jvp(xp.asarray(signs.astype(self.g.dtype)))
        return sqrt(float(image @ image))

    @property
    def largest_eigenvalue(self) -> float:
        """A lower estimate of that of J'J."""
        return self.stretch**2

    @property
    def is_flat(self) -> bool:
        """Whether J seems to be zero: J' takes the residuals to zero, and J some other vector."""
        xp = self.here.problem.variables.xp
        if bool(self.g.any()):
            return False
        some = xp.cos(xp.arange(self.g.size)).astype(self.g.dtype)
        return not bool(self.here.jvp(some).any())

    @property
    def orthogonality(self) -> float:
        """|g| / (|J| |r|): about the cosine of the angle between the residuals and the range of J."""
        return self.steepness / (self.stretch * sqrt(2 * self.here.cost)) if self.stretch > 0 else 0.0

    @property
    def is_solved(self) -> bool:
        eps = self.here.problem.eps
        downhill = self.steepness / self.stretch**2 if self.stretch > 0 else 0.0  # the length of the best step there
        return self.orthogonality <= sqrt(eps) or downhill <= AT_ROUNDING * eps * self.size

    def promises_little(self, ftol: float, xtol: float) -> bool:
        """As with a matrix, but judged along the gradient: by the angle, and by whether damping rules there."""
        least = self.here.problem.eps
        return self.orthogonality**2 <= sqrt(max(ftol, least)) or self.damping <= self.stretch**2

    def damped(self, damping: float) -> Step:
        """The damped step, as exact as pays: the share of the gradient that it leaves falls with the gradient
        (Eisenstat and Walker 1996). LSMR's tolerances are relative to |J| |r|, of which the gradient is a small part.
        """
        here, self.damping = self.here, damping
        share = max(self.MOST_EXACT, min(self.LEAST_EXACT, self.orthogonality))
        size = self.frobenius * sqrt(2 * here.cost)
        exact = max(here.problem.eps, share * min(1.0, self.steepness / size) if size > 0 else share)
        found = iterative.lsmr(here.jvp, -here.r, adjoint=here.vjp, damp=sqrt(damping), atol=exact, btol=exact)
        p = found.x
        image, slope = here.jvp(p), float(self.g @ p)
        return Step(here.x + p, sqrt(float(p @ p)), slope, -slope - 0.5 * float(image @ image))

    def corrected(self, step: Step, trial: ResidualPoint) -> None:
        """None: a bent step would cost a further solution."""


class ProductModels:
    """Makes the model at a point; None where the gradient, or the Jacobian along it, is NaN or infinite."""

    def __call__(self, here: ResidualPoint) -> ProductModel | None:
        model = ProductModel(here) if self.exists(here) else None
        return model if model is not None and model.stretch < inf else None

    def exists(self, here: ResidualPoint) -> bool:
        return bool(here.problem.variables.xp.isfinite(here.g).all())

    def alone(self, here: ResidualPoint) -> None:
        """None: an undamped step could take any number of products."""
