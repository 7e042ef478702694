"""A step rule around another one, which leaves saddles and ends a run without second derivatives."""

from __future__ import annotations

import numpy as np

from minigrad.backend import Array

from ..solve.objective import Point
from ..solve.result import Reason
from ..solve.vectors import length_of
from .curved_direction import CurvedDirection
from .direction import Direction, StepRule


class PastSaddles:
    """A step rule around another one: from a saddle it goes down the direction's `slide`, to either side.

    It also ends a run whose second derivatives are NaN or infinite, with that reason.
    """

    def __init__(self, step_rule: StepRule):
        self.step_rule = step_rule

    def __call__(self, here: Point, direction: Direction) -> Point | Reason | None:
        if not isinstance(direction, CurvedDirection):
            return self.step_rule(here, direction)
        if direction.slide is not None:
            return slide_down(here, direction.slide)
        with np.errstate(all="ignore"):  # overflow is looked for, and answered, by the rule
            new = self.step_rule(here, direction)
        return direction.obstacle() or new


def slide_down(here: Point, slide: Array) -> Point | None:
    """A lower point along +slide or -slide, near enough for negative curvature to show; None where there is none."""
    t = max(1.0, length_of(here.x))
    while bool((here.x + t * slide != here.x).any()):
        for step in (t * slide, -t * slide):
            new = here.objective.at(here.x + step)
            if new.f < here.f - here.noise and new.has_finite_gradient:
                return new
        t /= 4
    return None
