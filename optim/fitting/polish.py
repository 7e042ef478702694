"""The end of every fit: undamped Gauss-Newton steps, taken without asking whether the cost fell."""

from __future__ import annotations

from math import inf

from ..solve.residuals import ResidualPoint
from .local_model import Models

POLISHING_STEPS = 20

ENOUGH = 1e-12
"""The length of a step relative to x, below which it is not worth an evaluation (or the rounding unit, if larger)."""

NEARBY = 0.1
"""The length of a polishing step relative to x, above which the model is not believed without a look at the cost."""

NOT_HIGHER = 1e-6
"""The relative rise of the cost that may still be the rounding of large residuals."""


def polish(here: ResidualPoint, models: Models) -> ResidualPoint:
    """The point after some undamped Gauss-Newton steps, taken as long as the model promises less and less.

    Near the solution the cost is flat to its last digit over a neighbourhood of the size of the square root of the
    rounding unit. To ask there whether it fell is to toss a coin, and would lose half of the digits of x. What is
    left of the residuals in the range of J still shows the way, and shrinks with each step until it is rounding.
    """
    problem, last = here.problem, inf
    enough = max(ENOUGH, problem.eps)
    for _ in range(POLISHING_STEPS):
        model = models.alone(here)
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
