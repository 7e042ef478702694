"""Going downhill: a direction times a step rule, until there is a reason to stop.

After this file you know the loop that all methods of `minimize` share, and how it tells an end from a failure. A method
is a pair: a direction says where to go from a point (steepest descent, Newton, quasi-Newton), a step rule says how far
(a fixed length, a line search, or a trust region, which asks the direction for the best step of a limited length).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ..solve.objective import Objective, Point
from ..solve.result import (
    AT_PRECISION,
    CONVERGED,
    INTERRUPTED,
    NO_LOWER_POINT,
    NOT_FINITE_AT_START,
    NOT_FINITE_GRADIENT,
    STOPPED_BY_CALLBACK,
    TOO_MANY_EVALUATIONS,
    TOO_MANY_ITERATIONS,
    UNBOUNDED,
    Reason,
)
from ..solve.vectors import dot
from .direction import Direction, StepRule

PATIENCE = 20
"""A run ends after this many steps in a row that lead nowhere."""


class DescentLimits(NamedTuple):
    """When to stop.

    gtol : the largest component of the gradient, absolutely, that counts as zero
    maxiter : iterations allowed
    max_nfev : evaluations allowed
    """

    gtol: float
    maxiter: float
    max_nfev: float


def descend(
    objective: Objective,
    direction: Direction,
    step_rule: StepRule,
    limits: DescentLimits,
    watch: Callable[[Point, int], bool],
) -> tuple[Point, int, Reason]:
    """The last point, the number of steps, and why there is no further one.

    `watch` sees each new point; True stops. A first Ctrl-C ends the run with the last point reached.
    """
    here = objective.at(objective.variables.start)
    iterations = 0
    try:
        reason = reason_at_start(here) or reason_to_stop(here, iterations, limits)
        standstill = Standstill(here)
        while reason is None or (reason is CONVERGED and knows_a_saddle(direction, here)):
            new = step_rule(here, direction) or reason or second_try(here, direction, step_rule)
            if isinstance(new, Reason):
                return here, iterations, new
            if new.f < objective.floor:
                return (new if math.isfinite(new.f) else here), iterations + 1, UNBOUNDED
            direction.learn(here, new)
            here, iterations = new, iterations + 1
            if watch(here, iterations):
                return here, iterations, STOPPED_BY_CALLBACK
            reason = reason_to_stop(here, iterations, limits)
            if reason is None and standstill.after(here):
                reason = at_rounding(here, direction)
    except KeyboardInterrupt:
        reason = INTERRUPTED
    return here, iterations, reason


def reason_at_start(start: Point) -> Reason | None:
    """Why the run ends before its first step, if it does; also sets the value that is too low to be a minimum."""
    if not start.is_finite:
        return NOT_FINITE_AT_START
    if start.f == -math.inf:
        return UNBOUNDED
    if start.has_finite_gradient:
        objective = start.objective
        objective.floor = -max(1.0, abs(start.f), start.steepness) / objective.eps**2
    return None


def reason_to_stop(here: Point, iterations: int, limits: DescentLimits) -> Reason | None:
    """Why the run ends at this point, by its derivative and the counts."""
    if not here.has_finite_gradient:
        return NOT_FINITE_GRADIENT
    if here.steepness <= limits.gtol:
        return CONVERGED
    if iterations >= limits.maxiter:
        return TOO_MANY_ITERATIONS
    if here.objective.nfev >= limits.max_nfev:
        return TOO_MANY_EVALUATIONS
    return None


def knows_a_saddle(direction: Direction, here: Point) -> bool:
    """Whether the direction sees the function fall from here, though the gradient is zero."""
    return hasattr(direction, "is_saddle") and direction.is_saddle(here)


def second_try(here: Point, direction: Direction, step_rule: StepRule) -> Point | Reason:
    """After a failed step: the steepest direction, unless it is clear that no direction can lead lower."""
    if is_at_precision(here, direction):
        return AT_PRECISION
    direction.forget()
    return step_rule(here, direction) or at_rounding(here, direction)


def at_rounding(here: Point, direction: Direction) -> Reason:
    """What to call an end where no step leads on."""
    return AT_PRECISION if is_at_precision(here, direction) else NO_LOWER_POINT


def is_at_precision(here: Point, direction: Direction) -> bool:
    """Whether the decrease that the direction promises drowns in the rounding of the function's value.

    For Newton and quasi-Newton steps the promise is g'Hg / 2, the distance to the minimum of the model. A direction can
    be wrong about that, so each component of the gradient must be small as well, relative to x and to the function
    (Dennis and Schnabel, Numerical Methods for Unconstrained Optimization, 1983, eq. 7.2.5): a change of x by the root
    of the rounding unit must not change the value by more than that.
    """
    promised = -dot(here.g, direction.along(here)) / 2
    relative = float((abs(here.free_g) * abs(here.x).clip(1, None)).max()) / max(1.0, abs(here.f))
    return 0 <= promised <= here.noise and relative <= 100 * math.sqrt(here.objective.eps)


class Standstill:
    """Whether the last steps led nowhere: `PATIENCE` of them neither lowered the lowest value by more than its
    rounding, nor halved the smallest gradient. A value that rises starts the count anew: a fixed step may lead up.

    A value that has fallen to the rounding of the first one, as |x| does without end, falls no lower by that alone."""

    def __init__(self, start: Point):
        self.least = start.objective.eps * abs(start.f)
        self._begin(start)

    def _begin(self, point: Point) -> None:
        self.lowest, self.smallest, self.steps = point, point.steepness, 0

    def after(self, new: Point) -> bool:
        """Look at the point after one more step."""
        self.steps += 1
        if new.f > self.lowest.f + math.sqrt(new.objective.eps) * abs(self.lowest.f):
            self._begin(new)
        if new.f < self.lowest.f - max(self.lowest.noise, self.least):
            self.lowest, self.steps = new, 0
        if new.steepness < self.smallest / 2:
            self.smallest, self.steps = new.steepness, 0
        return self.steps >= PATIENCE
