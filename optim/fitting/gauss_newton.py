"""Gauss-Newton: the step that minimises the linear model, by itself with a line search, and at the end of every fit.

After this file you know the method that all others here are dampings of, and why a fit is finished by steps that
nobody asks whether the cost fell.
"""

from __future__ import annotations

from math import inf
from typing import Any

from ..solve.interpolation import quadratic_share
from ..solve.residuals import ResidualPoint
from .linear_model import LinearModel, Step


class LineSearch:
    """The Gauss-Newton step, shortened until the cost falls by enough (Armijo 1966): a `Trust` in one direction.

    The step comes from a decomposition of J, never from J'J. Where J lacks full rank it is the shortest one.
    """

    SUFFICIENT = 1e-4
    """The share of the fall foretold by the slope alone that a step must bring."""

    bends = False

    def __init__(self) -> None:
        self.share, self.extent = 1.0, 0.0

    def propose(self, model: LinearModel) -> Step:
        full, t = model.gauss_newton(), self.share
        self.extent = t * full.length
        to = full.to if t == 1 else model.here.x + t * (full.to - model.here.x)
        return Step(to, self.extent, t * full.slope, -t * (1 - t / 2) * full.slope)

    def judge(self, step: Step, gained: float) -> bool:
        taken = step.slope < 0 and gained >= -self.SUFFICIENT * step.slope
        self.share = 1.0 if taken else self.share * quadratic_share(step.slope, -gained)
        return taken


POLISHING_STEPS = 20

ENOUGH = 1e-12
"""The length of a step relative to x, below which it is not worth an evaluation (or the rounding unit, if larger)."""

NEARBY = 0.1
"""The length of a polishing step relative to x, above which the model is not believed without a look at the cost."""

NOT_HIGHER = 1e-6
"""The relative rise of the cost that may still be the rounding of large residuals."""


def polish(here: ResidualPoint, model_at: Any) -> ResidualPoint:
    """The point after some undamped Gauss-Newton steps, taken as long as the model promises less and less.

    Near the solution the cost is flat to its last digit over a neighbourhood of the size of the square root of the
    rounding unit: to ask there whether it fell is to toss a coin, and half of the digits of x are lost. What is
    left of the residuals in the range of J still knows the way, and shrinks with each step until it is rounding.
    """
    problem, last = here.problem, inf
    enough = max(ENOUGH, problem.eps)
    for _ in range(POLISHING_STEPS):
        model = model_at.alone(here)
        if model is None or not here.cost:
            break
        step = model.gauss_newton()
        if not (step.gain < last and enough * model.size < step.length <= NEARBY * model.size):
            break
        new = problem.at(step.to)
        if not new.cost <= (1 + NOT_HIGHER) * here.cost:
            break
        here, last = new, step.gain
    return here
