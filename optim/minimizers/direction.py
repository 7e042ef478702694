"""What a method of `minimize` is made of: a direction, which says where to go, and a step rule, which says how far."""

from __future__ import annotations

from typing import Protocol

from minigrad.backend import Array

from ..solve.objective import Point
from ..solve.result import Reason
from ..solve.vectors import dot, norm


class Direction(Protocol):
    """Where to go. It may keep what it learnt from former steps.

    A direction that estimates the inverse Hessian may have it as an attribute `hess_inv`, which the result reports.
    A direction that knows curvature may have a method `is_saddle(here)`, asked before a run ends with a gradient of
    zero: where it is true, the step rule is called once more.
    """

    def along(self, here: Point) -> Array:
        """The step to try first, (n,): the function falls along it, and it is as long as the method believes in."""

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        """The best step no longer than `radius`, and by how much the method believes the function will fall."""

    def learn(self, old: Point, new: Point) -> None:
        """A step was taken."""

    def forget(self) -> None:
        """The last direction led nowhere: drop what was learnt, so that the next one is the steepest."""


class StepRule(Protocol):
    """How far to go: the next point, lower than this one (or as low, to rounding, with a smaller slope).

    It returns None where it found none, and is then asked once more, after the direction has forgotten what it learnt.
    A rule that knows why no step can be taken returns the Reason.
    """

    def __call__(self, here: Point, direction: Direction) -> Point | Reason | None: ...


class OneStep:
    """A direction that believes in one step; within a shorter radius it goes along it to the border."""

    def along(self, here: Point) -> Array:
        raise NotImplementedError

    def within(self, here: Point, radius: float) -> tuple[Array, float]:
        step = self.along(here)
        share = min(1.0, radius / norm(step))
        return share * step, -dot(here.g, step) * share * (1 - share / 2)

    def learn(self, old: Point, new: Point) -> None:
        """Learns nothing, unless a direction says otherwise."""

    def forget(self) -> None:
        """Forgets what `learn` has learnt."""
