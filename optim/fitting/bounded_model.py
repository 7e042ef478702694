"""Bounds for least squares: damped steps that stay in a box.

After this file you know a sound and simple way to keep to bounds, a projected Levenberg-Marquardt method with an active
set. A variable rests where it lies on a bound and the gradient pushes it against that bound. For the other variables
the damped step is found; those that it would carry across a bound are put on the bound, and the step of the rest is
found anew.

With growing damping such a step becomes one of scaled steepest descent, put back into the box, which lowers the cost
unless x is stationary; so the rule that raises the damping after a failure finds a way on (Bertsekas 1982, SIAM J.
Control and Optimization 20, 221-246; Kanzow, Yamashita and Fukushima 2004, J. Comput. Appl. Math. 172, 375-397).
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from types import SimpleNamespace
from typing import Any

from minigrad.backend import Array

from ..solve.bounds import Box
from ..solve.residuals import ResidualPoint
from .linear_model import LinearModel
from .local_model import MatrixModel, Step


class BoxedModel(MatrixModel):
    """The linear model with steps that stay in a box; it answers the questions that `LinearModel` does."""

    def __init__(self, box: Box, here: ResidualPoint, scale: Array, norms: Array):
        super().__init__(here, scale, norms)
        self.box = box
        self.free = ~box.pressed(here.x, here.g)
        self.damping = 0.0
        self.inside = self._model_of(self.free, here.r)

    def gauss_newton(self) -> Step:
        self.damping = 0.0
        return self._step(lambda model: model.gauss_newton())

    def damped(self, damping: float) -> Step:
        self.damping = damping
        return self._step(lambda model: model.damped(damping))

    def within(self, radius: float, guess: float) -> Step:
        """The step with the damping that would give this length if no further bound were met."""
        if self.inside is None:
            return self.gauss_newton()
        self.inside.within(radius, guess)
        return self.damped(self.inside.damping) if self.inside.damping else self.gauss_newton()

    def corrected(self, step: Step, trial: ResidualPoint) -> None:
        """None: a bent step might leave the box."""

    @property
    def steepest_length(self) -> float:
        return self.inside.steepest_length if self.inside is not None else 0.0

    @property
    def largest_eigenvalue(self) -> float:
        return self.inside.largest_eigenvalue if self.inside is not None else 1.0

    @property
    def is_flat(self) -> bool:
        return not float(self.norms.max()) > 0

    @property
    def free_g(self) -> Array:
        return self.box.projected(self.here.x, self.here.g)

    def _model_of(self, free: Array, r: Array) -> LinearModel | None:
        """The model of the free variables alone, around residuals `r`; its steps start from zero."""
        if not bool(free.any()):
            return None
        columns, scale = self.here.J[:, free], self.scale[free]
        around: Any = SimpleNamespace(J=columns, r=r, x=scale * 0, problem=self.here.problem)
        return LinearModel(around, scale, self.norms[free])

    def _step(self, solve: Callable[[LinearModel], Step]) -> Step:
        """`solve`'s step for the free variables; as long as it crosses bounds, with these variables put on them."""
        x, J, where = self.here.x, self.here.J, self.xp.where
        low, high = self.box.lower - x, self.box.upper - x
        free, model, p = self.free, self.inside, x * 0
        while model is not None:
            p[free] = solve(model).to
            crossing = free & ((p < low) | (p > high))
            if not bool(crossing.any()):
                break
            p = p.clip(low, high)
            free = free & ~crossing
            model = self._model_of(free, self.here.r + J @ where(free, 0, p))
        to = where(p <= low, self.box.lower, where(p >= high, self.box.upper, x + p))
        image, scaled = J @ p, self.scale * p
        slope = float(self.here.g @ p)
        return Step(to, sqrt(float(scaled @ scaled)), slope, -slope - 0.5 * float(image @ image))
