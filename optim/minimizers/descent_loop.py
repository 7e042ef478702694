"""Going downhill: a direction times a step rule, until there is a reason to stop.

After this file you know the loop that all methods of `minimize` share, and how it tells an end from a failure. A method
is a pair: a direction says where to go from a point (steepest descent, Newton, quasi-Newton), a step rule how far (a
fixed length, a line search, or a trust region, which asks the direction for the best step of a limited length).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from minigrad.backend import Array

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
from ..solve.vectors import dot, norm

PATIENCE = 20
"""So many steps in a row that lead nowhere end a run."""


class Direction(Protocol):
    """Where to go. It may keep what it learnt from former steps.

    One that keeps an estimate of the inverse Hessian may have it as an attribute `hess_inv`, which the result reports.
    One that knows curvature may have a method `is_saddle(here)`, asked before a run ends with a gradient of zero: where
    it is true, the step rule is called once more.
    """

    def along(self, here: Point) -> Array:
        """The step to try first, (n,): in it the function falls, and it is as long as the method believes in."""

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        """The best step no longer than `radius`, and by how much the method believes the function will fall."""

    def learn(self, old: Point, new: Point) -> None:
        """A step was taken."""

    def forget(self) -> None:
        """The last direction led nowhere: drop what was learnt, so that the next one is the steepest."""


class StepRule(Protocol):
    """How far to go: the next point, lower than this one (or as low, to rounding, with a smaller slope).

    None where none was found: it is then asked once more, after the direction has forgotten what it learnt. A rule that
    knows why no step can be taken returns the Reason.
    """

    def __call__(self, here: Point, direction: Direction) -> Point | Reason | None: ...


class OneStep:
    """A direction that believes in one step: within a shorter radius it goes as far along it as it may."""

    def along(self, here: Point) -> Array:
        raise NotImplementedError

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        step = self.along(here)
        share = min(1.0, radius / norm(step))
        return share * step, -dot(here.g, step) * share * (1 - share / 2)

    def learn(self, old: Point, new: Point) -> None:
        """Nothing is kept of a step, unless a direction says otherwise."""

    def forget(self) -> None:
        """See `learn`."""


class Limits(NamedTuple):
    """When to stop. gtol: the largest component of the gradient, absolutely, that counts as none."""

    gtol: float
    maxiter: float
    max_nfev: float


def descend(
    objective: Objective, direction: Direction, step_rule: StepRule, limits: Limits, watch: Callable[[Point, int], Any]
) -> tuple[Point, int, Reason]:
    """The last point, the number of steps, and why there is no further one.

    `watch` sees each new point; True stops. A first Ctrl-C ends the run, and what was reached is not lost.
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
    """Whether there is anything to begin with; and from there, how low is too low to be a minimum."""
    if not start.is_finite:
        return NOT_FINITE_AT_START
    if start.f == -math.inf:
        return UNBOUNDED
    if start.has_finite_gradient:
        objective = start.objective
        objective.floor = -max(1.0, abs(start.f), start.steepness) / objective.eps**2
    return None


def reason_to_stop(here: Point, iterations: int, limits: Limits) -> Reason | None:
    """What a look at the point and the counts says."""
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
    """How to call an end where no step leads on."""
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
    return 0 <= promised <= noise(here) and relative <= 100 * math.sqrt(here.objective.eps)


class Standstill:
    """Whether the last steps led nowhere: `PATIENCE` of them neither lowered the lowest value by more than its
    rounding, nor halved the smallest gradient. (A value that rises is no standstill: a fixed step may lead up.)"""

    def __init__(self, start: Point):
        self._begin(start)

    def _begin(self, point: Point) -> None:
        self.lowest, self.smallest, self.steps = point, point.steepness, 0

    def after(self, new: Point) -> bool:
        """Look at the point after one more step."""
        self.steps += 1
        if new.f > self.lowest.f + math.sqrt(new.objective.eps) * abs(self.lowest.f):
            self._begin(new)
        if new.f < self.lowest.f - noise(self.lowest):
            self.lowest, self.steps = new, 0
        if new.steepness < self.smallest / 2:
            self.smallest, self.steps = new.steepness, 0
        return self.steps >= PATIENCE


def noise(here: Point) -> float:
    """By how much the value may be wrong from rounding: more than the last digit, since it is a sum of many terms."""
    return here.objective.eps**0.8 * abs(here.f)
