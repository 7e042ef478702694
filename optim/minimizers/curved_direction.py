"""What all directions that know second derivatives share: steps without them, and the way down from a saddle.

Where the gradient is zero and the Hessian has a negative eigenvalue, the step is zero though the function falls: the
eigenvector leads down.
"""

from __future__ import annotations

from minigrad.backend import Array

from ..solve.objective import Point
from ..solve.result import Reason
from ..solve.vectors import is_finite, length_of

NOT_FINITE_HESSIAN = Reason(
    -9, False, "the Hessian is NaN or infinite at the last point, where value and gradient are finite"
)


class CurvedDirection:
    """What directions with second derivatives share: a way on where these are NaN or infinite, and down from saddles.

    slide : (n,) or None
        At a saddle: a unit vector along which the function falls, though the gradient is zero.
    """

    def __init__(self) -> None:
        self.steepest = False
        self.slide: Array | None = None
        self.blind: list[Point] = []  # points in a row whose second derivatives are NaN or infinite

    def way_down(self, here: Point) -> Array | None:
        """Where the gradient is zero: a unit vector of clearly negative curvature, or None if there is none."""
        raise NotImplementedError

    def is_saddle(self, here: Point) -> bool:
        """Whether the function falls from here although its gradient vanishes; `slide` is then the way."""
        self.slide = self.way_down(here)
        return self.slide is not None

    def sees(self, here: Point, curvature: Array) -> bool:
        """Whether second derivatives at a point are finite; else the steepest step is taken instead."""
        if is_finite(curvature):
            self.blind = []
            return True
        if not any(point is here for point in self.blind):
            self.blind.append(here)
        return False

    def obstacle(self) -> Reason | None:
        """A reason to end the run: a second point in a row without finite second derivatives."""
        return NOT_FINITE_HESSIAN if len(self.blind) > 1 else None

    def learn(self, old: Point, new: Point) -> None:
        self.steepest, self.slide = False, None

    def forget(self) -> None:
        self.steepest, self.slide = True, None


def steepest_step(here: Point) -> Array:
    """-g, but no longer than x (or 1), and no shorter than a thousandth of x: nothing is known of a better length."""
    slope, size = length_of(here.g), length_of(here.x)
    length = min(max(slope, 1e-3 * size), max(size, 1.0))
    return here.g * (-length / slope) if slope > 0 else -here.g


def cauchy_step(g: Array, curvature: float, radius: float) -> tuple[Array, float]:
    """The best step along -g, no longer than the radius, for a model with g'Hg = `curvature`."""
    length = length_of(g)
    if not length > 0:
        return -g, 0.0
    t = radius / length
    if curvature > 0:
        t = min(t, length / curvature * length)
    return -t * g, t * length * length - 0.5 * t * curvature * t
