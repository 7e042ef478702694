"""The Newton methods of `minimize`: which direction goes with which step rule.

After this file you know that the five differ in two choices: the matrix as a whole or only products with it; and a line
search, or a trust region.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..solve.objective import Point
from ..solve.result import Reason
from ..solve.vectors import length_of
from .descent_loop import Direction, StepRule, noise
from .line_search import line_search
from .methods import Method
from .newton import Curved, Newton
from .newton_cg import HessianFree, NewtonCG
from .trust_region import TrustRegion


class PastSaddles:
    """A step rule around another one: from a saddle it goes down the direction's `slide`, to either side.

    It also ends a run whose second derivatives are no numbers, with that reason.
    """

    def __init__(self, step_rule: StepRule):
        self.step_rule = step_rule

    def __call__(self, here: Point, direction: Direction) -> Point | Reason | None:
        if not isinstance(direction, Curved):
            return self.step_rule(here, direction)
        if direction.slide is not None:
            return slide_down(here, direction.slide)
        with np.errstate(all="ignore"):  # what overflows is looked for, and is no news to the user
            new = self.step_rule(here, direction)
        return direction.obstacle() or new


def slide_down(here: Point, slide: Any) -> Point | None:
    """A lower point along +slide or -slide, near enough for negative curvature to show; None where there is none."""
    t = max(1.0, length_of(here.x))
    while bool((here.x + t * slide != here.x).any()):
        for step in (t * slide, -t * slide):
            new = here.objective.at(here.x + step)
            if new.f < here.f - noise(here) and new.has_finite_gradient:
                return new
        t /= 4
    return None


def _searched(options: Mapping[str, Any]) -> PastSaddles:
    return PastSaddles(line_search(options, "strong wolfe"))


def _trusted(options: Mapping[str, Any]) -> PastSaddles:
    first, most = options.get("initial_trust_radius"), options.get("max_trust_radius", math.inf)
    return PastSaddles(TrustRegion(first, most, options.get("eta", 1e-4)))


def _newton(options: Mapping[str, Any]) -> Newton:
    return Newton(options.get("alpha", 0.0), options.get("repair", "cholesky"))


def _newton_cg(options: Mapping[str, Any]) -> NewtonCG:
    return NewtonCG(options.get("max_products"))


def _hessian_free(options: Mapping[str, Any]) -> HessianFree:
    return HessianFree(options.get("damping", 0.01), options.get("max_products", 250))


NEWTON_METHODS: dict[str, Method] = {
    "newton": Method(_newton, _searched),
    "trust-exact": Method(lambda options: Newton(), _trusted),
    "newton-cg": Method(_newton_cg, _searched),
    "trust-ncg": Method(_newton_cg, _trusted),
    "hessian-free": Method(_hessian_free, lambda options: PastSaddles(line_search(options, "armijo"))),
}
"""By SciPy's names, where it has them; so are initial_trust_radius, max_trust_radius and eta among the options."""
