"""Going downhill: a direction times a step rule, until there is a reason to stop.

After this file you know the loop that all methods of `minimize` share. A method is a pair: a direction says where to
go from a point (steepest descent, Newton, quasi-Newton), a step rule how far (a fixed length, a line search, or a trust
region, which asks the direction for the best step of a limited length).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from minigrad.backend import Array

from .objective import Objective, Point
from .result import (
    AT_PRECISION,
    CONVERGED,
    NO_LOWER_POINT,
    NOT_FINITE_AT_START,
    NOT_FINITE_GRADIENT,
    STOPPED_BY_CALLBACK,
    TOO_MANY_EVALUATIONS,
    TOO_MANY_ITERATIONS,
    OptimizeResult,
    Reason,
)


class Direction(Protocol):
    """Where to go. It may keep what it learnt from former steps."""

    def along(self, here: Point) -> Array:
        """The step to try first, (n,): a direction in which the function falls, of the length the method believes in."""

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        """The best step no longer than `radius`, and by how much the method believes the function will fall."""

    def learn(self, old: Point, new: Point) -> None:
        """A step was taken."""

    def forget(self) -> None:
        """The last direction led nowhere: drop what was learnt, so that the next one is the steepest."""


class StepRule(Protocol):
    """How far to go: the next point, lower than this one, or None where none was found. It does not give up easily."""

    def __call__(self, here: Point, direction: Direction) -> Point | None: ...


class Limits(NamedTuple):
    """When to stop. gtol: the largest component of the gradient, absolutely, that counts as none."""

    gtol: float
    maxiter: int
    max_nfev: float


def descend(
    objective: Objective, direction: Direction, step_rule: StepRule, limits: Limits, watch: Callable[[Point, int], Any]
) -> tuple[Point, int, Reason]:
    """The last point, the number of steps, and why there is no further one. `watch` sees each point; True stops."""
    here = objective.at(objective.variables.start)
    iterations = 0
    while True:
        reason = reason_to_stop(objective, here, iterations, limits)
        if reason is not None:
            return here, iterations, reason
        new = step_rule(here, direction)
        if new is None:
            return here, iterations, AT_PRECISION if is_at_precision(here) else NO_LOWER_POINT
        direction.learn(here, new)
        here, iterations = new, iterations + 1
        if watch(here, iterations):
            return here, iterations, STOPPED_BY_CALLBACK
