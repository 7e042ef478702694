"""The trust region: as far as the model can be trusted, and no further.

After this file you know the other step rule. A line search takes a direction and looks for a length; a trust region
takes a length and asks for the best step within it. The share of the promised decrease that comes true decides whether
the step is taken, and how far the model is trusted next.
"""

from __future__ import annotations

import math

from minigrad.backend import Array

from ..solve.interpolation import quadratic_share
from ..solve.objective import Point
from ..solve.vectors import length_of
from .direction import Direction

GOOD, BAD = 0.75, 0.25
"""Of the promised decrease: the share from which the region grows, and that below which it shrinks."""
GROWTH = 3.0


class TrustRegion:
    """A step rule: the direction's best step within a radius, which shrinks where the model is wrong and else grows.

    Parameters
    ----------
    radius : float or None
        The first one; None: a tenth of |x0|, or 0.1 if that is more.
    max_radius : float
    accept : float
        A step is taken if more than this share of the promised decrease came true, in [0, 0.25).

    The radius follows algorithm 4.1 of Nocedal & Wright (2006), but shrinks to where a parabola through what was
    found would be lowest (Conn, Gould & Toint 2000, section 17.1).
    """

    MOST_TRIALS = 100
    """Radii tried from one point; each is at most half the one before."""

    def __init__(self, radius: float | None = None, max_radius: float = math.inf, accept: float = 1e-4):
        if radius is not None and not 0 < radius < math.inf:
            raise ValueError(f"TrustRegion: the first radius must be positive and finite, got {radius!r}.")
        if not max_radius > 0:
            raise ValueError(f"TrustRegion: the largest radius must be positive, got {max_radius!r}.")
        if not 0 <= accept < BAD:
            raise ValueError(f"TrustRegion: accept (eta) must lie in [0, {BAD}), got {accept!r}.")
        self.first, self.max_radius, self.accept = radius, max_radius, accept
        self.radius = radius

    def __call__(self, here: Point, direction: Direction) -> Point | None:
        self.radius = min(self.radius or max(1.0, length_of(here.x)) / 10, self.max_radius)
        for _ in range(self.MOST_TRIALS):
            step, promised = direction.within(here, self.radius)
            if not promised > 0 or bool((here.x + step == here.x).all()):
                break
            new = here.objective.at(here.x + step)
            if new.f == -math.inf:
                return new
            came = share_of_promise(here, new, promised)
            taken = came > self.accept and is_better(here, new)
            if not taken:
                came = min(came, 0.0)  # the next step from here must be a shorter one
            self.radius = self._adapted(self.radius, came, step, new.f - here.f, float(here.g @ step))
            if taken:
                return new
            if promised <= here.noise / 10:
                break
        self.radius = self.first  # another direction starts afresh
        return None

    def _adapted(self, radius: float, came: float, step: Array, rise: float, slope: float) -> float:
        length = length_of(step)
        if came < BAD:
            return length * quadratic_share(slope, rise)
        if came > GOOD and length > 0.8 * radius:
            return min(GROWTH * radius, self.max_radius)
        return radius


def share_of_promise(here: Point, new: Point, promised: float) -> float:
    """Actual through promised decrease; -inf where the new point has no value.

    Both are raised by what rounding can do to values of this size, so that near a minimum, where they are nothing but
    rounding, the model is believed (Conn, Gould & Toint 2000, section 17.4.2).
    """
    if not new.is_finite:
        return -math.inf
    return (here.f - new.f + here.noise) / (promised + here.noise)


def is_better(here: Point, new: Point) -> bool:
    """Whether the new point is lower, or as low to rounding with half the gradient; and has a gradient at all."""
    return new.has_finite_gradient and (new.f < here.f or 2 * new.steepness <= here.steepness)
